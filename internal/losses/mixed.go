package losses

import "slices"

// Mixed is a loss on blended samples (mixup; Zhang et al. 2018): the target of a row is the targets of the first
// sample, those of the second and the share λ of the first, and the loss is λ times that of the first targets plus
// 1−λ times that of the second.
func Mixed(of Loss, classes int) Loss { return mixed{of, of.Targets(classes)} }

type mixed struct {
	of    Loss
	width int // of the targets of one sample
}

func (l mixed) Name() string    { return l.of.Name() + " of blended samples" }
func (l mixed) Targets(int) int { return 2*l.width + 1 }

func (l mixed) Row(logits, targets, grad []float64) float64 {
	n, share := l.width, targets[2*l.width]
	var more []float64
	if grad != nil {
		more = make([]float64, len(grad))
	}
	first, second := l.of.Row(logits, targets[:n], grad), l.of.Row(logits, targets[n:2*n], more)
	for i := range grad {
		grad[i] = share*grad[i] + (1-share)*more[i]
	}
	return share*first + (1-share)*second
}

func (l mixed) Count(targets []float32) float64 {
	var n float64
	for row := range slices.Chunk(targets, 2*l.width+1) {
		share := float64(row[2*l.width])
		n += share*l.of.Count(row[:l.width]) + (1-share)*l.of.Count(row[l.width:2*l.width])
	}
	return n
}
