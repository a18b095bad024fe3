package explain

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
)

// Cells is a grid of cells on the network's input: cell i of an axis has its centre at the input voxel
// first + step·i, fractions allowed. Axes are d, h, w.
type Cells struct {
	Size        [3]int
	First, Step [3]float64
}

func (c Cells) voxels() int { return c.Size[0] * c.Size[1] * c.Size[2] }

// stride is the largest number of input voxels between neighbouring cells.
func (c Cells) stride() float64 { return max(c.Step[0], c.Step[1], c.Step[2]) }

// cellsOf returns the cells of a feature map or of tokens. The centre of a cell is the centre of what its
// element sees: a window of size k, stride s and padding p looks from its output o at s·o − p + (k − 1)/2.
func cellsOf(v *graph.Value) Cells {
	if v.Role == graph.Input {
		return Cells{Size: [3]int(v.Shape[2:]), Step: [3]float64{1, 1, 1}}
	}
	c := cellsOf(v.In[0])
	var kernel, stride, pad [3]int
	switch op := v.Op.(type) {
	case ops.Conv3D:
		kernel, stride, pad = [3]int(v.In[1].Shape[2:]), op.Stride, op.Pad
	case ops.MaxPool3D:
		kernel, stride, pad = op.Kernel, op.Stride, op.Pad
	case ops.AvgPool3D:
		kernel, stride = op.Kernel, op.Stride
	case ops.Patches:
		kernel, stride = op.Size, op.Size
	default: // works on each voxel alone
		return c
	}
	for a := range 3 {
		c.First[a] += c.Step[a] * (float64(kernel[a]-1)/2 - float64(pad[a]))
		c.Step[a] *= float64(stride[a])
		if _, ok := v.Op.(ops.Patches); ok {
			c.Size[a] /= stride[a]
		} else {
			c.Size[a] = v.Shape[2+a]
		}
	}
	return c
}

// chooseLayer returns the feature map of the layer name: the last one that the layer itself makes, a rectified
// one before others, or the last one within the layer. "" chooses the deepest rectified map of at most maxStride
// voxels a cell.
func chooseLayer(values []*graph.Value, name string) (*graph.Value, error) {
	var rectified, own, within *graph.Value
	var names []string
	for _, v := range values {
		if v.Class != graph.Volume || v.Op == nil {
			continue
		}
		_, relu := v.Op.(ops.ReLU)
		switch {
		case name == "":
			if relu && cellsOf(v).stride() <= maxStride {
				rectified = v
			}
		case v.Name == name:
			own = v
			if relu {
				rectified = v
			}
		case strings.HasPrefix(v.Name, name+"."):
			within = v
		}
		if parts := strings.Split(v.Name, "."); len(parts) > 1 {
			for n := 1; n <= 2; n++ {
				if s := strings.Join(parts[:n], "."); !slices.Contains(names, s) {
					names = append(names, s)
				}
			}
		}
	}
	for _, v := range []*graph.Value{rectified, own, within} {
		if v != nil {
			return v, nil
		}
	}
	if name == "" {
		return nil, fmt.Errorf("the network has no feature map of at most %d voxels a cell: name a layer", maxStride)
	}
	return nil, fmt.Errorf("the network has no layer %q with a feature map; there are %s", name, strings.Join(names, ", "))
}
