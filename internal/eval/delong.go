package eval

import "math"

// placements returns for each positive the share of negatives below it, and for each negative the share of positives
// above it, ties counting half (DeLong, DeLong and Clarke-Pearson, Biometrics 1988), in the order in which they were
// added. The mean of either is the AUROC.
func (r *ranked) placements() (ofPositives, ofNegatives []float64) {
	positives := 0
	for _, positive := range r.positive {
		if positive {
			positives++
		}
	}
	negatives := len(r.score) - positives
	place := make([]float64, len(r.score))
	truth := make([]bool, len(r.score))
	above, aboveNegative := 0, 0 // positives and negatives of higher scores
	for start := 0; start < len(r.score); {
		end, up := start, 0
		for ; end < len(r.score) && r.score[end] == r.score[start]; end++ {
			if r.positive[end] {
				up++
			}
		}
		down := end - start - up
		below := float64(negatives-aboveNegative-down) + float64(down)/2
		over := float64(above) + float64(up)/2
		for i := start; i < end; i++ {
			k := r.added[i]
			if truth[k] = r.positive[i]; truth[k] {
				place[k] = below / float64(negatives)
			} else {
				place[k] = over / float64(positives)
			}
		}
		above += up
		aboveNegative += down
		start = end
	}
	for k, x := range place {
		if truth[k] {
			ofPositives = append(ofPositives, x)
		} else {
			ofNegatives = append(ofNegatives, x)
		}
	}
	return ofPositives, ofNegatives
}

// aurocInterval returns the interval of the AUROC of independent samples: DeLong's on the logit scale (Pepe,
// The Statistical Evaluation of Medical Tests, 2003), or Newcombe's where that variance is nothing. It reports false when the AUROC is not defined.
func (r *ranked) aurocInterval() (Interval, bool) {
	p, n := r.placements()
	if len(p) == 0 || len(n) == 0 {
		return Interval{}, false
	}
	a := mean(p)
	variance := covariance(p, p)/float64(len(p)) + covariance(n, n)/float64(len(n))
	if len(p) == 1 || len(n) == 1 || !(variance > 0) || a == 0 || a == 1 {
		return newcombe(a, len(p), len(n)), true
	}
	middle, half := math.Log(a/(1-a)), quantile()*math.Sqrt(variance)/(a*(1-a))
	logistic := func(x float64) Score { return Score(1 / (1 + math.Exp(-x))) }
	return Interval{logistic(middle - half), logistic(middle + half), DeLong}, true
}

// newcombe returns method 5 of Newcombe (Statistics in Medicine 2006, 25:559-573): the values t that lie within z
// standard errors of the AUROC a, with the variance t(1-t)(1 + k(1-t)/(2-t) + kt/(1+t))/(mn), k = (m+n)/2 - 1, of m
// positives and n negatives.
func newcombe(a float64, m, n int) Interval {
	z, k := quantile(), float64(m+n)/2-1
	distance := func(t float64) float64 { // in standard errors
		v := t * (1 - t) * (1 + k*(1-t)/(2-t) + k*t/(1+t)) / (float64(m) * float64(n))
		return math.Abs(a-t) - z*math.Sqrt(v)
	}
	// Between a, where the distance is not positive, and an end of 0 to 1, where it is not negative.
	solve := func(inside, outside float64) Score {
		if inside == outside {
			return Score(inside)
		}
		for range 200 {
			middle := (inside + outside) / 2
			if distance(middle) > 0 {
				outside = middle
			} else {
				inside = middle
			}
		}
		return Score(inside)
	}
	return Interval{solve(a, 0), solve(a, 1), Newcombe}
}

// delongTest compares the AUROCs of two models on the same independent samples, which were added in one order: the
// difference, its interval and the two-sided p-value. It reports false when these are not defined.
func delongTest(q, r *ranked) (d Difference, ok bool) {
	p1, n1 := q.placements()
	p2, n2 := r.placements()
	if len(p1) < 2 || len(n1) < 2 {
		return Difference{}, false
	}
	difference := mean(p1) - mean(p2)
	variance := 0.0
	for _, s := range [][2][]float64{{p1, p2}, {n1, n2}} {
		variance += (covariance(s[0], s[0]) + covariance(s[1], s[1]) - 2*covariance(s[0], s[1])) / float64(len(s[0]))
	}
	d = Difference{
		First: Score(mean(p1)), Second: Score(mean(p2)), Difference: Score(difference), P: 1,
		Interval: Interval{Score(difference), Score(difference), DeLong},
	}
	if !(variance > 1e-18) { // both models order the samples alike, or by too few for a variance
		return d, difference == 0
	}
	se := math.Sqrt(variance)
	d.Low, d.High = Score(difference-quantile()*se), Score(difference+quantile()*se)
	d.P = Score(math.Erfc(math.Abs(difference) / se / math.Sqrt2))
	return d, true
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// covariance is that of a sample; NaN for fewer than two values.
func covariance(x, y []float64) float64 {
	mx, my, sum := mean(x), mean(y), 0.0
	for i := range x {
		sum += (x[i] - mx) * (y[i] - my)
	}
	return sum / float64(len(x)-1)
}
