package weights

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
)

const positions = "pos_embed"

// adapt gives a tensor the wanted shape, where that was asked for, and says how. Where it only could be asked
// for, it returns no tensor and says what to ask for; where nothing helps, no text.
func (f *fitting) adapt(t modelfile.Tensor, shape []int) (modelfile.Tensor, string, error) {
	none := modelfile.Tensor{}
	switch {
	case t.Name == positions && len(t.Shape) == 3 && t.Shape[0] == 1 && t.Shape[2] == shape[2]:
		if !f.opt.Interpolate {
			return none, "positions of another volume size: they are interpolated when that is asked for", nil
		}
		from, err := f.sourceGrid(t.Shape[1] - 1)
		if err != nil {
			return none, "", err
		}
		to := f.grid(f.target.ShapeDHW)
		return interpolate(t, from, to), fmt.Sprintf("positions interpolated from %v to %v tokens (D, H, W)", from, to), nil
	case len(t.Shape) == 4 && len(shape) == 5 && t.Shape[0] == shape[0] && t.Shape[2] == shape[3] && t.Shape[3] == shape[4] &&
		(t.Shape[1] == shape[1] || shape[1] == 1):
		if !f.opt.Inflate {
			return none, "a 2D kernel: it is inflated when that is asked for", nil
		}
		how := fmt.Sprintf("2D kernel spread evenly over %d slices", shape[2])
		if t.Shape[1] != shape[1] {
			how += fmt.Sprintf(", its %d input channels summed", t.Shape[1])
		}
		return inflate(t, shape), how, nil
	}
	return none, "", nil
}

// inflate turns a 2D kernel (O, C, kh, kw) into a 3D one (O, C', kd, kh, kw): every slice is the kernel ÷ kd,
// so that a volume that is constant along d gives what the 2D network gave (Carreira & Zisserman 2017). With
// C' = 1 the input channels are summed: the answer to a grey image that was copied to all of them.
func inflate(t modelfile.Tensor, shape []int) modelfile.Tensor {
	out, in, area, depth := shape[0], shape[1], shape[3]*shape[4], shape[2]
	summed := t.Shape[1] / in // channels that become one
	values := make([]float32, out*in*depth*area)
	for o := range out {
		for c := range in {
			for i := range area {
				var sum float64
				for s := range summed {
					sum += float64(t.F32[((o*t.Shape[1])+c*summed+s)*area+i])
				}
				v := float32(sum / float64(depth))
				for d := range depth {
					values[((o*in+c)*depth+d)*area+i] = v
				}
			}
		}
	}
	return modelfile.Tensor{Name: t.Name, Shape: shape, F32: values}
}

// grid returns the number of patches along each axis of a volume.
func (f *fitting) grid(shape [3]int) [3]int {
	var g [3]int
	if o, ok := f.target.Network.Options.(models.ViT3DOptions); ok {
		for i, p := range o.PatchSize {
			g[i] = shape[i] / p
		}
	}
	return g
}

// sourceGrid finds the number of patches along each axis for a file of the given number of tokens.
func (f *fitting) sourceGrid(tokens int) ([3]int, error) {
	shape, said := f.opt.FromDHW, "the volume size that was given for the file"
	if shape == [3]int{} && f.file.Model != nil {
		shape, said = f.file.Model.Preprocess.ShapeDHW, "the model's input"
	}
	if shape != [3]int{} {
		g := f.grid(shape)
		if g[0]*g[1]*g[2] != tokens {
			return g, fmt.Errorf("%s, %v, has %v patches, but the file has positions for %d", said, shape, g, tokens)
		}
		return g, nil
	}
	n := int(math.Round(math.Cbrt(float64(tokens))))
	if n < 1 || n*n*n != tokens {
		return [3]int{}, fmt.Errorf("the file has positions for %d patches and does not say of which volume: "+
			"name the size that it was trained for (model.pretrained_shape_dhw, or --from-shape)", tokens)
	}
	return [3]int{n, n, n}, nil
}

// interpolate resamples position embeddings (1, 1 + d·h·w, E) trilinearly to another grid, voxel centres
// on voxel centres and ends held; the class token's position stays.
func interpolate(t modelfile.Tensor, from, to [3]int) modelfile.Tensor {
	e := t.Shape[2]
	tokens := to[0] * to[1] * to[2]
	values := make([]float32, (1+tokens)*e)
	copy(values, t.F32[:e])
	src := t.F32[e:]
	var taps [3][]tap
	for i := range taps {
		taps[i] = linearTaps(from[i], to[i])
	}
	sum := make([]float64, e)
	for d, td := range taps[0] {
		for h, th := range taps[1] {
			for w, tw := range taps[2] {
				clear(sum)
				for corner := range 8 {
					i, a := td.pick(corner & 1)
					j, b := th.pick(corner >> 1 & 1)
					k, c := tw.pick(corner >> 2)
					weight := a * b * c
					if weight == 0 {
						continue
					}
					row := src[((i*from[1]+j)*from[2]+k)*e:][:e]
					for x, v := range row {
						sum[x] += weight * float64(v)
					}
				}
				dst := values[(1+(d*to[1]+h)*to[2]+w)*e:][:e]
				for x, v := range sum {
					dst[x] = float32(v)
				}
			}
		}
	}
	return modelfile.Tensor{Name: t.Name, Shape: []int{1, 1 + tokens, e}, F32: values}
}

// tap is where a new sample lies between two old ones.
type tap struct {
	low, high int
	share     float64 // of the high one
}

func (t tap) pick(high int) (int, float64) {
	if high == 1 {
		return t.high, t.share
	}
	return t.low, 1 - t.share
}

func linearTaps(from, to int) []tap {
	taps := make([]tap, to)
	for i := range taps {
		x := (float64(i)+0.5)*float64(from)/float64(to) - 0.5
		x = min(max(x, 0), float64(from-1))
		low := int(x)
		taps[i] = tap{low, min(low+1, from-1), x - float64(low)}
	}
	return taps
}
