package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"unsafe"
)

func TestWinogradRandomSpecs(t *testing.T) {
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 11))
		s := ConvSpec{Kernel: cube(3), Stride: cube(1)}
		for range 1 + r.IntN(3) {
			s.In = append(s.In, 1+r.IntN(24))
			s.Out = append(s.Out, 1+r.IntN(24))
		}
		for a := range 3 {
			s.Pad[a] = r.IntN(3)
			s.Size[a] = max(1+r.IntN(9), 3-2*s.Pad[a])
		}
		n := 1 + r.IntN(3)
		a := []Algorithm{Winograd2, Winograd4}[seed%2]
		t.Run(fmt.Sprintf("%d/%v", seed, a), func(t *testing.T) {
			c := newConvCase(r, s, n)
			c.choice = &ConvChoice{a, a, a}
			c.check(t)
			if t.Failed() {
				t.Logf("%+v, batch %d", s, n)
			}
		})
	}
}

// TestWinogradManyTiles takes several blocks of tiles and more channels than a panel.
func TestWinogradManyTiles(t *testing.T) {
	for _, a := range []Algorithm{Winograd2, Winograd4} {
		s := ConvSpec{In: Channels{40}, Out: Channels{24, 30}, Size: [3]int{14, 9, 21}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}
		c := newConvCase(rand.New(rand.NewPCG(5, 6)), s, 2)
		c.choice = &ConvChoice{a, a, a}
		c.check(t)
	}
}

// TestWinogradTransforms compares the assembly with plain Go, lane by lane.
func TestWinogradTransforms(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, m := range []int{2, 3, 4} {
		for kind := winoInput; kind <= winoWeightGradient; kind++ {
			for _, isa := range Supported()[1:] {
				testTransform(t, r, winoKernelsFor(isa, m), winoKernelsFor(Generic, m), kind)
			}
		}
	}
}

func testTransform(t *testing.T, r *rand.Rand, k, plain *winoKernels, kind winoKind) {
	matrix := k.matrix(kind)
	n, m := len(matrix[0]), len(matrix)
	const width = 11
	src, add := randomSlice(r, 6*6*width*Block), randomSlice(r, 6*6*width*Block)
	scale, shift := randomSlice(r, Block), randomSlice(r, Block)
	planes, rows := make([]int, 6), make([]int, 6)
	for i := range rows {
		planes[i], rows[i] = i*6*width*Block*4, i*width*Block*4
		if r.IntN(5) == 0 {
			rows[i] = outside
		}
		if r.IntN(8) == 0 {
			planes[i] = outside
		}
	}
	cols := winoColumnsOf(1, k.m, n, r.IntN(3), n-r.IntN(2), Block*4)
	var floor float32
	run := func(k *winoKernels) []float32 {
		dst := filled(6 * 6 * width * Block)
		k.transform(kind, &winoArgs{
			Src: unsafe.Pointer(&src[0]), Dst: unsafe.Pointer(&dst[0]),
			SrcStep: 64, DstStep: 64, Planes: &planes[0], Rows: &rows[0], Cols: &cols[0].offset, Mask: &cols[0].mask, Width: 1 + m/2, Count: 2,
			Scale: unsafe.Pointer(&scale[0]), Shift: unsafe.Pointer(&shift[0]), Add: unsafe.Pointer(&add[0]), Floor: unsafe.Pointer(&floor),
		})
		return dst
	}
	got, want := run(k), run(plain)
	for i, v := range want {
		if d := math.Abs(float64(got[i] - v)); !(d <= 1e-4) {
			t.Fatalf("%v F(%d,3) kind %d: element %d is %v, want %v", k.isa, k.m, kind, i, got[i], v)
		}
	}
}

func TestWinogradStem(t *testing.T) {
	for _, tc := range []struct {
		size [3]int
		out  Channels
		n    int
	}{
		{[3]int{9, 10, 13}, Channels{64}, 2},
		{[3]int{1, 2, 3}, Channels{20}, 3},
		{[3]int{24, 7, 16}, Channels{40}, 1},
		{[3]int{5, 31, 6}, Channels{3}, 1},
	} {
		s := ConvSpec{In: Channels{1}, Out: tc.out, PlainIn: true, Size: tc.size, Kernel: cube(7), Stride: cube(2), Pad: cube(3)}
		c := newConvCase(rand.New(rand.NewPCG(7, 8)), s, tc.n)
		c.choice = &ConvChoice{Winograd4, Direct, Winograd4}
		c.check(t)
	}
}

// TestConvForwardNorm compares the fused convolution with the convolution and the norm after it.
func TestConvForwardNorm(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 10))
	for _, s := range []ConvSpec{
		{In: Channels{20}, Out: Channels{35}, Size: [3]int{6, 9, 5}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)},
		{In: Channels{20}, Out: Channels{35}, Size: [3]int{6, 9, 5}, Kernel: cube(3), Stride: cube(2), Pad: cube(1)},
		{In: Channels{1}, Out: Channels{35}, PlainIn: true, Size: [3]int{6, 9, 5}, Kernel: cube(7), Stride: cube(2), Pad: cube(3)},
	} {
		for i, a := range []Algorithm{Direct, Winograd2, Winograd4} {
			c := newConvCase(r, s, 2)
			for _, isa := range Supported() {
				m := testMachine(t, isa, 2)
				conv := NewConvWith(s, isa, ConvChoice{a, a, a})
				w := filled(conv.WeightLen())
				m.PackWeights(conv, w, c.w)
				add := blockedMap(randomSlice(r, c.yLn), c.n, s.Out, s.OutSize(), 16)
				e := Epilogue{Scale: make([]float32, s.Out.Blocks()*Block), Shift: make([]float32, s.Out.Blocks()*Block), ReLU: i != 1}
				for _, p := range s.Out.Physical() {
					e.Scale[p], e.Shift[p] = float32(r.NormFloat64()), float32(r.NormFloat64())
				}
				if i > 0 {
					e.Add = &add
				}
				y, want := newMap(c.n, s.Out, s.OutSize(), 16, garbage), newMap(c.n, s.Out, s.OutSize(), 16, garbage)
				ws := filled(m.ConvForwardWorkspace(conv, c.n))
				m.ConvForwardNorm(conv, c.input(c.n), w, &e, y, ws)
				m.ConvForward(conv, c.input(c.n), w, want, ws)
				m.BNNorm(want, e.Scale, e.Shift, e.Add, e.ReLU, want)
				checkLanes(t, "y", y, s.Out)
				for j, v := range want.Data {
					if d := math.Abs(float64(y.Data[j] - v)); !(d <= 1e-5*(1+math.Abs(float64(v)))) {
						t.Fatalf("%v %v: element %d is %v, want %v", isa, a, j, y.Data[j], v)
					}
				}
			}
		}
	}
}

// TestConvForwardPool compares the convolution that is pooled with the convolution and the max-pool after it: every bit.
func TestConvForwardPool(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, s := range []ConvSpec{
		{In: Channels{20}, Out: Channels{35}, Size: [3]int{6, 9, 5}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)},
		{In: Channels{1}, Out: Channels{35}, PlainIn: true, Size: [3]int{15, 9, 22}, Kernel: cube(7), Stride: cube(2), Pad: cube(3)},
		{In: Channels{1}, Out: Channels{16}, PlainIn: true, Size: [3]int{18, 41, 25}, Kernel: cube(7), Stride: cube(2), Pad: cube(3)},
		{In: Channels{1}, Out: Channels{64}, PlainIn: true, Size: [3]int{10, 78, 66}, Kernel: cube(7), Stride: cube(2), Pad: cube(3)}, // three strips
	} {
		for _, pool := range []Window{{cube(3), cube(2), cube(1)}, {[3]int{2, 3, 2}, [3]int{1, 2, 2}, [3]int{1, 0, 1}}} {
			c := newConvCase(r, s, 2)
			out := s.OutSize()
			for i := range out {
				out[i] = (out[i]+2*pool.Pad[i]-pool.Kernel[i])/pool.Stride[i] + 1
			}
			for _, isa := range Supported() {
				for _, threads := range []int{1, 3} {
					m := testMachine(t, isa, threads)
					conv := NewConvWith(s, isa, ConvChoice{Winograd4, Direct, Direct})
					w := filled(conv.WeightLen())
					m.PackWeights(conv, w, c.w)
					e := Epilogue{Scale: make([]float32, s.Out.Blocks()*Block), Shift: make([]float32, s.Out.Blocks()*Block), ReLU: true}
					for _, p := range s.Out.Physical() {
						e.Scale[p], e.Shift[p] = float32(r.NormFloat64()), float32(r.NormFloat64())
					}
					between := newMap(c.n, s.Out, s.OutSize(), 16, garbage)
					want := newMap(c.n, s.Out, out, 16, garbage)
					m.ConvForwardNorm(conv, c.input(c.n), w, &e, between, filled(m.ConvForwardWorkspace(conv, c.n)))
					m.MaxPool(between, want, pool.Kernel, pool.Stride, pool.Pad)
					prepared := filled(conv.Prepared(c.n))
					m.PrepareForward(conv, w, prepared)
					for _, p := range [][]float32{nil, prepared} {
						y := newMap(c.n, s.Out, out, 16, garbage)
						m.ConvForwardPool(conv, c.input(c.n), w, p, &e, pool, y, filled(m.ConvPoolWorkspace(conv, pool, y)-len(p)))
						if !slices.Equal(y.Data, want.Data) {
							t.Fatalf("%v %v: pooling by %v in one differs, prepared: %v", isa, s.Key(), pool, p != nil)
						}
					}
				}
			}
		}
	}
}
