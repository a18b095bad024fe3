package kernels

import "math"

// The inner loops in plain Go: the path without assembly and the definition the assembly is tested against.

func ewLanes(x []float32) *[16]float32 { return (*[16]float32)(x) }

// ewStats returns per lane the float32 mean m of the span, the sum of x-m and the sum of (x-m)^2.
func ewStats(x []float32, out *[48]float32) {
	var s [16]float32
	for i := 0; i < len(x); i += 16 {
		for l, v := range ewLanes(x[i:]) {
			s[l] += v
		}
	}
	inv := 1 / float32(len(x)/16)
	var d, q [16]float32
	for l := range s {
		s[l] *= inv
	}
	for i := 0; i < len(x); i += 16 {
		for l, v := range ewLanes(x[i:]) {
			e := v - s[l]
			d[l] += e
			q[l] += e * e
		}
	}
	copy(out[:], s[:])
	copy(out[16:], d[:])
	copy(out[32:], q[:])
}

// ewSum sums each lane.
func ewSum(x []float32, out *[16]float32) {
	*out = [16]float32{}
	for i := 0; i < len(x); i += 16 {
		for l, v := range ewLanes(x[i:]) {
			out[l] += v
		}
	}
}

// ewNorm sets y = max(x*scale + shift, floor).
func ewNorm(y, x, scale, shift []float32, floor float32, _ bool) {
	a, b := ewLanes(scale), ewLanes(shift)
	for i := 0; i < len(y); i += 16 {
		u, v := ewLanes(x[i:]), ewLanes(y[i:])
		for l := range v {
			v[l] = clampBelow(u[l]*a[l]+b[l], floor)
		}
	}
}

// ewNormAdd sets y = max(x*scale + shift + add, floor).
func ewNormAdd(y, x, add, scale, shift []float32, floor float32, _ bool) {
	a, b := ewLanes(scale), ewLanes(shift)
	for i := 0; i < len(y); i += 16 {
		u, v, w := ewLanes(x[i:]), ewLanes(y[i:]), ewLanes(add[i:])
		for l := range v {
			v[l] = clampBelow(u[l]*a[l]+b[l]+w[l], floor)
		}
	}
}

// clampBelow returns the larger of v and floor, and NaN for NaN.
func clampBelow(v, floor float32) float32 {
	if v < floor {
		return floor
	}
	return v
}

// ewReduce returns per lane the sums of dy and of dy*(x-mean).
func ewReduce(x, dy, mean []float32, out *[32]float32) {
	*out = [32]float32{}
	c := ewLanes(mean)
	for i := 0; i < len(x); i += 16 {
		u, g := ewLanes(x[i:]), ewLanes(dy[i:])
		for l, v := range g {
			out[l] += v
			out[16+l] += v * (u[l] - c[l])
		}
	}
}

// ewReduceMask is ewReduce over the elements where mask > 0.
func ewReduceMask(x, dy, mask, mean []float32, out *[32]float32) {
	*out = [32]float32{}
	c := ewLanes(mean)
	for i := 0; i < len(x); i += 16 {
		u, g, k := ewLanes(x[i:]), ewLanes(dy[i:]), ewLanes(mask[i:])
		for l, v := range g {
			if k[l] > 0 {
				out[l] += v
				out[16+l] += v * (u[l] - c[l])
			}
		}
	}
}

// ewBNBack sets dx (+)= scale*(dy'-dmean) + kx*(x-mean), dy' = dy where mask > 0, or (+)= scale*dy' without
// bnFull; variant is a sum of bnMasked, bnFull and bnAccumulate.
func ewBNBack(variant int, dx, dy, mask, x, scale, kx, mean, dmean []float32) {
	a := ewLanes(scale)
	for i := 0; i < len(dx); i += 16 {
		g, o := *ewLanes(dy[i:]), ewLanes(dx[i:])
		if variant&bnMasked != 0 {
			for l, k := range ewLanes(mask[i:]) {
				if !(k > 0) {
					g[l] = 0
				}
			}
		}
		if variant&bnFull != 0 {
			b, c, e, u := ewLanes(kx), ewLanes(mean), ewLanes(dmean), ewLanes(x[i:])
			for l := range g {
				// In float64: the products may cancel to a thousandth of themselves.
				g[l] = float32(float64(a[l])*float64(g[l]-e[l]) + float64(b[l])*float64(u[l]-c[l]))
			}
		} else {
			for l := range g {
				g[l] *= a[l]
			}
		}
		if variant&bnAccumulate != 0 {
			for l := range g {
				o[l] += g[l]
			}
		} else {
			*o = g
		}
	}
}

// ewReLU sets y = max(x, 0).
func ewReLU(y, x []float32, _ bool) {
	for i, v := range x[:len(y)] {
		y[i] = clampBelow(v, 0)
	}
}

// ewReLUBack sets dx = dy where y > 0, else 0.
func ewReLUBack(dx, dy, y []float32) {
	dy, y = dy[:len(dx)], y[:len(dx)]
	for i, v := range dy {
		if !(y[i] > 0) {
			v = 0
		}
		dx[i] = v
	}
}

// ewAdd sets y = max(a+b, floor).
func ewAdd(y, a, b []float32, floor float32, _ bool) {
	a, b = a[:len(y)], b[:len(y)]
	for i := range y {
		y[i] = clampBelow(a[i]+b[i], floor)
	}
}

// ewScale sets y = a*x.
func ewScale(y, x []float32, a float32) {
	for i, v := range x[:len(y)] {
		y[i] = a * v
	}
}

// ewAxpy sets y += a*x.
func ewAxpy(y, x []float32, a float32) {
	for i, v := range x[:len(y)] {
		y[i] += a * v
	}
}

// ewSumSq sums the squares at positions that are equal modulo 16.
func ewSumSq(x []float32, out *[16]float32) {
	*out = [16]float32{}
	for i := 0; i < len(x); i += 16 {
		for l, v := range ewLanes(x[i:]) {
			out[l] += v * v
		}
	}
}

// ewMaxRow sets each voxel of y to the maximum over its window.
func ewMaxRow(y, x []float32, w *poolWindow) {
	for i := range w.n {
		best := *ewLanes(x[i*w.step:])
		for d := range w.kd {
			for h := range w.kh {
				base := i*w.step + d*w.ds + h*w.hs
				for k := range w.kw {
					for l, v := range ewLanes(x[base+k*Block:]) {
						if v > best[l] {
							best[l] = v
						}
					}
				}
			}
		}
		*ewLanes(y[i*Block:]) = best
	}
}

// ewMaxRowBack adds each voxel of dy to the first maximum of its window, if that lies in the planes
// [w.d0, w.d1) of the window. A window of -Inf alone passes nothing on.
func ewMaxRowBack(dx, x, dy []float32, w *poolWindow) {
	for i := range w.n {
		var best, g [16]float32
		var where [16]int
		for l := range best {
			best[l] = float32(math.Inf(-1))
			where[l] = i*w.step + w.d0*w.ds + l
		}
		for d := range w.kd {
			own := d >= w.d0 && d < w.d1
			for h := range w.kh {
				for k := range w.kw {
					at := i*w.step + d*w.ds + h*w.hs + k*Block
					for l, v := range ewLanes(x[at:]) {
						if v > best[l] {
							best[l], g[l] = v, 0
							if own {
								where[l], g[l] = at+l, dy[i*Block+l]
							}
						}
					}
				}
			}
		}
		for l, at := range where {
			dx[at] += g[l]
		}
	}
}

// ewAvgRow sets each voxel of y to scale times the sum over its window.
func ewAvgRow(y, x []float32, w *poolWindow, scale float32) {
	for i := range w.n {
		var s [16]float32
		for d := range w.kd {
			for h := range w.kh {
				base := i*w.step + d*w.ds + h*w.hs
				for k := range w.kw {
					for l, v := range ewLanes(x[base+k*Block:]) {
						s[l] += v
					}
				}
			}
		}
		for l := range s {
			s[l] *= scale
		}
		*ewLanes(y[i*Block:]) = s
	}
}

// ewSpread adds a*dy to every step-th float of dx, a voxel at a time.
func ewSpread(dx, dy []float32, step int, a float32) {
	for i := 0; i < len(dy); i += 16 {
		o := ewLanes(dx[i/16*step:])
		for l, v := range ewLanes(dy[i:]) {
			o[l] += a * v
		}
	}
}

// ewAdamW is one AdamW step with the constants of c.
func ewAdamW(w, g, mom, vel []float32, c *adamConstants) {
	g, mom, vel = g[:len(w)], mom[:len(w)], vel[:len(w)]
	for i, gi := range g {
		m := mom[i] + c.oneMinusBeta1*(gi-mom[i])
		v := vel[i]*c.beta2 + c.oneMinusBeta2*gi*gi
		mom[i], vel[i] = m, v
		denom := float32(math.Sqrt(float64(v)))*c.invSqrtBias2 + c.eps
		w[i] = w[i]*c.keep - c.stepSize*(m/denom)
	}
}

// ewSGD is one step of SGD with Nesterov momentum.
func ewSGD(w, g, mom []float32, c *sgdConstants) {
	g, mom = g[:len(w)], mom[:len(w)]
	for i, gi := range g {
		gi += c.decay * w[i]
		b := c.momentum*mom[i] + gi
		mom[i] = b
		w[i] -= c.lr * (gi + c.momentum*b)
	}
}
