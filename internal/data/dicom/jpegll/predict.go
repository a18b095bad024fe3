package jpegll

// predictLeft turns differences into samples by the left neighbour. The first sample is given.
func predictLeft(row []uint16) {
	left := row[0]
	for i := 1; i < len(row); i++ {
		left += row[i]
		row[i] = left
	}
}

// predict turns the differences of a row into samples, in place, by a predictor of T.81, table H.1, from
// the samples a (left), b (above) and c (above left). The first sample is given. Sums are modulo 2^16 (H.2.1).
func predict(row, above []uint16, predictor int) {
	above = above[:len(row)]
	a, c := row[0], above[0]
	switch predictor {
	case 1:
		predictLeft(row)
	case 2:
		for i := 1; i < len(row); i++ {
			row[i] += above[i]
		}
	case 3:
		for i := 1; i < len(row); i++ {
			row[i] += above[i-1]
		}
	case 4:
		for i := 1; i < len(row); i++ {
			b := above[i]
			a += row[i] + b - c
			row[i], c = a, b
		}
	case 5:
		for i := 1; i < len(row); i++ {
			b := above[i]
			a += row[i] + uint16((int32(b)-int32(c))>>1)
			row[i], c = a, b
		}
	case 6:
		for i := 1; i < len(row); i++ {
			b := above[i]
			a = row[i] + b + uint16((int32(a)-int32(c))>>1)
			row[i], c = a, b
		}
	case 7:
		for i := 1; i < len(row); i++ {
			a = row[i] + uint16((uint32(a)+uint32(above[i]))>>1)
			row[i] = a
		}
	}
}
