package gunzip

import (
	"bytes"
	"io"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	litBits, distBits       = 11, 8      // that are looked up at once
	litEntries, distEntries = 8192, 4096 // of 143 and 15 links at most
	maxBits                 = 15
	litSymbols, distSymbols = 286, 30
	endOfBlock              = 256
)

// entry is what a code means: how many bits code and extra bits take, how many each of them, what it is, and a
// base: the literal, the length or distance without the extra bits, or where the table of a link starts.
type entry uint32

const (
	codeAt  = 6
	extraAt = 10
	baseAt  = 17

	isLiteral entry = 1 << 14
	isSpecial entry = 1 << 15 // end of the block, link or invalid
	isLink    entry = 1 << 16

	invalid = isSpecial
)

// extra returns the extra bits of e, which b starts with.
func (e entry) extra(b uint64) uint64 { return b & (1<<(e>>extraAt&15) - 1) }

// withCode returns e for a code of n bits.
func (e entry) withCode(n uint) entry { return e + entry(n<<codeAt+n) }

// litMeaning and distMeaning are the entries of the symbols without their codes.
var litMeaning, distMeaning = func() (lit [288]entry, dist [32]entry) {
	for i := range lit {
		lit[i] = invalid
	}
	for i := range 256 {
		lit[i] = isLiteral | entry(i)<<baseAt
	}
	lit[endOfBlock] = isSpecial | 1<<baseAt // any base, to differ from invalid
	base := 3
	for i := range 28 {
		extra := max(0, i/4-1)
		lit[257+i] = entry(base)<<baseAt | entry(extra<<extraAt+extra)
		base += 1 << extra
	}
	lit[285] = 258 << baseAt
	for i := range dist {
		dist[i] = invalid
	}
	base = 1
	for i := range distSymbols {
		extra := max(0, i/2-1)
		dist[i] = entry(base)<<baseAt | entry(extra<<extraAt+extra)
		base += 1 << extra
	}
	return lit, dist
}()

// lengthMeaning is likewise for the codes of lengths: the length, or 16 to 18 for repetitions.
var lengthMeaning = func() (m [19]entry) {
	for i := range m {
		m[i] = entry(i) << baseAt
	}
	for i, extra := range []int{2, 3, 7} {
		m[16+i] |= entry(extra<<extraAt + extra)
	}
	return m
}()

// tables are those of a block, for literals and lengths and for distances.
type tables struct {
	lit  [litEntries]entry
	dist [distEntries]entry
}

// set makes the tables from the lengths of the codes. It reports whether these are sound.
func (t *tables) set(lit, dist []uint8) bool {
	return build(t.lit[:], litBits, lit, litMeaning[:]) && build(t.dist[:], distBits, dist, distMeaning[:])
}

// fixed returns the tables of blocks without codes of their own.
var fixed = sync.OnceValue(func() *tables {
	var lit [288]uint8
	for i, part := range [][]uint8{lit[:144], lit[144:256], lit[256:280], lit[280:]} {
		for j := range part {
			part[j] = [4]uint8{8, 9, 7, 8}[i]
		}
	}
	t := new(tables)
	t.set(lit[:], bytes.Repeat([]byte{5}, 32))
	return t
})

// build makes a table that is looked up by primary bits, with links for longer codes. It reports whether the lengths
// are those of a complete code, of a single code of one bit or of none.
func build(table []entry, primary uint, lengths []uint8, meaning []entry) bool {
	var count [maxBits + 1]int
	for _, n := range lengths {
		count[n]++
	}
	count[0] = 0
	var code [maxBits + 2]uint // the next of each length
	used, longest := 0, uint(0)
	for n := uint(1); n <= maxBits; n++ {
		code[n+1] = (code[n] + uint(count[n])) << 1
		used += count[n] << (maxBits - n)
		if count[n] > 0 {
			longest = n
		}
	}
	if used != 1<<maxBits {
		if used != 0 && (used != 1<<(maxBits-1) || count[1] != 1) {
			return false
		}
		for i := range 1 << primary { // what has no code
			table[i] = invalid
		}
	}
	free := 1 << primary
	if longest > primary {
		for i := range table[:free] {
			table[i] = 0
		}
	}
	for symbol, length := range lengths {
		n := uint(length)
		if n == 0 {
			continue
		}
		reversed := uint(bits.Reverse16(uint16(code[n])) >> (16 - n))
		code[n]++
		e := meaning[symbol].withCode(n)
		if meaning[symbol] == invalid {
			e = invalid
		}
		if n <= primary {
			for i := reversed; i < 1<<primary; i += 1 << n {
				table[i] = e
			}
			continue
		}
		link := &table[reversed&(1<<primary-1)]
		if *link&isLink == 0 {
			// All codes of a link's table have lengths up to the longest one.
			*link = isSpecial | isLink | entry(free)<<baseAt | entry((longest-primary)<<extraAt)
			free += 1 << (longest - primary)
		}
		for i := reversed >> primary; i < 1<<(longest-primary); i += 1 << (n - primary) {
			table[uint(*link>>baseAt)+i] = e
		}
	}
	return true
}

// order is that in which the lengths of the codes for lengths are stored.
var order = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block.
func (r *Reader) readCodes() error {
	if err := r.need(14); err != nil {
		return err
	}
	lits, dists, n := int(r.take(5))+257, int(r.take(5))+1, int(r.take(4))+4
	if lits > litSymbols || dists > distSymbols {
		return r.corrupt()
	}
	var first [len(order)]uint8
	for _, i := range order[:n] {
		if err := r.need(3); err != nil {
			return err
		}
		first[i] = uint8(r.take(3))
	}
	if !build(r.own.dist[:], 7, first[:], lengthMeaning[:]) {
		return r.corrupt()
	}
	var lengths [litSymbols + distSymbols]uint8
	for i := 0; i < lits+dists; {
		r.refill()
		e, err := r.symbol(r.own.dist[:], 7)
		if err != nil {
			return err
		}
		symbol, repeat, value := int(e>>baseAt), 1, uint8(0)
		if symbol < 16 {
			value = uint8(symbol)
		} else {
			repeat = [3]int{3, 3, 11}[symbol-16] + int(r.take(uint(e>>extraAt&15)))
		}
		if symbol == 16 {
			if i == 0 {
				return r.corrupt()
			}
			value = lengths[i-1]
		}
		if i+repeat > lits+dists {
			return r.corrupt()
		}
		for range repeat {
			lengths[i] = value
			i++
		}
	}
	r.tables = &r.own
	if !r.own.set(lengths[:lits], lengths[lits:lits+dists]) {
		return r.corrupt()
	}
	return nil
}

// symbol reads the next code; its extra bits come next. It wants refill before it.
func (r *Reader) symbol(table []entry, primary uint) (entry, error) {
	e := table[r.bits&(1<<primary-1)]
	if e&isLink != 0 {
		e = table[uint64(e>>baseAt)+e.extra(r.bits>>primary)]
	}
	switch {
	case e == invalid:
		return 0, r.corrupt()
	case uint(e&63) > r.n:
		return 0, noEOF(r.inErr)
	}
	r.take(uint(e >> codeAt & 15))
	return e, nil
}

// value reads the extra bits of a length or distance.
func (r *Reader) value(e entry) int { return int(e>>baseAt) + int(r.take(uint(e>>extraAt&15))) }

func (r *Reader) corrupt() error {
	return flate.CorruptInputError(r.base + int64(r.pos) - int64(r.n>>3))
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
