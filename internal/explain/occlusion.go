package explain

import (
	"context"
	"math"

	"github.com/ctclass/ctclass/internal/session"
)

// occlusionParts is how many masks stand side by side along an axis.
const occlusionParts = 8

// occlude measures how much the logit of a class falls when a box of the input is replaced by its mean. Where the
// logit rises the map is 0.
func (e *Explainer) occlude(ctx context.Context, s *session.Session, x []float32, class int) (*Map, error) {
	var size [3]int
	m := &Map{}
	for a, n := range e.shape {
		size[a] = (n + occlusionParts - 1) / occlusionParts
		m.Size[a] = (n + size[a] - 1) / size[a]
		m.First[a], m.Step[a] = float64(size[a]-1)/2, 1
		if m.Size[a] > 1 { // evenly from end to end, overlapping where they do not fit
			m.Step[a] = float64(n-size[a]) / float64(m.Size[a]-1)
		}
	}
	logits, err := s.Logits(x, 1)
	if err != nil {
		return nil, err
	}
	whole := float64(logits[class])
	classes := len(logits)
	m.Heat = make([]float64, m.voxels())
	batch := s.EvalBatch()
	masked := make([]float32, 0, batch*len(x))
	first := 0 // cell of the batch's first sample
	flush := func(next int) error {
		n := len(masked) / len(x)
		logits, err := s.Logits(masked, n)
		if err != nil {
			return err
		}
		for i := range n {
			m.Heat[first+i] = max(0, whole-float64(logits[i*classes+class]))
		}
		masked, first = masked[:0], next
		return nil
	}
	for cell := range m.Heat {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var from [3]int
		rest := cell
		for a := 2; a >= 0; a-- {
			from[a] = int(math.Round(float64(rest%m.Size[a]) * m.Step[a]))
			rest /= m.Size[a]
		}
		masked = append(masked, x...)
		mask(masked[len(masked)-len(x):], e.shape, from, size)
		if len(masked) == batch*len(x) || cell == len(m.Heat)-1 {
			if err := flush(cell + 1); err != nil {
				return nil, err
			}
		}
	}
	return m, nil
}

// mask replaces a box of each channel of x (C, D, H, W) by the box's mean.
func mask(x []float32, shape, from, size [3]int) {
	n := shape[0] * shape[1] * shape[2]
	for c := 0; c < len(x); c += n {
		rows := func(do func(row []float32)) {
			for d := range size[0] {
				for h := range size[1] {
					at := c + ((from[0]+d)*shape[1]+from[1]+h)*shape[2] + from[2]
					do(x[at:][:size[2]])
				}
			}
		}
		sum := 0.0
		rows(func(row []float32) {
			for _, v := range row {
				sum += float64(v)
			}
		})
		mean := float32(sum / float64(size[0]*size[1]*size[2]))
		rows(func(row []float32) {
			for i := range row {
				row[i] = mean
			}
		})
	}
}
