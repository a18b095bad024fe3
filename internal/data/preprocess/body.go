package preprocess

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

const (
	bodyAbove = -500.0 // HU: tissue, not air, lung or the foam of the table
	bodyCell  = 4.0    // mm: the side of the cells that the body is looked for in
)

// cropBox returns the part of the stored array that is used: first and end index of each stored axis.
func cropBox(v *volume.Volume, p config.Preprocess) ([3][2]int, error) {
	var box [3][2]int
	for a, n := range v.Size {
		box[a] = [2]int{0, n}
	}
	switch p.Crop {
	case "", "none":
		return box, nil
	case "body":
	default:
		return box, fmt.Errorf("preprocess.crop is %q, want none or body", p.Crop)
	}
	if !(p.CropMarginMM >= 0 && finite(p.CropMarginMM)) {
		return box, fmt.Errorf("preprocess.crop_margin_mm is %v, want a length of at least 0", p.CropMarginMM)
	}
	c := newCells(v)
	body := c.largestPart()
	if body == nil {
		return box, fmt.Errorf("preprocess.crop body finds nothing above %g HU: are the values HU?", bodyAbove)
	}
	for a := range box {
		margin := int(math.Ceil(p.CropMarginMM / v.Spacing[a]))
		box[a] = [2]int{max(0, body[a][0]*c.side[a]-margin), min(v.Size[a], body[a][1]*c.side[a]+margin)}
	}
	return box, nil
}

// cells is a coarse picture of a volume: which cells hold tissue.
type cells struct {
	side [3]int // voxels of a cell along each stored axis
	size [3]int
	full []bool
}

// newCells takes the mean of up to 8 voxels spread over each cell.
func newCells(v *volume.Volume) *cells {
	c := &cells{}
	var offsets [3][]int
	for a, n := range v.Size {
		c.side[a] = min(max(1, int(math.Round(bodyCell/v.Spacing[a]))), n)
		c.size[a] = (n + c.side[a] - 1) / c.side[a]
		offsets[a] = []int{c.side[a] / 4, c.side[a] * 3 / 4}
	}
	c.full = make([]bool, c.size[0]*c.size[1]*c.size[2])
	mark := func(lo, hi int) {
		for i := lo * c.size[1] * c.size[2]; i < hi*c.size[1]*c.size[2]; i++ {
			x, y, z := i%c.size[2]*c.side[2], i/c.size[2]%c.size[1]*c.side[1], i/c.size[2]/c.size[1]*c.side[0]
			sum, n := 0.0, 0
			for _, dz := range offsets[0] {
				for _, dy := range offsets[1] {
					for _, dx := range offsets[2] {
						hu := v.At(min(z+dz, v.Size[0]-1), min(y+dy, v.Size[1]-1), min(x+dx, v.Size[2]-1))
						if hu-hu == 0 {
							sum += float64(hu)
							n++
						}
					}
				}
			}
			c.full[i] = n > 0 && sum/float64(n) > bodyAbove
		}
	}
	parallel(c.size[0], 4, func() func(lo, hi int) { return mark })
	return c
}

// largestPart returns the box of the largest connected part that is left when a layer of one cell is taken
// off everything, which the shell of a table is not, with that layer put back; nil when there is nothing.
func (c *cells) largestPart() *[3][2]int {
	core, layer := c.eroded(), 1
	box, n := c.largest(core)
	if n == 0 { // nothing is thick
		layer = 0
		box, n = c.largest(c.full)
	}
	if n == 0 {
		return nil
	}
	for a := range box {
		box[a] = [2]int{max(0, box[a][0]-layer), min(c.size[a], box[a][1]+layer)}
	}
	return &box
}

// neighbours calls f for the cells that share a face with cell i.
func (c *cells) neighbours(i int, f func(j int)) {
	stride := [3]int{c.size[1] * c.size[2], c.size[2], 1}
	for a, s := range stride {
		at := i / s % c.size[a]
		if at > 0 {
			f(i - s)
		}
		if at < c.size[a]-1 {
			f(i + s)
		}
	}
}

// eroded keeps the cells all of whose neighbours are full.
func (c *cells) eroded() []bool {
	out := make([]bool, len(c.full))
	for i, full := range c.full {
		out[i] = full
		if full {
			c.neighbours(i, func(j int) { out[i] = out[i] && c.full[j] })
		}
	}
	return out
}

// largest returns the box and the number of cells of the largest connected part, the first of equals.
func (c *cells) largest(full []bool) (box [3][2]int, cells int) {
	seen := make([]bool, len(full))
	var todo []int
	for start := range full {
		if !full[start] || seen[start] {
			continue
		}
		seen[start] = true
		todo = append(todo[:0], start)
		part := [3][2]int{{math.MaxInt, 0}, {math.MaxInt, 0}, {math.MaxInt, 0}}
		for k := 0; k < len(todo); k++ {
			i := todo[k]
			for a, at := range [3]int{i / c.size[2] / c.size[1], i / c.size[2] % c.size[1], i % c.size[2]} {
				part[a] = [2]int{min(part[a][0], at), max(part[a][1], at+1)}
			}
			c.neighbours(i, func(j int) {
				if full[j] && !seen[j] {
					seen[j] = true
					todo = append(todo, j)
				}
			})
		}
		if len(todo) > cells {
			box, cells = part, len(todo)
		}
	}
	return box, cells
}
