package eval

import (
	"cmp"
	"slices"
)

// pairs are predictions of one label with the truth, in parallel slices.
type pairs struct {
	score     []float64
	positive  []bool
	predicted []bool
}

func (p *pairs) add(score float64, positive, predicted bool) {
	p.score = append(p.score, score)
	p.positive = append(p.positive, positive)
	p.predicted = append(p.predicted, predicted)
}

func (p *pairs) append(q pairs) {
	p.score = append(p.score, q.score...)
	p.positive = append(p.positive, q.positive...)
	p.predicted = append(p.predicted, q.predicted...)
}

// measure returns the confusion counts and all measures.
func (p *pairs) measure() (Counts, Metrics) {
	var c Counts
	for i, positive := range p.positive {
		switch {
		case positive && p.predicted[i]:
			c.TP++
		case positive:
			c.FN++
		case p.predicted[i]:
			c.FP++
		default:
			c.TN++
		}
	}
	m := Metrics{
		F1:          ratio(2*c.TP, 2*c.TP+c.FP+c.FN),
		Accuracy:    ratio(c.TP+c.TN, c.TP+c.FP+c.TN+c.FN),
		Sensitivity: ratio(c.TP, c.TP+c.FN),
		Specificity: ratio(c.TN, c.TN+c.FP),
		PPV:         ratio(c.TP, c.TP+c.FP),
		NPV:         ratio(c.TN, c.TN+c.FN),
	}
	m.BalancedAccuracy = (m.Sensitivity + m.Specificity) / 2
	m.AUROC, m.AUPRC = areas(p.score, p.positive)
	return c, m
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
func areas(score []float64, positive []bool) (auroc, auprc Score) {
	order := make([]int, len(score))
	positives := 0
	for i := range order {
		order[i] = i
		if positive[i] {
			positives++
		}
	}
	negatives := len(score) - positives
	if positives == 0 || negatives == 0 {
		return Undefined(), Undefined()
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(score[b], score[a]) })
	tp, fp := 0, 0
	wins := 0.0 // pairs in which the positive has the higher score
	ap := 0.0   // average precision times the number of positives
	for start := 0; start < len(order); {
		end, tied := start, 0 // samples of equal score, and the positives among them
		for end < len(order) && score[order[end]] == score[order[start]] {
			if positive[order[end]] {
				tied++
			}
			end++
		}
		tp += tied
		fp += end - start - tied
		below := negatives - fp
		wins += float64(tied) * (float64(below) + float64(end-start-tied)/2)
		ap += float64(tied) * float64(tp) / float64(tp+fp)
		start = end
	}
	return Score(wins / (float64(positives) * float64(negatives))), Score(ap / float64(positives))
}
