package jpeg2000

// sample is a coefficient: integer for the reversible transform, float for the other.
type sample interface{ int32 | float32 }

// inverseDWT undoes the wavelet transform (T.800, annex F). coefficients holds the bands of all resolutions,
// each resolution's in its upper left corner: low half first, in both directions. The result is written to
// out; low is a second buffer of its size. All have the stride of the last resolution's width.
//
// The rows of each resolution are transformed as they are spread to their final places; the columns then by
// whole rows, each lifting step some rows behind the one before, so that rows are met while in the cache.
func inverseDWT[T sample](resolutions []resolution, coefficients, out, low []T,
	interleave func(dst, low, high []T, odd int), lift func(rows [][]T, step, y int),
) {
	last := &resolutions[len(resolutions)-1]
	stride := last.x1 - last.x0
	rows := make([][]T, last.y1-last.y0)
	// The last result must land in out, and each goes to another buffer than the one before.
	from, to := low, out
	if len(resolutions)%2 != 0 {
		from, to = out, low
	}
	first := &resolutions[0]
	for y := range first.y1 - first.y0 {
		copy(from[y*stride:][:first.x1-first.x0], coefficients[y*stride:])
	}
	for r := 1; r < len(resolutions); r++ {
		below, res := &resolutions[r-1], &resolutions[r]
		w, h := res.x1-res.x0, res.y1-res.y0
		lowW, lowH := below.x1-below.x0, below.y1-below.y0
		oddX, oddY := res.x0&1, res.y0&1
		rows := rows[:h]
		for y := range h {
			rows[y] = to[y*stride:][:w]
		}
		spread := func(y int) {
			k := y / 2
			if (y+oddY)%2 == 0 {
				interleave(rows[y], from[k*stride:][:lowW], coefficients[k*stride+lowW:][:w-lowW], oddX)
			} else {
				c := coefficients[(lowH+k)*stride:][:w]
				interleave(rows[y], c[:lowW], c[lowW:], oddX)
			}
		}
		if h > 0 && w > 0 {
			columns(rows, oddY, spread, lift)
		}
		from, to = to, from
	}
}

// columns transforms all columns of rows. spread makes a row before its first use; lift does the given
// lifting step on row y.
func columns[T sample](rows [][]T, odd int, spread func(y int), lift func(rows [][]T, step, y int)) {
	h := len(rows)
	if h == 1 {
		spread(0)
		if odd != 0 {
			lift(rows, -1, 0)
		}
		return
	}
	// Step k works on low rows when k is even, on high rows when odd, and may do so on row y when step k-1 is
	// done with the rows next to y.
	const steps = 4
	for y := range h + steps {
		if y < h {
			spread(y)
		}
		for k := range steps {
			if at := y - 1 - k; at >= 0 && at < h && (at+odd+k)%2 == 0 {
				lift(rows, k, at)
			}
		}
	}
}

// around returns the rows above and below y, mirrored at the borders.
func around[T sample](rows [][]T, y int) (above, below []T) {
	above, below = rows[max(y-1, 1-y)], rows[y-1+2*min(1, len(rows)-1-y)]
	return above[:len(rows[y])], below[:len(rows[y])]
}

// lift53 is a lifting step of the reversible 5/3 transform on row y. Step -1 treats a single high row.
func lift53(rows [][]int32, step, y int) {
	row := rows[y]
	switch step {
	case -1:
		for x := range row {
			row[x] >>= 1
		}
	case 0:
		above, below := around(rows, y)
		for x := range row {
			row[x] -= (above[x] + below[x] + 2) >> 2
		}
	case 1:
		above, below := around(rows, y)
		for x := range row {
			row[x] += (above[x] + below[x]) >> 1
		}
	}
}

// Lifting coefficients of the 9/7 transform (T.800, table F.4), in the order of their undoing.
const (
	delta97 = 0.443506852043971
	gamma97 = 0.882911075530934
	beta97  = -0.052980118572961
	alpha97 = -1.586134342059924
)

// lift97 is a lifting step of the 9/7 transform on row y; gains are already in the coefficients.
func lift97(rows [][]float32, step, y int) {
	if step < 0 {
		return
	}
	row := rows[y]
	above, below := around(rows, y)
	factor := [...]float32{delta97, gamma97, beta97, alpha97}[step]
	for x := range row {
		row[x] -= factor * (above[x] + below[x])
	}
}

// interleave53 puts the low and high halves of a row together and undoes the 5/3 transform. odd says that
// the row begins with a high sample.
func interleave53(row, low, high []int32, odd int) {
	n := len(row)
	if n == 1 {
		if odd != 0 {
			row[0] = high[0] >> 1
		} else {
			row[0] = low[0]
		}
		return
	}
	if odd != 0 {
		// h0 l0 h1 l1 ...
		h, before := high[0], int32(0)
		for i, l := range low {
			next := h
			if i+1 < len(high) {
				next = high[i+1]
			}
			l -= (h + next + 2) >> 2
			if i == 0 {
				before = l
			}
			row[2*i] = h + (before+l)>>1
			row[2*i+1] = l
			h, before = next, l
		}
		if len(high) > len(low) {
			row[n-1] = h + before
		}
		return
	}
	// l0 h0 l1 h1 ...
	h := high[0]
	before := low[0] - (h+h+2)>>2
	row[0] = before
	rest := low[1:]
	out := row[1:]
	for i := 0; i < len(rest) && i+1 < len(high) && len(out) >= 2; i++ {
		next := high[i+1]
		l := rest[i] - (h+next+2)>>2
		out[0] = h + (before+l)>>1
		out[1] = l
		out = out[2:]
		h, before = next, l
	}
	if len(out) == 2 { // one more low sample than high ones
		l := rest[len(rest)-1] - (h+h+2)>>2
		out[0] = h + (before+l)>>1
		out[1] = l
	} else {
		out[0] = h + before
	}
}

// interleave97 puts the low and high halves of a row together and undoes the 9/7 transform, but for its
// gains.
func interleave97(row, low, high []float32, odd int) {
	for i, v := range low {
		row[2*i+odd] = v
	}
	for i, v := range high {
		row[2*i+1-odd] = v
	}
	n := len(row)
	if n == 1 {
		return
	}
	for k, factor := range [...]float32{delta97, gamma97, beta97, alpha97} {
		first := (odd + k) & 1
		if first == 0 {
			row[0] -= factor * 2 * row[1]
			first = 2
		}
		i := first
		for ; i+1 < n; i += 2 {
			row[i] -= factor * (row[i-1] + row[i+1])
		}
		if i < n {
			row[i] -= factor * 2 * row[i-1]
		}
	}
}
