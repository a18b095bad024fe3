package data

// flip reverses a sample [d][h][w] along the given axes, in place.
func flip(x []float32, shape [3]int, axes [3]bool) {
	y := append([]float32(nil), x[:shape[0]*shape[1]*shape[2]]...)
	i := 0
	for d := range shape[0] {
		for h := range shape[1] {
			for w := range shape[2] {
				at := [3]int{d, h, w}
				for a := range at {
					if axes[a] {
						at[a] = shape[a] - 1 - at[a]
					}
				}
				x[i] = y[(at[0]*shape[1]+at[1])*shape[2]+at[2]]
				i++
			}
		}
	}
}
