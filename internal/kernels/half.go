package kernels

import "math"

// Hybrid precision stores activations as bfloat16, the upper half of a float32, and computes in float32: kernels widen
// what they read piece by piece, small enough for the pieces to stay in the first-level cache, and round what they write
// to the nearest bfloat16, a tie to even.

// Vec is a vector of activations: float32, or bfloat16 where Half is not nil.
type Vec struct {
	F32  []float32
	Half []uint16
}

// Floats returns x as a vector.
func Floats(x []float32) Vec { return Vec{F32: x} }

// Len returns the number of values.
func (v Vec) Len() int { return max(len(v.F32), len(v.Half)) }

// Slice returns the values [lo, hi).
func (v Vec) Slice(lo, hi int) Vec {
	if v.Half != nil {
		return Vec{Half: v.Half[lo:hi:hi]}
	}
	return Vec{F32: v.F32[lo:hi:hi]}
}

// Same reports whether both begin at the same place in memory.
func (v Vec) Same(o Vec) bool {
	if v.Half != nil || o.Half != nil {
		return len(v.Half) > 0 && len(o.Half) > 0 && &v.Half[0] == &o.Half[0]
	}
	return len(v.F32) > 0 && len(o.F32) > 0 && &v.F32[0] == &o.F32[0]
}

// Clear sets all values to zero.
func (v Vec) Clear() {
	clear(v.F32)
	clear(v.Half)
}

// Copy copies o, of the same type, to the beginning of v.
func (v Vec) Copy(o Vec) {
	copy(v.F32, o.F32)
	copy(v.Half, o.Half)
}

// widenBF16 returns the value of a bfloat16.
func widenBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// narrowBF16 rounds to the nearest bfloat16, a tie to even; a NaN stays one.
func narrowBF16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

func ewWiden(y []float32, x []uint16) {
	for i, h := range x[:len(y)] {
		y[i] = widenBF16(h)
	}
}

func ewNarrow(y []uint16, x []float32) {
	for i, v := range x[:len(y)] {
		y[i] = narrowBF16(v)
	}
}

// widenAll sets y to x.
func (k *ewTable) widenAll(y []float32, x []uint16) {
	whole := len(y) / Block * Block
	k.widen(y[:whole], x[:whole])
	ewWiden(y[whole:], x[whole:])
}

// narrowAll rounds x to y.
func (k *ewTable) narrowAll(y []uint16, x []float32) {
	whole := len(y) / Block * Block
	k.narrow(y[:whole], x[:whole])
	ewNarrow(y[whole:], x[whole:])
}

// Widen sets y to the values of x.
func (m *Machine) Widen(y []float32, x []uint16) {
	k := m.ewTable()
	m.ewFlat(len(y), func(lo, hi int, _ bool) { k.widenAll(y[lo:hi], x[lo:hi]) })
}

// Narrow rounds x to y.
func (m *Machine) Narrow(y []uint16, x []float32) {
	k := m.ewTable()
	m.ewFlat(len(y), func(lo, hi int, _ bool) { k.narrowAll(y[lo:hi], x[lo:hi]) })
}

// stagePiece is the number of values that a stage usually takes at a time: 16 KiB of float32.
const stagePiece = ewChunk * Block

// stage is where a worker's pieces of bfloat16 data lie while kernels work on them in float32. What is float32 already
// passes it by.
type stage struct {
	k       *ewTable
	buffers [][]float32
	used    int
	out     []staged
}

// staged is a piece on its way back.
type staged struct {
	to   []uint16
	from []float32
}

// stage returns that of a worker.
func (m *Machine) stage(worker int) *stage {
	s := &m.stages[worker]
	s.k = m.ewTable()
	return s
}

// buffer returns memory for n values until done.
func (s *stage) buffer(n int) []float32 {
	if s.used == len(s.buffers) {
		s.buffers = append(s.buffers, nil)
	}
	b := &s.buffers[s.used]
	s.used++
	if len(*b) < n {
		*b = make([]float32, max(n, stagePiece))
	}
	return (*b)[:n:n]
}

// read returns the values [lo, hi) of v.
func (s *stage) read(v Vec, lo, hi int) []float32 {
	if v.Half == nil {
		return v.F32[lo:hi:hi]
	}
	b := s.buffer(hi - lo)
	s.k.widenAll(b, v.Half[lo:hi])
	return b
}

// write returns where the values [lo, hi) of v are to be written; done takes them there.
func (s *stage) write(v Vec, lo, hi int) []float32 {
	if v.Half == nil {
		return v.F32[lo:hi:hi]
	}
	b := s.buffer(hi - lo)
	s.out = append(s.out, staged{v.Half[lo:hi], b})
	return b
}

// done takes what was written to its place and frees the buffers.
func (s *stage) done() {
	for _, o := range s.out {
		s.k.narrowAll(o.to, o.from)
	}
	s.out, s.used = s.out[:0], 0
}

// CopyMap copies a map to one of the same form and either type.
func (m *Machine) CopyMap(x, y Map) {
	shape := x
	if y.Half != nil {
		shape = y
	}
	m.ewMaps(shape, func(s *stage, n, lo, hi int) {
		from, to := x.sample(n), y.sample(n)
		switch {
		case to.Half != nil && from.Half == nil:
			s.k.narrowAll(to.Half[lo:hi], from.F32[lo:hi])
		case from.Half != nil && to.Half == nil:
			s.k.widenAll(to.F32[lo:hi], from.Half[lo:hi])
		default:
			to.Slice(lo, hi).Copy(from.Slice(lo, hi))
		}
	})
}
