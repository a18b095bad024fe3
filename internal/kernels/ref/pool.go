package ref

import "math"

// MaxPool3D takes the maximum of each window; positions outside the input count as -∞, NaN wins:
//
//	y[n][c][d][h][w] = max over kd, kh, kw of x[n][c][d*sd+kd-pd][h*sh+kh-ph][w*sw+kw-pw]
//
// x has shape in, y has shape win.Out(in, in.C).
func MaxPool3D[T Float](y, x []T, in Shape, win Window) {
	xs := in.Spatial()
	ys := win.Out(in, in.C).Spatial()
	for i := range in.N * in.C {
		xc, yc := x[i*xs:][:xs], y[i*ys:][:ys]
		forMaxima(xc, in, win, func(o, at int) {
			if at < 0 {
				yc[o] = T(math.Inf(-1))
				return
			}
			yc[o] = xc[at]
		})
	}
}

// MaxPool3DBackward adds each dy[n][c][d][h][w] to the dx of the window's maximum: of equal ones the first
// in the order d, h, w. All other dx are zero.
func MaxPool3DBackward[T Float](dx, x, dy []T, in Shape, win Window) {
	xs := in.Spatial()
	ys := win.Out(in, in.C).Spatial()
	clear(dx[:in.Len()])
	for i := range in.N * in.C {
		dxc, dyc := dx[i*xs:][:xs], dy[i*ys:][:ys]
		forMaxima(x[i*xs:][:xs], in, win, func(o, at int) {
			if at >= 0 {
				dxc[at] += dyc[o]
			}
		})
	}
}

// forMaxima calls f(o, at) for every output o of one channel with the index of its maximum in x, -1 if the
// window lies in the padding entirely.
func forMaxima[T Float](x []T, in Shape, win Window, f func(o, at int)) {
	out := win.Out(in, 1)
	k, s, p := win.Kernel, win.Stride, win.Pad
	o := 0
	for d := range out.D {
		d0, d1 := clip(d*s[0]-p[0], k[0], in.D)
		for h := range out.H {
			h0, h1 := clip(h*s[1]-p[1], k[1], in.H)
			for w := range out.W {
				w0, w1 := clip(w*s[2]-p[2], k[2], in.W)
				at := -1
				var best T
				for id := d0; id < d1; id++ {
					for ih := h0; ih < h1; ih++ {
						row := (id*in.H + ih) * in.W
						for iw := w0; iw < w1; iw++ {
							if v := x[row+iw]; at < 0 || v > best || v != v {
								best, at = v, row+iw
							}
						}
					}
				}
				f(o, at)
				o++
			}
		}
	}
}

// clip cuts the window [first, first+k) to [0, n).
func clip(first, k, n int) (lo, hi int) { return max(first, 0), min(first+k, n) }

// AvgPool3D takes the mean of each window, without padding; voxels behind the last whole window are left out:
//
//	y[n][c][d][h][w] = Σ over kd, kh, kw of x[n][c][d*sd+kd][h*sh+kh][w*sw+kw] / (KD*KH*KW)
//
// x has shape in, y has shape win.Out(in, in.C); win.Pad must be zero.
func AvgPool3D[T Float](y, x []T, in Shape, win Window) {
	out := win.Out(in, in.C)
	runs, stride, taps := win.runs(in, out), win.Stride[2], float64(win.Taps())
	xs, ys := in.Spatial(), out.Spatial()
	acc := make([]float64, ys)
	for i := range in.N * in.C {
		clear(acc)
		xc := x[i*xs:][:xs]
		for _, r := range runs {
			j := int(r.in)
			for o := range acc[r.out:][:r.n] {
				acc[int(r.out)+o] += float64(xc[j])
				j += stride
			}
		}
		yc := y[i*ys:][:ys]
		for o, v := range acc {
			yc[o] = T(v / taps)
		}
	}
}

// AvgPool3DBackward is the gradient of AvgPool3D: each dy, divided by KD*KH*KW, is added to the dx of its
// window; voxels that no window holds get zero.
func AvgPool3DBackward[T Float](dx, dy []T, in Shape, win Window) {
	out := win.Out(in, in.C)
	runs, stride, taps := win.runs(in, out), win.Stride[2], float64(win.Taps())
	xs, ys := in.Spatial(), out.Spatial()
	acc := make([]float64, xs)
	for i := range in.N * in.C {
		clear(acc)
		for _, r := range runs {
			j := int(r.in)
			for _, g := range dy[i*ys+int(r.out):][:r.n] {
				acc[j] += float64(g) / taps
				j += stride
			}
		}
		store(dx[i*xs:][:xs], acc)
	}
}

// GlobalAvgPool takes the mean of every channel: y[n][c] = Σ over d, h, w of x[n][c][d][h][w] / (D*H*W).
func GlobalAvgPool[T Float](y, x []T, s Shape) {
	v := s.Spatial()
	for i := range s.N * s.C {
		var sum float64
		for _, xi := range x[i*v:][:v] {
			sum += float64(xi)
		}
		y[i] = T(sum / float64(v))
	}
}

// GlobalAvgPoolBackward computes dx[n][c][d][h][w] = dy[n][c] / (D*H*W).
func GlobalAvgPoolBackward[T Float](dx, dy []T, s Shape) {
	v := s.Spatial()
	for i := range s.N * s.C {
		g := T(float64(dy[i]) / float64(v))
		dxc := dx[i*v:][:v]
		for j := range dxc {
			dxc[j] = g
		}
	}
}
