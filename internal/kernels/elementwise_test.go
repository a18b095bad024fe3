package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// logical is an array [n][c][d][h][w] in float64, what the kernels are compared with.
type logical struct {
	n, c, d, h, w int
	v             []float64
}

func newLogical(n, c, d, h, w int) logical {
	return logical{n, c, d, h, w, make([]float64, n*c*d*h*w)}
}

func (a logical) at(n, c, d, h, w int) *float64 {
	return &a.v[(((n*a.c+c)*a.d+d)*a.h+h)*a.w+w]
}

func randomLogical(r *rand.Rand, n, c, d, h, w int) logical {
	a := newLogical(n, c, d, h, w)
	for i := range a.v {
		a.v[i] = float64(float32(r.NormFloat64()))
	}
	return a
}

func (a logical) plain() []float32 {
	p := make([]float32, len(a.v))
	for i, v := range a.v {
		p[i] = float32(v)
	}
	return p
}

// newTestMap returns a map that is a view into a larger one whose other blocks hold NaN, and a function
// that checks that they still do.
func newTestMap(t *testing.T, ch Channels, n, d, h, w int) (Map, func()) {
	t.Helper()
	cb := ch.Blocks()
	size := cb * d * h * w * Block
	guard := d * h * w * Block
	whole := make([]float32, n*(size+guard))
	nan := float32(math.NaN())
	for i := range whole {
		whole[i] = nan
	}
	m := Map{Data: whole, N: n, CB: cb, D: d, H: h, W: w, Stride: size + guard}
	return m, func() {
		t.Helper()
		for i := range n {
			for _, v := range whole[i*m.Stride+size : (i+1)*m.Stride] {
				if v == v {
					t.Fatalf("sample %d: wrote behind the view", i)
				}
			}
		}
	}
}

// blocked places a in a strided map element by element, without FromPlain.
func (a logical) blocked(t *testing.T, ch Channels) Map {
	m, _ := newTestMap(t, ch, a.n, a.d, a.h, a.w)
	for n := range a.n {
		for cb := range m.CB {
			clear(m.block(n, cb).F32)
		}
		for c, phys := range ch.Physical() {
			for i := range a.d * a.h * a.w {
				m.Data[n*m.Stride+(phys/Block*a.d*a.h*a.w+i)*Block+phys%Block] = float32(a.v[(n*a.c+c)*a.d*a.h*a.w+i])
			}
		}
	}
	return m
}

// wantMap compares a map with the expected logical values and checks that the other lanes are zero.
func wantMap(t *testing.T, what string, m Map, ch Channels, want logical, tol float64) {
	t.Helper()
	voxels := m.D * m.H * m.W
	logicalOf := make(map[int]int)
	for c, phys := range ch.Physical() {
		logicalOf[phys] = c
	}
	for n := range m.N {
		for phys := range m.CB * Block {
			c, ok := logicalOf[phys]
			for i := range voxels {
				got := float64(m.Data[n*m.Stride+(phys/Block*voxels+i)*Block+phys%Block])
				exp := 0.0
				if ok {
					exp = want.v[(n*want.c+c)*voxels+i]
				}
				if !near(got, exp, tol) {
					t.Fatalf("%s: sample %d physical channel %d voxel %d: got %v, want %v", what, n, phys, i, got, exp)
				}
			}
		}
	}
}

// near reports whether got is within tol of want, relative to max(1, |want|).
func near(got, want, tol float64) bool {
	return math.Abs(got-want) <= tol*max(1, math.Abs(want))
}

func wantFlat(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i, v := range want {
		if !near(float64(got[i]), v, tol) {
			t.Fatalf("%s: element %d: got %v, want %v", what, i, got[i], v)
		}
	}
}

// mapCase is a shape and channel layout of a blocked map.
type mapCase struct {
	n       int
	ch      Channels
	d, h, w int
}

func (c mapCase) String() string {
	return fmt.Sprintf("%dx%v,%dx%dx%d", c.n, []int(c.ch), c.d, c.h, c.w)
}

func (c mapCase) random(r *rand.Rand) logical {
	return randomLogical(r, c.n, c.ch.Count(), c.d, c.h, c.w)
}

// mapCases returns fixed corner cases and a few random ones.
func mapCases(r *rand.Rand) []mapCase {
	cases := []mapCase{
		{1, Channels{1}, 1, 1, 1},
		{3, Channels{16}, 1, 1, 1},
		{2, Channels{5, 20}, 3, 5, 7},
		{1, Channels{32}, 8, 9, 10},
		{2, Channels{12}, 1, 2, 33},
		{1, Channels{16}, 17, 17, 17}, // more than one span
	}
	for range 3 {
		cases = append(cases, mapCase{1 + r.IntN(3), Channels{1 + r.IntN(20), 1 + r.IntN(33)}, 1 + r.IntN(6), 1 + r.IntN(9), 1 + r.IntN(12)})
	}
	return cases
}

// eachMachine runs f as a sub-test on every instruction set. f returns all it computed; with 1 and with 3
// threads that must be the same to the bit.
func eachMachine(t *testing.T, f func(t *testing.T, m *Machine) [][]float32) {
	for _, isa := range Supported() {
		t.Run(isa.String(), func(t *testing.T) {
			var first [][]float32
			for _, threads := range []int{1, 2, 3, 7} {
				m := NewMachine(threads)
				m.ISA = isa
				got := f(t, m)
				m.Close()
				if first == nil {
					first = got
				}
				for i := range got {
					same := slices.EqualFunc(got[i], first[i], func(a, b float32) bool {
						return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
					})
					if !same {
						t.Fatalf("output %d differs between 1 and %d threads", i, threads)
					}
				}
			}
		})
	}
}

// eachMap is eachMachine over mapCases, with the same random numbers for every machine.
func eachMap(t *testing.T, f func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32) {
	for i, c := range mapCases(rand.New(rand.NewPCG(1, 2))) {
		t.Run(c.String(), func(t *testing.T) {
			eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
				return f(t, m, rand.New(rand.NewPCG(3, uint64(i))), c)
			})
		})
	}
}

func relu(v float64) float64 { return max(v, 0) }

func TestElementwiseMaps(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a, b, g := c.random(r), c.random(r), c.random(r)
		ma, mb, mg := a.blocked(t, c.ch), b.blocked(t, c.ch), g.blocked(t, c.ch)
		y, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)

		sum, act, back, addRelu, three := c.random(r), c.random(r), c.random(r), c.random(r), c.random(r)
		for i := range a.v {
			sum.v[i] = a.v[i] + b.v[i]
			addRelu.v[i] = relu(sum.v[i])
			act.v[i] = relu(a.v[i])
			back.v[i] = 0
			if act.v[i] > 0 {
				back.v[i] = g.v[i]
			}
			three.v[i] = a.v[i] + b.v[i] + g.v[i]
		}
		m.Add(ma, mb, y, false)
		wantMap(t, "Add", y, c.ch, sum, 1e-6)
		m.Add(ma, mb, y, true)
		wantMap(t, "Add+ReLU", y, c.ch, addRelu, 1e-6)
		m.Sum(y, ma, mb, mg)
		wantMap(t, "Sum", y, c.ch, three, 1e-6)
		m.Sum(y, ma)
		wantMap(t, "Sum of one", y, c.ch, a, 0)
		m.ReLU(ma, y)
		wantMap(t, "ReLU", y, c.ch, act, 0)
		dx, guard2 := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
		m.ReLUBackward(y, mg, dx)
		wantMap(t, "ReLUBackward", dx, c.ch, back, 0)
		m.ReLUBackward(y, mg, mg)
		wantMap(t, "ReLUBackward in place", mg, c.ch, back, 0)
		m.ReLU(ma, ma)
		wantMap(t, "ReLU in place", ma, c.ch, act, 0)
		guard()
		guard2()
		return [][]float32{y.Data, dx.Data}
	})
}

func TestFlat(t *testing.T) {
	for _, n := range []int{1, 15, 16, 17, 100, 16*ewSpan + 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
				r := rand.New(rand.NewPCG(5, uint64(n)))
				a, b := randomLogical(r, 1, 1, 1, 1, n), randomLogical(r, 1, 1, 1, 1, n)
				want := make([]float64, n)
				expect := func(f func(a, b float64) float64) []float64 {
					for i := range want {
						want[i] = f(a.v[i], b.v[i])
					}
					return want
				}
				x, z, y := a.plain(), b.plain(), make([]float32, n)
				m.SumFlat(Floats(y), Floats(x), Floats(z))
				wantFlat(t, "SumFlat", y, expect(func(a, b float64) float64 { return a + b }), 1e-6)
				m.SumFlat(Floats(y), Floats(x), Floats(z), Floats(x))
				wantFlat(t, "SumFlat of three", y, expect(func(a, b float64) float64 { return a + b + a }), 1e-6)
				m.Scale(Floats(x), 1.5, Floats(y))
				wantFlat(t, "Scale", y, expect(func(a, b float64) float64 { return 1.5 * a }), 1e-7)
				m.Axpy(2, z, y)
				wantFlat(t, "Axpy", y, expect(func(a, b float64) float64 { return 1.5*a + 2*b }), 1e-6)
				m.ReLUFlat(Floats(x), Floats(y))
				wantFlat(t, "ReLUFlat", y, expect(func(a, b float64) float64 { return relu(a) }), 0)
				m.ReLUBackwardFlat(Floats(y), Floats(z), Floats(z))
				back := func(a, b float64) float64 {
					if a > 0 {
						return b
					}
					return 0
				}
				wantFlat(t, "ReLUBackwardFlat", z, expect(back), 0)
				var sq float64
				for _, v := range a.v {
					sq += v * v
				}
				got := m.SumSquares(x)
				if !near(got/sq, 1, 1e-6) {
					t.Fatalf("SumSquares: got %v, want %v", got, sq)
				}
				return [][]float32{y, z, {float32(got)}}
			})
		})
	}
}

func TestReLUKeepsNaN(t *testing.T) {
	eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
		x := make([]float32, 33)
		for i := range x {
			x[i] = float32(math.NaN())
		}
		m.ReLUFlat(Floats(x), Floats(x))
		for i, v := range x {
			if v == v {
				t.Fatalf("element %d: ReLU(NaN) = %v", i, v)
			}
		}
		return nil
	})
}

func TestColumns(t *testing.T) {
	for _, size := range [][2]int{{1, 1}, {3, 16}, {200, 37}, {65, 1040}, {2100, 5}} {
		rows, cols := size[0], size[1]
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			eachMachine(t, func(t *testing.T, m *Machine) [][]float32 {
				r := rand.New(rand.NewPCG(7, uint64(rows)))
				a := randomLogical(r, 1, 1, 1, rows, cols)
				x, out, sum := a.plain(), make([]float32, cols), make([]float64, cols)
				for i, v := range a.v {
					sum[i%cols] += v
				}
				m.ColumnSum(Floats(x), rows, cols, out)
				wantFlat(t, "ColumnSum", out, sum, 1e-5)
				return [][]float32{out}
			})
		})
	}
}

func TestDropout(t *testing.T) {
	// The first outputs of SplitMix64 seeded with 1234567, as published with the reference code.
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423} {
		if got := splitmix64(1234567 + uint64(i+1)*0x9e3779b97f4a7c15); got != want {
			t.Fatalf("splitmix64 output %d: got %d, want %d", i, got, want)
		}
	}
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a := c.random(r)
		keys := make([]uint64, c.n)
		for i := range keys {
			keys[i] = r.Uint64()
		}
		cols := len(a.v) / c.n
		y := make([]float32, len(a.v))
		m.Dropout(Floats(a.plain()), Floats(y), c.n, cols, 0.3, keys)
		want := a
		want.v = make([]float64, len(a.v))
		kept := 0
		for i, v := range y {
			want.v[i] = float64(v)
			if v != 0 {
				kept++
				if !near(float64(v), a.v[i]/float64(1-float32(0.3)), 1e-6) {
					t.Fatalf("element %d: got %v from %v", i, v, a.v[i])
				}
			}
		}
		if n := float64(len(y)); math.Abs(float64(kept)-0.7*n) > 5*math.Sqrt(0.21*n)+1 {
			t.Fatalf("kept %d of %v with p = 0.3", kept, n)
		}
		x := a.blocked(t, c.ch)
		m.DropoutMap(x, c.ch, x, 0.3, keys)
		wantMap(t, "DropoutMap", x, c.ch, want, 0)
		last := make([]float32, cols)
		m.Dropout(Floats(a.plain()[(c.n-1)*cols:]), Floats(last), 1, cols, 0.3, keys[c.n-1:])
		if !slices.Equal(last, y[(c.n-1)*cols:]) {
			t.Fatal("a row's mask depends on the other rows")
		}
		m.Dropout(Floats(last), Floats(last), 1, cols, 1, keys)
		if slices.ContainsFunc(last, func(v float32) bool { return v != 0 }) {
			t.Fatal("p = 1 kept an element")
		}
		return [][]float32{y, x.Data}
	})
}

func TestLayoutConversion(t *testing.T) {
	eachMap(t, func(t *testing.T, m *Machine, r *rand.Rand, c mapCase) [][]float32 {
		a := c.random(r)
		x, guard := newTestMap(t, c.ch, c.n, c.d, c.h, c.w)
		m.FromPlain(a.plain(), c.ch, x)
		wantMap(t, "FromPlain", x, c.ch, a, 0)
		guard()
		back := make([]float32, len(a.v))
		m.ToPlain(x, c.ch, back)
		wantFlat(t, "ToPlain", back, a.v, 0)
		return [][]float32{x.Data, back}
	})
}
