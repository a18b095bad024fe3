package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Logical arrays are row-major [N][C][D][H][W]; the oracle below is the definition of a convolution and its
// derivatives in float64.

type convOracle struct {
	spec ConvSpec
	n    int
}

func (o convOracle) each(f func(x, w, y int)) {
	s, out := o.spec, o.spec.OutSize()
	ci, co := s.In.Count(), s.Out.Count()
	for n := range o.n {
		for k := range co {
			for d := range out[0] {
				for h := range out[1] {
					for w := range out[2] {
						y := (((n*co+k)*out[0]+d)*out[1]+h)*out[2] + w
						for c := range ci {
							for a := range s.Kernel[0] {
								id := d*s.Stride[0] - s.Pad[0] + a
								if id < 0 || id >= s.Size[0] {
									continue
								}
								for b := range s.Kernel[1] {
									ih := h*s.Stride[1] - s.Pad[1] + b
									if ih < 0 || ih >= s.Size[1] {
										continue
									}
									for e := range s.Kernel[2] {
										iw := w*s.Stride[2] - s.Pad[2] + e
										if iw < 0 || iw >= s.Size[2] {
											continue
										}
										x := (((n*ci+c)*s.Size[0]+id)*s.Size[1]+ih)*s.Size[2] + iw
										f(x, (((k*ci+c)*s.Kernel[0]+a)*s.Kernel[1]+b)*s.Kernel[2]+e, y)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func randomSlice(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

const garbage = 12345

func filled(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = garbage
	}
	return x
}

// newMap returns a blocked map, every float set to v, that is a view inside a larger one: extra floats
// follow each sample.
func newMap(n int, ch Channels, size [3]int, extra int, v float32) Map {
	m := Map{N: n, CB: ch.Blocks(), D: size[0], H: size[1], W: size[2]}
	m.Stride = m.CB*volume3(size)*Block + extra
	m.Data = make([]float32, n*m.Stride)
	for i := range m.Data {
		m.Data[i] = v
	}
	return m
}

// eachElement calls f with the logical index and the position in Data of every logical element.
func eachElement(m Map, ch Channels, f func(logical, at int)) {
	voxels := m.D * m.H * m.W
	i := 0
	for n := range m.N {
		for _, c := range ch.Physical() {
			for v := range voxels {
				f(i, n*m.Stride+(c/Block*voxels+v)*Block+c%Block)
				i++
			}
		}
	}
}

func blockedMap(src []float32, n int, ch Channels, size [3]int, extra int) Map {
	m := newMap(n, ch, size, extra, 0)
	eachElement(m, ch, func(l, at int) { m.Data[at] = src[l] })
	return m
}

func logicalOf(m Map, ch Channels) []float32 {
	out := make([]float32, m.N*ch.Count()*m.D*m.H*m.W)
	eachElement(m, ch, func(l, at int) { out[l] = m.Data[at] })
	return out
}

// checkLanes verifies that lanes without a logical channel are zero and that the floats between samples,
// which belong to someone else, still hold garbage.
func checkLanes(t *testing.T, name string, m Map, ch Channels) {
	t.Helper()
	used := make([]bool, len(m.Data))
	eachElement(m, ch, func(_, at int) { used[at] = true })
	for i, u := range used {
		inside := i%m.Stride < m.CB*m.D*m.H*m.W*Block
		switch {
		case u:
		case inside && m.Data[i] != 0:
			t.Fatalf("%s: empty lane at %d holds %v", name, i, m.Data[i])
		case !inside && m.Data[i] != garbage:
			t.Fatalf("%s: wrote outside the view at %d", name, i)
		}
	}
}

// checkClose compares with a float64 result; the bound is relative to the result's rms.
func checkClose(t *testing.T, name string, got []float32, want []float64, bound float64) {
	t.Helper()
	sum, worst := 0.0, 0.0
	for i, w := range want {
		sum += w * w
		d := math.Abs(float64(got[i]) - w)
		if math.IsNaN(d) {
			d = math.Inf(1)
		}
		worst = max(worst, d)
	}
	rms := math.Sqrt(sum / float64(max(1, len(want))))
	if worst > bound*rms+1e-30 {
		t.Errorf("%s: error %.2e of an rms of %.2e", name, worst, rms)
	}
}

// convCase is one spec with random operands and the oracle's results.
type convCase struct {
	spec       ConvSpec
	n          int
	x, w, dy   []float32
	y, dx, dw  []float64
	xExtra     int
	dxLen, yLn int
	choice     *ConvChoice // nil: the default
}

func newConvCase(r *rand.Rand, spec ConvSpec, n int) *convCase {
	c := &convCase{spec: spec, n: n}
	weights := spec.In.Count() * spec.Out.Count() * volume3(spec.Kernel)
	c.dxLen = n * spec.In.Count() * volume3(spec.Size)
	c.yLn = n * spec.Out.Count() * volume3(spec.OutSize())
	c.x, c.w, c.dy = randomSlice(r, c.dxLen), randomSlice(r, weights), randomSlice(r, c.yLn)
	c.y, c.dx, c.dw = make([]float64, c.yLn), make([]float64, c.dxLen), make([]float64, weights)
	convOracle{spec, n}.each(func(x, w, y int) {
		c.y[y] += float64(c.x[x]) * float64(c.w[w])
		c.dx[x] += float64(c.dy[y]) * float64(c.w[w])
		c.dw[w] += float64(c.dy[y]) * float64(c.x[x])
	})
	if r.IntN(2) == 0 {
		c.xExtra = Block * (1 + r.IntN(5))
	}
	return c
}

func (c *convCase) input(n int) Map {
	if c.spec.PlainIn {
		s := c.spec
		m := Map{N: n, CB: s.In.Count(), D: s.Size[0], H: s.Size[1], W: s.Size[2]}
		per := m.CB * volume3(s.Size)
		m.Stride = per + c.xExtra
		m.Data = filled(n * m.Stride)
		for i := range n {
			copy(m.Data[i*m.Stride:], c.x[i*per:(i+1)*per])
		}
		return m
	}
	return blockedMap(c.x[:n*c.spec.In.Count()*volume3(c.spec.Size)], n, c.spec.In, c.spec.Size, c.xExtra)
}

type convResult struct {
	y, dx, dw []float32 // logical
	packed    []float32
}

// run computes all three passes on a machine and checks what lies around the results.
func (c *convCase) run(t *testing.T, m *Machine, n int) convResult {
	t.Helper()
	s := c.spec
	conv := NewConv(s, m.ISA)
	if c.choice != nil {
		conv = NewConvWith(s, m.ISA, *c.choice)
	}
	w := filled(conv.WeightLen())
	m.PackWeights(conv, w, c.w)
	var res convResult

	x := c.input(n)
	y := newMap(n, s.Out, s.OutSize(), c.xExtra, garbage)
	m.ConvForward(conv, x, w, y, filled(m.ConvForwardWorkspace(conv, n)))
	checkLanes(t, "y", y, s.Out)
	res.y = logicalOf(y, s.Out)

	dy := blockedMap(c.dy[:n*s.Out.Count()*volume3(s.OutSize())], n, s.Out, s.OutSize(), c.xExtra)
	if s.PlainIn {
		dx := c.input(n)
		clear(dx.Data)
		m.ConvBackwardData(conv, w, dy, dx, nil)
		for i := range n {
			res.dx = append(res.dx, dx.Data[i*dx.Stride:][:dx.CB*volume3(s.Size)]...)
		}
	} else {
		dx := newMap(n, s.In, s.Size, c.xExtra, garbage)
		m.ConvBackwardData(conv, w, dy, dx, filled(m.ConvBackwardDataWorkspace(conv, n)))
		checkLanes(t, "dx", dx, s.In)
		res.dx = logicalOf(dx, s.In)
	}

	res.packed = filled(conv.WeightLen())
	m.ConvBackwardWeights(conv, x, dy, res.packed, filled(m.ConvBackwardWeightsWorkspace(conv, n)))
	res.dw = make([]float32, len(c.w))
	m.UnpackWeights(conv, res.dw, res.packed)
	again := make([]float32, conv.WeightLen())
	m.PackWeights(conv, again, res.dw)
	if !slices.Equal(again, res.packed) {
		t.Error("padding entries of dw are not zero")
	}
	return res
}

func testMachine(t testing.TB, isa ISA, threads int) *Machine {
	m := NewMachine(threads)
	m.ISA = isa
	t.Cleanup(m.Close)
	return m
}

// check runs a case on every instruction set, thread count and a smaller batch.
func (c *convCase) check(t *testing.T) {
	t.Helper()
	bound := 1e-5
	if c.choice != nil && c.choice[Forward] == Winograd4 {
		bound = 3e-5
	}
	for _, isa := range Supported() {
		var first convResult
		for _, threads := range []int{1, 2, 3, 7} {
			got := c.run(t, testMachine(t, isa, threads), c.n)
			if threads == 1 {
				first = got
				checkClose(t, isa.String()+" y", got.y, c.y, bound)
				checkClose(t, isa.String()+" dx", got.dx, c.dx, bound)
				checkClose(t, isa.String()+" dw", got.dw, c.dw, bound)
				continue
			}
			if !slices.Equal(got.y, first.y) || !slices.Equal(got.dx, first.dx) || !slices.Equal(got.packed, first.packed) {
				t.Errorf("%v: results differ between 1 and %d threads", isa, threads)
			}
		}
		if c.n > 1 {
			got := c.run(t, testMachine(t, isa, 2), 1)
			if !slices.Equal(got.y, first.y[:len(got.y)]) || !slices.Equal(got.dx, first.dx[:len(got.dx)]) {
				t.Errorf("%v: a sample's result depends on the batch", isa)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func cube(n int) [3]int { return [3]int{n, n, n} }

func TestConvShapes(t *testing.T) {
	for _, tc := range []struct {
		name string
		spec ConvSpec
		n    int
	}{
		{"3 same", ConvSpec{In: Channels{32}, Out: Channels{32}, Size: [3]int{5, 6, 7}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 2},
		{"3 stride 2", ConvSpec{In: Channels{16}, Out: Channels{48}, Size: [3]int{5, 6, 7}, Kernel: cube(3), Stride: cube(2), Pad: cube(1)}, 2},
		{"3 odd channels", ConvSpec{In: Channels{12, 5}, Out: Channels{3, 20}, Size: [3]int{4, 5, 9}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 1},
		{"3 on one voxel, batch", ConvSpec{In: Channels{40}, Out: Channels{33}, Size: cube(1), Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 9},
		{"3 on two voxels, batch", ConvSpec{In: Channels{32}, Out: Channels{32}, Size: cube(2), Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 17},
		{"3 stride 2 on two voxels", ConvSpec{In: Channels{16}, Out: Channels{16}, Size: cube(2), Kernel: cube(3), Stride: cube(2), Pad: cube(1)}, 11},
		{"1", ConvSpec{In: Channels{64, 12}, Out: Channels{48}, Size: [3]int{3, 4, 5}, Kernel: cube(1), Stride: cube(1)}, 3},
		{"1 stride 2", ConvSpec{In: Channels{32}, Out: Channels{64}, Size: [3]int{5, 4, 7}, Kernel: cube(1), Stride: cube(2)}, 2},
		{"pad beyond map", ConvSpec{In: Channels{8}, Out: Channels{8}, Size: [3]int{1, 2, 1}, Kernel: [3]int{3, 5, 3}, Stride: cube(1), Pad: [3]int{3, 4, 2}}, 2},
		{"anisotropic", ConvSpec{In: Channels{20}, Out: Channels{17}, Size: [3]int{6, 9, 8}, Kernel: [3]int{1, 4, 3}, Stride: [3]int{3, 1, 2}, Pad: [3]int{0, 2, 1}}, 2},
		{"stride beyond kernel", ConvSpec{In: Channels{16}, Out: Channels{16}, Size: [3]int{7, 8, 9}, Kernel: cube(2), Stride: cube(3)}, 1},
		{"many blocks", ConvSpec{In: Channels{400}, Out: Channels{30}, Size: [3]int{2, 3, 3}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 1},
		{"large weights", ConvSpec{In: Channels{286}, Out: Channels{150}, Size: [3]int{2, 2, 1}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 2},
		{"small map, sums in two parts", ConvSpec{In: Channels{530}, Out: Channels{20}, Size: [3]int{2, 3, 2}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 3},
		{"small map, two parts backward", ConvSpec{In: Channels{20}, Out: Channels{530}, Size: [3]int{3, 4, 3}, Kernel: cube(3), Stride: cube(2), Pad: cube(1)}, 3},
		{"small map, several groups of rows", ConvSpec{In: Channels{130}, Out: Channels{18}, Size: [3]int{4, 5, 4}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 4},
		{"above the small map", ConvSpec{In: Channels{16}, Out: Channels{16}, Size: [3]int{8, 9, 9}, Kernel: cube(3), Stride: cube(1), Pad: cube(1)}, 2},
		{"long row", ConvSpec{In: Channels{4}, Out: Channels{4}, Size: [3]int{1, 2, 450}, Kernel: [3]int{1, 1, 70}, Stride: [3]int{1, 1, 3}, Pad: [3]int{0, 0, 30}}, 1},
		{"stem", ConvSpec{In: Channels{1}, Out: Channels{64}, PlainIn: true, Size: [3]int{9, 10, 13}, Kernel: cube(7), Stride: cube(2), Pad: cube(3)}, 2},
		{"stem, three channels", ConvSpec{In: Channels{3}, Out: Channels{24}, PlainIn: true, Size: [3]int{4, 6, 5}, Kernel: [3]int{3, 5, 3}, Stride: [3]int{1, 2, 1}, Pad: [3]int{1, 0, 4}}, 3},
		{"patches", ConvSpec{In: Channels{2}, Out: Channels{40}, PlainIn: true, Size: [3]int{8, 8, 33}, Kernel: [3]int{4, 4, 11}, Stride: [3]int{4, 4, 11}}, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			newConvCase(rand.New(rand.NewPCG(1, 2)), tc.spec, tc.n).check(t)
		})
	}
}

func TestConvRandomSpecs(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 7))
		s := ConvSpec{PlainIn: r.IntN(4) == 0}
		for range 1 + r.IntN(3) {
			s.In = append(s.In, 1+r.IntN(24))
			s.Out = append(s.Out, 1+r.IntN(24))
		}
		if s.PlainIn {
			s.In = Channels{1 + r.IntN(3)}
		}
		for a := range 3 {
			s.Size[a], s.Stride[a], s.Pad[a] = 1+r.IntN(8), 1+r.IntN(3), r.IntN(4)
			s.Kernel[a] = 1 + r.IntN(min(5, s.Size[a]+2*s.Pad[a]))
		}
		n := 1 + r.IntN(3)
		if volume3(s.OutSize()) < 9 {
			n = 1 + r.IntN(15)
		}
		t.Run(fmt.Sprintf("%d", seed), func(t *testing.T) {
			newConvCase(r, s, n).check(t)
			if t.Failed() {
				t.Logf("%+v, batch %d", s, n)
			}
		})
	}
}
