package jpegdct

import (
	"errors"
	"fmt"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegmark"
)

// band is what a scan codes: the coefficients from start to end in the order of zigzag, down to bit low.
type band struct {
	start, end int
	high, low  int // high is 0 in the first scan of a band, else the bit that was reached before
}

// scan reads a scan header (T.81, B.2.3) and the data that follow it.
func (d *decoder) scan(s []byte) error {
	if !d.frame {
		return errors.New("JPEG image data before the frame header")
	}
	if len(s) != 6 || s[0] != 1 {
		return errors.New("malformed JPEG scan header")
	}
	if s[1] != d.component || s[2]>>4 > 3 || s[2]&15 > 3 {
		return errors.New("a JPEG scan of an unknown component or table")
	}
	dc, ac := d.huffman[0][s[2]>>4], d.huffman[1][s[2]&15]
	b := band{int(s[3]), int(s[4]), int(s[5] >> 4), int(s[5] & 15)}
	if !d.hasQuant[d.table] {
		return fmt.Errorf("JPEG quantisation table %d is missing", d.table)
	}
	if d.progressive {
		return d.progressiveScan(b, dc, ac)
	}
	return d.sequentialScan(b, dc, ac)
}

func (d *decoder) sequentialScan(b band, dc, ac *huffman) error {
	switch {
	case d.scanned:
		return errors.New("a second scan in a sequential JPEG image of one component")
	case dc == nil || ac == nil:
		return errNoTable
	case b != band{0, 63, 0, 0}:
		return errors.New("malformed JPEG scan header")
	}
	d.img.Pix = make([]uint16, d.img.Width*d.img.Height)
	t := newTransform(d.img.Bits)
	quant := &d.quant[d.table]
	previous := 0
	return d.eachBlock(func(block int, fresh bool) error {
		if fresh {
			previous = 0
		}
		clear(t.block[:])
		if err := d.sequential(t, quant, dc, ac, &previous); err != nil {
			return err
		}
		d.put(t, block)
		return nil
	})
}

func (d *decoder) progressiveScan(b band, dc, ac *huffman) error {
	if err := d.enter(b); err != nil {
		return err
	}
	if b.start == 0 && b.high == 0 && dc == nil || b.start > 0 && ac == nil {
		return errNoTable
	}
	if d.coeffs == nil {
		d.coeffs = make([]int16, 64*d.across*d.down)
	}
	previous, eobRun := 0, 0
	err := d.eachBlock(func(block int, fresh bool) error {
		if fresh {
			if eobRun > 0 {
				return errEndRun
			}
			previous = 0
		}
		c := d.coeffs[64*block : 64*block+64 : 64*block+64]
		switch {
		case b.start == 0 && b.high == 0:
			return d.firstDC(c, dc, &previous, b.low)
		case b.start == 0:
			d.refineDC(c, b.low)
			return nil
		case b.high == 0:
			return d.firstAC(c, ac, b, &eobRun)
		}
		return d.refineAC(c, ac, b, &eobRun)
	})
	if err == nil && eobRun > 0 {
		return errEndRun
	}
	return err
}

// eachBlock decodes the blocks of a scan in their order; fresh says that a block begins a restart interval.
func (d *decoder) eachBlock(decode func(block int, fresh bool) error) error {
	d.scanned = true
	d.bits.start(d.src)
	for block := range d.across * d.down {
		fresh := block == 0
		if d.restart > 0 && block > 0 && block%d.restart == 0 {
			if err := d.nextInterval(byte(block/d.restart-1) & 7); err != nil {
				return err
			}
			fresh = true
		}
		if err := decode(block, fresh); err != nil {
			return err
		}
		if d.bits.ran() {
			return jpegmark.ErrCut
		}
	}
	err := d.bits.finish()
	d.src = d.src[d.bits.pos:]
	return err
}

var (
	errNoTable = errors.New("a JPEG Huffman table is missing")
	errEndRun  = errors.New("the JPEG stream is damaged: a run of blocks goes beyond the last one")
)

// nextInterval moves behind the restart marker of the given number.
func (d *decoder) nextInterval(number byte) error {
	if err := d.bits.finish(); err != nil {
		return err
	}
	d.src = d.src[d.bits.pos:]
	m, err := d.src.Marker()
	if err != nil {
		return err
	}
	if m != jpegmark.RST0+number {
		return errors.New("the JPEG stream is damaged: a restart marker is missing")
	}
	d.bits.start(d.src)
	return nil
}

// enter checks that a progressive scan follows on those before it (T.81, G.1.1.1).
func (d *decoder) enter(b band) error {
	if b.start > b.end || b.end > 63 || b.start == 0 && b.end != 0 || b.low > 13 || b.high != 0 && b.high != b.low+1 {
		return errors.New("malformed header of a progressive JPEG scan")
	}
	before := -1
	if b.high > 0 {
		before = b.high
	}
	for k := b.start; k <= b.end; k++ {
		if d.reached[k] != before {
			return errors.New("the scans of a progressive JPEG image do not follow on each other")
		}
		d.reached[k] = b.low
	}
	if b.start > 0 && d.reached[0] < 0 {
		return errors.New("the scans of a progressive JPEG image do not begin with the DC coefficients")
	}
	return nil
}

var errMagnitude = errors.New("the JPEG stream is damaged: a coefficient is out of range")

// difference decodes a DC coefficient relative to the previous one.
func (d *decoder) difference(h *huffman, previous *int) error {
	r := &d.bits
	r.fill()
	s := r.code(h)
	if s < 0 {
		return errHuffman
	}
	if s > 15 {
		return errMagnitude
	}
	*previous += r.signed(s)
	if *previous < -1<<15 || *previous >= 1<<15 {
		return errMagnitude
	}
	return nil
}

// sequential decodes a block into t.block, dequantised.
func (d *decoder) sequential(t *transform, quant *[64]int32, dc, ac *huffman, previous *int) error {
	if err := d.difference(dc, previous); err != nil {
		return err
	}
	t.block[0] = int32(*previous) * quant[0]
	r := &d.bits
	for k := 1; k < 64; k++ {
		r.fill()
		rs := r.code(ac)
		if rs < 0 {
			return errHuffman
		}
		run, s := rs>>4, rs&15
		if s == 0 {
			if run != 15 {
				return nil
			}
			k += 15
			continue
		}
		k += run
		if k > 63 {
			return errMagnitude
		}
		t.block[zigzag[k]] = int32(r.signed(s)) * quant[k]
	}
	return nil
}

func (d *decoder) firstDC(c []int16, h *huffman, previous *int, low int) error {
	if err := d.difference(h, previous); err != nil {
		return err
	}
	v := *previous << low
	c[0] = int16(v)
	if int(c[0]) != v {
		return errMagnitude
	}
	return nil
}

func (d *decoder) refineDC(c []int16, low int) {
	d.bits.fill()
	c[0] |= int16(d.bits.take(1) << low)
}

func (d *decoder) firstAC(c []int16, h *huffman, b band, eobRun *int) error {
	if *eobRun > 0 {
		*eobRun--
		return nil
	}
	r := &d.bits
	for k := b.start; k <= b.end; k++ {
		r.fill()
		rs := r.code(h)
		if rs < 0 {
			return errHuffman
		}
		run, s := rs>>4, rs&15
		if s == 0 {
			if run != 15 {
				*eobRun = 1<<run + r.take(run) - 1
				return nil
			}
			k += 15
			continue
		}
		k += run
		if k > b.end {
			return errMagnitude
		}
		v := r.signed(s) << b.low
		c[zigzag[k]] = int16(v)
		if int(int16(v)) != v {
			return errMagnitude
		}
	}
	return nil
}

// refineAC adds one bit to each coefficient of a band (T.81, G.1.2.3): coefficients that are not zero yet
// get a correction bit as they are passed; new ones are plus or minus that bit.
func (d *decoder) refineAC(c []int16, h *huffman, b band, eobRun *int) error {
	r := &d.bits
	bit := int16(1) << b.low
	correct := func(v *int16) {
		r.fill()
		if r.take(1) == 0 || *v&bit != 0 {
			return
		}
		if *v > 0 {
			*v += bit
		} else {
			*v -= bit
		}
	}
	k := b.start
	if *eobRun == 0 {
		for ; k <= b.end; k++ {
			r.fill()
			rs := r.code(h)
			if rs < 0 {
				return errHuffman
			}
			run, s := rs>>4, rs&15
			var fresh int16
			switch {
			case s == 1:
				fresh = bit
				if r.take(1) == 0 {
					fresh = -bit
				}
			case s != 0:
				return errMagnitude
			case run != 15:
				*eobRun = 1<<run + r.take(run)
			}
			if *eobRun > 0 {
				break
			}
			for ; k <= b.end; k++ {
				v := &c[zigzag[k]]
				if *v != 0 {
					correct(v)
					continue
				}
				if run == 0 {
					break
				}
				run--
			}
			if fresh != 0 {
				if k > b.end {
					return errMagnitude
				}
				c[zigzag[k]] = fresh
			}
		}
	}
	if *eobRun > 0 {
		for ; k <= b.end; k++ {
			if v := &c[zigzag[k]]; *v != 0 {
				correct(v)
			}
		}
		*eobRun--
	}
	return nil
}

// reconstruct turns the coefficients of a progressive image into samples.
func (d *decoder) reconstruct() {
	d.img.Pix = make([]uint16, d.img.Width*d.img.Height)
	var quant [64]int32
	for k, q := range d.quant[d.table] {
		quant[zigzag[k]] = q
	}
	t := newTransform(d.img.Bits)
	for block := range d.across * d.down {
		for i, v := range d.coeffs[64*block : 64*block+64] {
			t.block[i] = int32(v) * quant[i]
		}
		d.put(t, block)
	}
}

// put transforms t.block and writes what of it lies within the image.
func (d *decoder) put(t *transform, block int) {
	t.inverse()
	y, x := block/d.across*8, block%d.across*8
	w := min(8, d.img.Width-x)
	for row := range min(8, d.img.Height-y) {
		copy(d.img.Pix[(y+row)*d.img.Width+x:][:w], t.samples[8*row:8*row+8])
	}
}
