package kernels

//go:generate go -C gen run ./resample -pkg kernels -out ../resample_amd64.s -stubs ../resample_stubs_amd64.go

// resampleTable holds the loops that bring scans to the network's input. The lengths of dst are multiples of 8.
type resampleTable struct {
	weightedSum func(dst []float32, rows [][]float32, weight []float32)
	windowScale func(dst, src []float32, lo, hi float32, factor, offset float64) bool
	// row16 and row32 make the parts of a [Row] with windows of 16 and 32 values. Nil: there is no such loop.
	row16, row32 func(dst, src []float32, taps int, base, lane []int32, weight []float32)
	// trilinear makes whole groups of 8 points of [Resampler.Trilinear]; nil: there is no such loop.
	trilinear func(dst []float32, inside []uint8, data []float32, row, plane int, moveD, moveH, moveW []float32, start, step, top [3]float32, last [3]int)
}

func resampleGeneric() resampleTable {
	return resampleTable{weightedSum: weightedSum, windowScale: windowScale}
}

// Resampler does the inner loops of resampling. Its results are the same to the last bit on every
// instruction set.
type Resampler struct{ table resampleTable }

// NewResampler returns the loops for this processor.
func NewResampler() *Resampler { return &Resampler{resampleTables(detect())} }

// WeightedSum sets dst[j] to the sum over k of weight[k]·rows[k][j]. There is at least one row, and every one
// is as long as dst. Each product and sum is rounded to float32, in the order of k.
func (r *Resampler) WeightedSum(dst []float32, rows [][]float32, weight []float32) {
	if len(rows) == 0 || len(weight) != len(rows) {
		panic("kernels: WeightedSum of rows without a weight each")
	}
	for _, row := range rows {
		_ = row[:len(dst)]
	}
	n := len(dst) &^ 7
	r.table.weightedSum(dst[:n], rows, weight)
	for j := n; j < len(dst); j++ {
		sum := float32(weight[0] * rows[0][j])
		for k := 1; k < len(rows); k++ {
			sum += float32(weight[k] * rows[k][j])
		}
		dst[j] = sum
	}
}

// WindowScale sets dst to (x-lo)·factor + offset for the values x of src clamped to lo..hi, computed in double
// precision; what is no number is taken for lo. It reports whether there was such a one. dst may be src.
func (r *Resampler) WindowScale(dst, src []float32, lo, hi float32, factor, offset float64) (nan bool) {
	src = src[:len(dst)]
	n := len(dst) &^ 7
	nan = r.table.windowScale(dst[:n], src[:n], lo, hi, factor, offset)
	return windowScale(dst[n:], src[n:], lo, hi, factor, offset) || nan
}

// weightedSum is the plain loop, in blocks that stay in the first-level cache.
func weightedSum(dst []float32, rows [][]float32, weight []float32) {
	const block = 2048
	for at := 0; at < len(dst); at += block {
		end := min(at+block, len(dst))
		d := dst[at:end]
		for k, row := range rows {
			w, a := weight[k], row[at:end]
			if k == 0 {
				for j, x := range a {
					d[j] = float32(w * x)
				}
				continue
			}
			for j, x := range a {
				d[j] += float32(w * x)
			}
		}
	}
}

func windowScale(dst, src []float32, lo, hi float32, factor, offset float64) (nan bool) {
	for i, x := range src {
		switch {
		case x > hi:
			x = hi
		case x >= lo:
		default:
			nan = nan || x != x
			x = lo
		}
		dst[i] = float32(float64((float64(x)-float64(lo))*factor) + offset)
	}
	return nan
}
