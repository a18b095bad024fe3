package kernels

import "fmt"

// Points are places in an array [d][h][w], as indices along its axes, fractions allowed: point x lies at
// Start[i] + x·Step[i] + Move[i][x] along axis i.
type Points struct {
	Start, Step [3]float32
	Move        [3][]float32
}

// Trilinear sets dst[x] to what trilinear interpolation in data [d][h][w] makes of point x, if it lies inside: its
// index is at least 0 and below size-1 along every axis. Bit x%8 of inside[x/8] says so; where it is not set, dst[x]
// means nothing. Every product and sum is rounded to float32.
func (r *Resampler) Trilinear(dst []float32, inside []uint8, data []float32, shape [3]int, p *Points) {
	n := len(dst)
	if len(data) != shape[0]*shape[1]*shape[2] || len(inside) < (n+7)/8 {
		panic(fmt.Sprintf("kernels: Trilinear of %d values with shape %v and %d marks for %d points", len(data), shape, len(inside), n))
	}
	clear(inside)
	var top [3]float32
	var last [3]int
	for i, size := range shape {
		if size < 2 {
			return // no point lies inside
		}
		top[i], last[i] = float32(size-1), size-2
		_ = p.Move[i][:n]
	}
	row, plane := shape[2], shape[1]*shape[2]
	from := 0
	if r.table.trilinear != nil {
		from = n &^ 7
		r.table.trilinear(dst[:from], inside, data, row, plane, p.Move[0], p.Move[1], p.Move[2], p.Start, p.Step, top, last)
	}
	for x := from; x < n; x++ {
		var at [3]int
		var f [3]float32
		in := true
		for i := range at {
			v := float32(p.Start[i]+float32(float32(x)*p.Step[i])) + p.Move[i][x]
			in = in && v >= 0 && v < top[i]
			if in {
				at[i] = int(int32(v))
				f[i] = v - float32(at[i])
			}
		}
		if !in {
			continue
		}
		inside[x/8] |= 1 << (x % 8)
		k := at[0]*plane + at[1]*row + at[2]
		a, b := data[k:], data[k+plane:]
		a0 := between(a[0], a[1], f[2])
		a1 := between(a[row], a[row+1], f[2])
		b0 := between(b[0], b[1], f[2])
		b1 := between(b[row], b[row+1], f[2])
		dst[x] = between(between(a0, a1, f[1]), between(b0, b1, f[1]), f[0])
	}
}

// between is at share f of the way from a to b.
func between(a, b, f float32) float32 { return a + float32(f*(b-a)) }
