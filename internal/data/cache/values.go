package cache

import (
	"fmt"
	"math"

	"github.com/x448/float16"
)

// Storage is how the voxels of a sample are kept.
type Storage string

// The storages. Every sample takes on the values of its storage, whether it comes from the cache or was just made.
const (
	// Int16 keeps 65536 even steps from the least to the greatest value of the sample: an error of at most 1/131070
	// of that range (0.011 HU of a window of 1400 HU), none at all for whole numbers that span less than 65536.
	Int16 Storage = "int16"
	// Float16 keeps 11 significant bits: a relative error of at most 1/2048. A sample with values beyond 65504 is
	// kept as Float32.
	Float16 Storage = "float16"
	// Float32 keeps every bit.
	Float32 Storage = "float32"
)

// encoding says how the values of one entry are written.
type encoding uint8

const (
	steps16 encoding = iota + 1 // lo + step*q, q from 0 to 65535
	half                        // IEEE 754 binary16
	single                      // IEEE 754 binary32
)

// width is the number of bytes of a value.
func (e encoding) width() int {
	if e == single {
		return 4
	}
	return 2
}

// packed is the values of a sample as they are stored, before compression.
type packed struct {
	encoding encoding
	lo, step float64 // of steps16
	n        int
	planes   []byte // see split
}

// pack rounds values to a storage.
func pack(x []float32, s Storage) packed {
	p := packed{encoding: single, n: len(x)}
	lo, hi, whole := spread(x)
	switch {
	case lo-lo != 0 || hi-hi != 0: // not finite: only the bits themselves will do
	case s == Int16:
		p.encoding, p.lo, p.step = steps16, lo, (hi-lo)/math.MaxUint16
		if whole && hi-lo <= math.MaxUint16 {
			p.step = 1
		}
	case s == Float16 && -lo <= maxHalf && hi <= maxHalf:
		p.encoding = half
	}
	switch p.encoding {
	case steps16:
		inverse := 0.0
		if p.step > 0 {
			inverse = 1 / p.step
		}
		p.planes = split16(len(x), func(q []uint16) {
			for i, v := range x {
				q[i] = uint16(math.RoundToEven((float64(v) - lo) * inverse))
			}
		})
	case half:
		p.planes = split16(len(x), func(q []uint16) {
			for i, v := range x {
				q[i] = float16.Fromfloat32(v).Bits()
			}
		})
	default:
		p.planes = split32(x)
	}
	return p
}

const maxHalf = 65504

// unpack writes the values into x, which has room for them.
func (p packed) unpack(x []float32) {
	switch p.encoding {
	case steps16:
		for i, q := range join16(p.planes) {
			x[i] = float32(p.lo + float64(p.step*float64(q)))
		}
	case half:
		for i, q := range join16(p.planes) {
			x[i] = float16.Frombits(q).Float32()
		}
	default:
		join32(p.planes, x)
	}
}

// spread returns the least and the greatest value, NaN when there is one, and whether all are whole numbers.
func spread(x []float32) (lo, hi float64, whole bool) {
	least, greatest, whole := float32(math.Inf(1)), float32(math.Inf(-1)), true
	for _, v := range x {
		if v != v {
			return math.NaN(), math.NaN(), false
		}
		least, greatest = min(least, v), max(greatest, v)
		whole = whole && v == float32(math.Floor(float64(v)))
	}
	return float64(least), float64(greatest), whole
}

// Neighbouring voxels differ by little. Stored are the differences of neighbours, all their low bytes first, so that
// the high ones, which are nearly always alike, compress to almost nothing.

// split16 returns the planes of n words, which fill writes.
func split16(n int, fill func(q []uint16)) []byte {
	q := make([]uint16, n)
	fill(q)
	planes := make([]byte, 2*n)
	low, high := planes[:n], planes[n:]
	before := uint16(0)
	for i, v := range q {
		d := v - before
		low[i], high[i] = byte(d), byte(d>>8)
		before = v
	}
	return planes
}

func join16(planes []byte) []uint16 {
	n := len(planes) / 2
	q := make([]uint16, n)
	low, high := planes[:n], planes[n:2*n]
	v := uint16(0)
	for i := range q {
		v += uint16(low[i]) | uint16(high[i])<<8
		q[i] = v
	}
	return q
}

func split32(x []float32) []byte {
	n := len(x)
	planes := make([]byte, 4*n)
	before := uint32(0)
	for i, v := range x {
		q := math.Float32bits(v)
		d := q - before
		planes[i], planes[n+i], planes[2*n+i], planes[3*n+i] = byte(d), byte(d>>8), byte(d>>16), byte(d>>24)
		before = q
	}
	return planes
}

func join32(planes []byte, x []float32) {
	n := len(planes) / 4
	q := uint32(0)
	for i := range n {
		q += uint32(planes[i]) | uint32(planes[n+i])<<8 | uint32(planes[2*n+i])<<16 | uint32(planes[3*n+i])<<24
		x[i] = math.Float32frombits(q)
	}
}

// ParseStorage returns the storage of that name.
func ParseStorage(name string) (Storage, error) {
	switch s := Storage(name); s {
	case Int16, Float16, Float32:
		return s, nil
	}
	return "", fmt.Errorf("data.cache.storage is %q: want %s, %s or %s", name, Int16, Float16, Float32)
}
