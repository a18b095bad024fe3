package explain

// gradCAM is max(0, Σ_c w_c·a_c) over the channels of a feature map a (C, n), w_c the mean of the gradient over
// the map.
func gradCAM(a, gradient []float32, n int) []float64 {
	heat := make([]float64, n)
	for c := range len(a) / n {
		w := 0.0
		for _, g := range gradient[c*n:][:n] {
			w += float64(g)
		}
		w /= float64(n)
		for i, v := range a[c*n:][:n] {
			heat[i] += w * float64(v)
		}
	}
	return positive(heat)
}

// hiResCAM is max(0, Σ_c g_c·a_c) with the gradient g of each element.
func hiResCAM(a, gradient []float32, n int) []float64 {
	heat := make([]float64, n)
	for at, v := range a {
		heat[at%n] += float64(gradient[at]) * float64(v)
	}
	return positive(heat)
}

func positive(heat []float64) []float64 {
	for i, v := range heat {
		heat[i] = max(v, 0)
	}
	return heat
}
