package augment

import (
	"math"

	"github.com/ctclass/ctclass/internal/rng"
)

// normals makes normally distributed numbers out of 12 random bits each, by the quantiles in the middle of 4096
// equally likely pieces, scaled to a variance of 1. The largest is 3.67.
type normals struct{ quantile [4096]float32 }

func newNormals() *normals {
	n := &normals{}
	variance := 0.0
	at := func(i int) float64 { return math.Sqrt2 * math.Erfinv(2*(float64(i)+0.5)/4096-1) }
	for i := range n.quantile {
		variance += at(i) * at(i) / 4096
	}
	for i := range n.quantile {
		n.quantile[i] = float32(at(i) / math.Sqrt(variance))
	}
	return n
}

// perWord is how many numbers a random word of 64 bits gives.
const perWord = 5

// add adds noise to x, kept between lo and hi; the numbers are those of the stream of key, five of a word, from word
// first on.
func (n *normals) add(x []float32, key, first uint64, std, lo, hi float32) {
	for i := 0; i < len(x); i += perWord {
		bits := rng.At(key, first+uint64(i/perWord))
		for k := i; k < min(i+perWord, len(x)); k++ {
			x[k] = clamp(x[k]+float32(std*n.quantile[bits&4095]), lo, hi)
			bits >>= 12
		}
	}
}
