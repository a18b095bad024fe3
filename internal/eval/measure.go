package eval

import (
	"cmp"
	"slices"
	"sort"
)

// Bins is the number of equal parts of 0 to 1 that the calibration error and the reliability curve use.
const Bins = 15

// ranked are predictions of one label with the truth, in parallel slices. After rank they run from the highest score
// to the lowest, which every resample of the patients shares.
type ranked struct {
	score     []float64
	positive  []bool
	predicted []bool
	unit      []int32 // index of the patient, the key of weights
	bin       []uint8 // of the reliability curve
	added     []int32 // place before rank
}

func (r *ranked) add(score float64, positive, predicted bool, unit int) {
	r.score = append(r.score, score)
	r.positive = append(r.positive, positive)
	r.predicted = append(r.predicted, predicted)
	r.unit = append(r.unit, int32(unit))
	r.bin = append(r.bin, uint8(binOf(score)))
	r.added = append(r.added, int32(len(r.added)))
}

// append adds what was added to q, which is not ranked yet.
func (r *ranked) append(q *ranked) {
	for i := range q.score {
		r.add(q.score[i], q.positive[i], q.predicted[i], int(q.unit[i]))
	}
}

// binOf returns the bin of a probability: number i holds those above i/Bins and up to (i+1)/Bins, the first one also 0.
func binOf(p float64) int {
	const width = 1.0 / Bins
	return sort.Search(Bins-1, func(i int) bool { return float64(i+1)*width >= p })
}

// rank sorts by score, from the highest; equal ones keep their order.
func (r *ranked) rank() {
	order := make([]int, len(r.score))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(r.score[b], r.score[a]), a-b) })
	r.score, r.positive, r.predicted = pick(r.score, order), pick(r.positive, order), pick(r.predicted, order)
	r.unit, r.bin, r.added = pick(r.unit, order), pick(r.bin, order), pick(r.added, order)
}

func pick[T any](x []T, order []int) []T {
	out := make([]T, len(order))
	for i, k := range order {
		out[i] = x[k]
	}
	return out
}

// measure returns the confusion counts and all measures of ranked predictions. weight says how often each patient
// counts; nil: once.
func (r *ranked) measure(weight []int) (Counts, Metrics) {
	var c Counts
	var squares float64
	var bins [Bins]Bin
	for i, positive := range r.positive {
		w := 1
		if weight != nil {
			if w = weight[r.unit[i]]; w == 0 {
				continue
			}
		}
		p := r.score[i]
		b := &bins[r.bin[i]]
		b.Samples += w
		b.Probability += Score(float64(w) * p)
		miss := p
		if positive {
			miss = p - 1
			b.Observed += Score(w)
		}
		squares += float64(w) * miss * miss
		switch {
		case positive && r.predicted[i]:
			c.TP += w
		case positive:
			c.FN += w
		case r.predicted[i]:
			c.FP += w
		default:
			c.TN += w
		}
	}
	m := c.metrics()
	m.AUROC, m.AUPRC = r.areas(c, weight)
	m.Brier, m.ECE = Undefined(), Undefined()
	if n := float64(c.all()); n > 0 {
		m.Brier = Score(squares / n)
		m.ECE = 0
		for _, b := range bins {
			m.ECE += max(b.Probability-b.Observed, b.Observed-b.Probability)
		}
		m.ECE /= Score(n)
	}
	return c, m
}

// Bin is a part of the reliability curve.
type Bin struct {
	Samples     int   `json:"samples"`
	Probability Score `json:"probability"` // mean of the predicted ones
	Observed    Score `json:"observed"`    // share of positives
}

// reliability returns the bins that hold samples.
func (r *ranked) reliability() []Bin {
	var bins [Bins]Bin
	for i, p := range r.score {
		b := &bins[r.bin[i]]
		b.Samples++
		b.Probability += Score(p)
		if r.positive[i] {
			b.Observed++
		}
	}
	var out []Bin
	for _, b := range bins {
		if b.Samples > 0 {
			out = append(out, Bin{b.Samples, b.Probability / Score(b.Samples), b.Observed / Score(b.Samples)})
		}
	}
	return out
}

func (c Counts) all() int { return c.TP + c.FP + c.TN + c.FN }

// metrics returns the measures that follow from the counts alone.
func (c Counts) metrics() Metrics {
	m := Metrics{
		F1:          ratio(2*c.TP, 2*c.TP+c.FP+c.FN),
		Accuracy:    ratio(c.TP+c.TN, c.all()),
		Sensitivity: ratio(c.TP, c.TP+c.FN),
		Specificity: ratio(c.TN, c.TN+c.FP),
		PPV:         ratio(c.TP, c.TP+c.FP),
		NPV:         ratio(c.TN, c.TN+c.FN),
	}
	m.BalancedAccuracy = (m.Sensitivity + m.Specificity) / 2
	return m
}

// ratio returns a/b, undefined for 0/0; a is at most b.
func ratio(a, b int) Score {
	if b == 0 {
		return Undefined()
	}
	return Score(float64(a) / float64(b))
}

// areas returns the area under the ROC curve (the Mann-Whitney statistic over the number of pairs,
// ties counting half) and the average precision (the sum over distinct scores, from the highest, of
// the recall gained times the precision there). Both are undefined without positives or negatives.
func (r *ranked) areas(c Counts, weight []int) (auroc, auprc Score) {
	positives, negatives := c.TP+c.FN, c.FP+c.TN
	if positives == 0 || negatives == 0 {
		return Undefined(), Undefined()
	}
	tp, fp := 0, 0
	wins := 0.0 // pairs in which the positive has the higher score
	ap := 0.0   // average precision times the number of positives
	for start := 0; start < len(r.score); {
		end := start
		up, down := 0, 0 // positives and negatives of equal score
		for s := r.score[start]; end < len(r.score) && r.score[end] == s; end++ {
			w := 1
			if weight != nil {
				w = weight[r.unit[end]]
			}
			if r.positive[end] {
				up += w
			} else {
				down += w
			}
		}
		tp += up
		fp += down
		if up > 0 {
			wins += float64(up) * (float64(negatives-fp) + float64(down)/2)
			ap += float64(up) * float64(tp) / float64(tp+fp)
		}
		start = end
	}
	return Score(wins / (float64(positives) * float64(negatives))), Score(ap / float64(positives))
}

// Point is a point of a curve.
type Point struct{ X, Y float64 }

// roc returns the ROC curve, false positive rate against sensitivity, from (0, 0) to (1, 1); nil where it is not
// defined.
func (r *ranked) roc() []Point {
	var out []Point
	r.walk(func(tp, fp, positives, negatives int) {
		out = append(out, Point{float64(fp) / float64(negatives), float64(tp) / float64(positives)})
	})
	if out == nil {
		return nil
	}
	return append([]Point{{}}, out...)
}

// pr returns the curve of recall against precision, from the highest score on; nil where it is not defined.
func (r *ranked) pr() []Point {
	var out []Point
	r.walk(func(tp, fp, positives, _ int) {
		out = append(out, Point{float64(tp) / float64(positives), float64(tp) / float64(tp+fp)})
	})
	return out
}

// walk calls at with the counts above each distinct score, unless a class is missing.
func (r *ranked) walk(at func(tp, fp, positives, negatives int)) {
	positives := 0
	for _, positive := range r.positive {
		if positive {
			positives++
		}
	}
	negatives := len(r.score) - positives
	if positives == 0 || negatives == 0 {
		return
	}
	tp := 0
	for i := range r.score {
		if r.positive[i] {
			tp++
		}
		if i+1 == len(r.score) || r.score[i+1] != r.score[i] {
			at(tp, i+1-tp, positives, negatives)
		}
	}
}
