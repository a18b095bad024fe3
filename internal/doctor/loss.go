package doctor

import (
	"math"

	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/losses"
)

// weakShare is the share of the gradient below which the positives, or the negatives, of a label are as good as not
// there.
const weakShare = 1e-3

// Loss judges the gradients that the training labels get from the loss at the start of training, when every logit
// is near 0. A loss that weighs one side of a label with nothing, such as a balanced focal loss with alpha close to
// 1, teaches the network to give that label always, or never, and its value still falls.
func (r *Report) Loss(l losses.Loss, ds *data.Dataset) {
	outputs := len(r.Prevalence)
	logits := make([]float64, outputs)
	grad := make([]float64, outputs)
	type side struct {
		samples int
		weight  float64 // sum of the gradients' magnitudes
	}
	sums := make([][2]side, outputs) // negatives, positives
	for _, s := range ds.Subset(data.Train) {
		clear(grad)
		l.Row(logits, s.Target, grad)
		for c := range outputs {
			has, known := target(ds.Task, s, c)
			if !known {
				continue
			}
			n := &sums[c][0]
			if has {
				n = &sums[c][1]
			}
			n.samples++
			n.weight += math.Abs(grad[c])
		}
	}
	for c, p := range r.Prevalence {
		neg, pos := sums[c][0], sums[c][1]
		all := neg.weight + pos.weight
		switch {
		case neg.samples == 0 || pos.samples == 0: // found among the labels
		case all == 0:
			r.add(Error, CheckLoss, nil, "label %s gets no gradient from the loss %s: it cannot be learnt", p.Label, l.Name())
		default:
			for i, what := range []string{"negative", "positive"} {
				n := sums[c][i]
				share := n.weight / all
				switch {
				case share == 0:
					r.add(Error, CheckLoss, nil, "the %d %s samples of label %s get no gradient from the loss %s at the start: look at loss.alpha, loss.clip and the weights",
						n.samples, what, p.Label, l.Name())
				case share < weakShare:
					r.add(Warning, CheckLoss, nil, "the %d %s samples of label %s make only %.2g%% of its gradient: balance them with loss.alpha, loss.pos_weight or loss.class_weight",
						n.samples, what, p.Label, 100*share)
				}
			}
		}
	}
}
