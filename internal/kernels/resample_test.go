package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestWeightedSum(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 7, 8, 31, 32, 33, 100, 4099} {
		for _, rows := range []int{1, 2, 3, 5, 9} {
			all, weight := make([][]float32, rows), make([]float32, rows)
			for k := range all {
				weight[k] = r.Float32()
				for range n + k { // longer rows are fine
					all[k] = append(all[k], float32(r.NormFloat64())*1000)
				}
			}
			want := make([]float32, n)
			for j := range want {
				for k := range all {
					want[j] += float32(weight[k] * all[k][j])
				}
			}
			for _, isa := range Supported() {
				got := make([]float32, n+1)
				got[n] = 77
				(&Resampler{resampleTables(isa)}).WeightedSum(got[:n], all, weight)
				if !slices.Equal(got[:n], want) || got[n] != 77 {
					t.Fatalf("%v, %d rows of %d: another result", isa, rows, n)
				}
			}
		}
	}
}

func TestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	windows := map[int]bool{}
	for _, length := range []int{1, 9, 16, 17, 40, 300} {
		for _, count := range []int{1, 8, 13, 64, 200} {
			for _, taps := range []int{1, 2, 3, 5} {
				for _, backwards := range []bool{false, true} {
					begin, index, weight := []int{0}, []int{}, []float32{}
					for o := range count {
						for k := range taps {
							i := o*length/count + k
							if i >= length && k > 0 { // the last values have fewer taps
								continue
							}
							if i = min(i, length-1); backwards {
								i = length - 1 - i
							}
							w := r.Float32()
							if taps == 1 && backwards { // values are taken as they are
								w = 1
							}
							index, weight = append(index, i), append(weight, w)
						}
						begin = append(begin, len(index))
					}
					src := make([]float32, length)
					for i := range src {
						src[i] = float32(r.NormFloat64()) * 1000
					}
					want := make([]float32, count)
					for o := range want {
						for k := begin[o]; k < begin[o+1]; k++ {
							want[o] += float32(weight[k] * src[index[k]])
						}
					}
					row := NewRow(length, begin, index, weight)
					for _, p := range row.parts {
						windows[p.window] = true
					}
					for _, isa := range Supported() {
						got := make([]float32, count+1)
						got[count] = 77
						(&Resampler{resampleTables(isa)}).Row(got, src, row)
						if !slices.Equal(got[:count], want) || got[count] != 77 || row.Count() != count {
							t.Fatalf("%v, %d of %d with %d taps, backwards %v: another result", isa, count, length, taps, backwards)
						}
					}
				}
			}
		}
	}
	if !windows[0] || !windows[16] || !windows[32] {
		t.Errorf("of the windows 0, 16 and 32 only %v were tried", windows)
	}
}

func TestWindowScale(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	src := []float32{-3000, -1000, -999.5, 0, 399.75, 400, 4000, inf, -inf, 12.25, 0.1}
	want := make([]float32, len(src))
	for i, x := range src {
		c := math.Min(math.Max(float64(x), -1000), 400)
		want[i] = float32((c+1000)*(2.0/1400) - 1)
	}
	for _, isa := range Supported() {
		r := &Resampler{resampleTables(isa)}
		got := make([]float32, len(src))
		if r.WindowScale(got, src, -1000, 400, 2.0/1400, -1) || !slices.Equal(got, want) || got[0] != -1 || got[6] != 1 {
			t.Errorf("%v: got %v, want %v without NaN", isa, got, want)
		}
		for i := range src {
			odd := slices.Clone(src)
			odd[i] = nan
			if !r.WindowScale(odd, odd, -1000, 400, 2.0/1400, -1) || odd[i] != -1 {
				t.Errorf("%v: a NaN at %d becomes %v", isa, i, odd[i])
			}
		}
	}
}

func TestTrilinear(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, shape := range [][3]int{{5, 6, 7}, {2, 2, 2}, {9, 3, 20}, {1, 4, 4}, {4, 1, 4}, {4, 4, 1}} {
		data := make([]float32, shape[0]*shape[1]*shape[2])
		for i := range data {
			data[i] = float32(r.NormFloat64())
		}
		for _, n := range []int{0, 1, 8, 21, 64} {
			p := &Points{}
			for i, size := range shape {
				p.Start[i], p.Step[i] = float32(r.Float64()*float64(size)-0.5), float32(0.3*r.NormFloat64())
				p.Move[i] = make([]float32, n)
				for x := range p.Move[i] {
					p.Move[i][x] = float32(0.5 * r.NormFloat64())
				}
			}
			if n == 64 {
				p.Move[0][3], p.Move[1][9], p.Move[2][20] = float32(math.NaN()), float32(math.Inf(-1)), 3e10
				for x := 40; x < 56; x++ { // on the voxels, to the last one that has a neighbour
					for i, size := range shape {
						p.Move[i][x] = float32((x-40)%size) - float32(p.Start[i]+float32(float32(x)*p.Step[i]))
					}
				}
			}
			// The definition, in double precision.
			value := func(x int) (v float64, inside bool) {
				var at [3]float64
				for i, size := range shape {
					at[i] = float64(float32(p.Start[i]+float32(float32(x)*p.Step[i])) + p.Move[i][x])
					if !(at[i] >= 0 && at[i] < float64(size-1)) {
						return 0, false
					}
				}
				for k := range 8 {
					weight, place := 1.0, 0
					for i := range at {
						low := math.Floor(at[i])
						if k>>i&1 == 1 {
							weight *= at[i] - low
							low++
						} else {
							weight *= 1 - (at[i] - low)
						}
						place = place*shape[i] + int(low)
					}
					v += weight * float64(data[place])
				}
				return v, true
			}
			var plain []float32
			for _, isa := range Supported() {
				got, marks := make([]float32, n), make([]uint8, (n+7)/8)
				(&Resampler{resampleTables(isa)}).Trilinear(got, marks, data, shape, p)
				for x := range got {
					want, inside := value(x)
					if marked := marks[x/8]>>(x%8)&1 == 1; marked != inside {
						t.Fatalf("%v, %v: point %d is inside: %v, want %v", isa, shape, x, marked, inside)
					}
					if !inside {
						got[x] = 0
					} else if math.Abs(float64(got[x])-want) > 1e-5 {
						t.Fatalf("%v, %v: point %d is %v, want %v", isa, shape, x, got[x], want)
					}
				}
				if plain == nil {
					plain = got
				} else if !slices.Equal(got, plain) {
					t.Fatalf("%v, %v: another result than the plain loop's", isa, shape)
				}
			}
		}
	}
}
