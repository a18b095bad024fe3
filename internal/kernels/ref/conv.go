package ref

// run is a stretch of one output row that a single kernel tap connects with one input row: output
// out+i meets input in+i*stride for i in [0, n). The offsets are within one channel of one sample.
type run struct{ tap, in, out, n int32 }

// runs lists the runs of a convolution, tap by tap. With stride 1 along w, runs that follow each other in
// both maps are one: a 1x1x1 convolution has a single run.
func (w Window) runs(in, out Shape) []run {
	var list []run
	k, s, p := w.Kernel, w.Stride, w.Pad
	tap := int32(0)
	for kd := range k[0] {
		d0, d1 := w.inside(0, kd, in.D, out.D)
		for kh := range k[1] {
			h0, h1 := w.inside(1, kh, in.H, out.H)
			for kw := range k[2] {
				w0, w1 := w.inside(2, kw, in.W, out.W)
				for d := d0; d < d1; d++ {
					for h := h0; h < h1 && w0 < w1; h++ {
						r := run{
							tap: tap,
							in:  int32(((d*s[0]+kd-p[0])*in.H+h*s[1]+kh-p[1])*in.W + w0*s[2] + kw - p[2]),
							out: int32((d*out.H+h)*out.W + w0),
							n:   int32(w1 - w0),
						}
						if i := len(list) - 1; i >= 0 && s[2] == 1 && list[i].tap == tap &&
							list[i].in+list[i].n == r.in && list[i].out+list[i].n == r.out {
							list[i].n += r.n
							continue
						}
						list = append(list, r)
					}
				}
				tap++
			}
		}
	}
	return list
}

// quad is the number of channels that the convolutions take at once where the rows are contiguous: it saves
// loads and stores of the sums.
const quad = 4

// Conv3D is the cross-correlation that deep learning calls convolution, without bias:
//
//	y[n][o][d][h][w] = Σ over c, kd, kh, kw of w[o][c][kd][kh][kw] *
//		x[n][c][d*sd+kd-pd][h*sh+kh-ph][w*sw+kw-pw]
//
// where x is zero outside. x has shape in, w is [outC][in.C][kernel], y has shape win.Out(in, outC).
func Conv3D[T Float](y, x, w []T, in Shape, outC int, win Window) {
	out := win.Out(in, outC)
	runs, taps, stride := win.runs(in, out), win.Taps(), win.Stride[2]
	xs, ys := in.Spatial(), out.Spatial()
	acc := make([]float64, ys)
	for n := range in.N {
		for o := range outC {
			clear(acc)
			c := 0
			for ; stride == 1 && c+quad <= in.C; c += quad {
				for _, r := range runs {
					wt := w[(o*in.C+c)*taps+int(r.tap):]
					axpy4(acc[r.out:][:r.n], x[(n*in.C+c)*xs+int(r.in):], xs, wt, taps)
				}
			}
			for ; c < in.C; c++ {
				xc := x[(n*in.C+c)*xs:][:xs]
				for _, r := range runs {
					wt := float64(w[(o*in.C+c)*taps+int(r.tap)])
					a, j := acc[r.out:][:r.n], int(r.in)
					for i := range a {
						a[i] += wt * float64(xc[j])
						j += stride
					}
				}
			}
			store(y[(n*outC+o)*ys:][:ys], acc)
		}
	}
}

// Conv3DBackwardData is the gradient of Conv3D with respect to its input:
//
//	dx[n][c][d*sd+kd-pd][h*sh+kh-ph][w*sw+kw-pw] = Σ over o, kd, kh, kw of
//		w[o][c][kd][kh][kw] * dy[n][o][d][h][w]
//
// for all d, h, w, kd, kh, kw that land inside; an input that no output sees gets zero.
func Conv3DBackwardData[T Float](dx, dy, w []T, in Shape, outC int, win Window) {
	out := win.Out(in, outC)
	runs, taps, stride := win.runs(in, out), win.Taps(), win.Stride[2]
	xs, ys := in.Spatial(), out.Spatial()
	acc := make([]float64, xs)
	for n := range in.N {
		for c := range in.C {
			clear(acc)
			o := 0
			for ; stride == 1 && o+quad <= outC; o += quad {
				for _, r := range runs {
					wt := w[(o*in.C+c)*taps+int(r.tap):]
					axpy4(acc[r.in:][:r.n], dy[(n*outC+o)*ys+int(r.out):], ys, wt, in.C*taps)
				}
			}
			for ; o < outC; o++ {
				dyo := dy[(n*outC+o)*ys:][:ys]
				for _, r := range runs {
					wt := float64(w[(o*in.C+c)*taps+int(r.tap)])
					j := int(r.in)
					for _, g := range dyo[r.out:][:r.n] {
						acc[j] += wt * float64(g)
						j += stride
					}
				}
			}
			store(dx[(n*in.C+c)*xs:][:xs], acc)
		}
	}
}

// Conv3DBackwardWeights is the gradient of Conv3D with respect to its weights:
//
//	dw[o][c][kd][kh][kw] = Σ over n, d, h, w of dy[n][o][d][h][w] *
//		x[n][c][d*sd+kd-pd][h*sh+kh-ph][w*sw+kw-pw]
func Conv3DBackwardWeights[T Float](dw, dy, x []T, in Shape, outC int, win Window) {
	out := win.Out(in, outC)
	runs, taps, stride := win.runs(in, out), win.Taps(), win.Stride[2]
	xs, ys := in.Spatial(), out.Spatial()
	acc := make([]float64, quad*taps)
	for o := range outC {
		for c := 0; c < in.C; {
			clear(acc)
			width := 1
			if stride == 1 && c+quad <= in.C {
				width = quad
			}
			for n := range in.N {
				dyo, xc := dy[(n*outC+o)*ys:][:ys], x[(n*in.C+c)*xs:]
				for _, r := range runs {
					rows := dyo[r.out:][:r.n]
					if width == quad {
						dot4(acc[r.tap:], taps, rows, xc[r.in:], xs)
						continue
					}
					var sum float64
					j := int(r.in)
					for _, g := range rows {
						sum += float64(g) * float64(xc[j])
						j += stride
					}
					acc[r.tap] += sum
				}
			}
			store(dw[(o*in.C+c)*taps:], acc[:width*taps])
			c += width
		}
	}
}

// axpy4 computes acc[i] += Σ over q < 4 of w[q*ws]*x[q*xs+i].
func axpy4[T Float](acc []float64, x []T, xs int, w []T, ws int) {
	n := len(acc)
	x0, x1, x2, x3 := x[:n], x[xs:][:n], x[2*xs:][:n], x[3*xs:][:n]
	w0, w1, w2, w3 := float64(w[0]), float64(w[ws]), float64(w[2*ws]), float64(w[3*ws])
	for i, v := range x0 {
		acc[i] += (w0*float64(v) + w1*float64(x1[i])) + (w2*float64(x2[i]) + w3*float64(x3[i]))
	}
}

// dot4 computes acc[q*as] += Σ over i of g[i]*x[q*xs+i] for q < 4.
func dot4[T Float](acc []float64, as int, g, x []T, xs int) {
	n := len(g)
	x0, x1, x2, x3 := x[:n], x[xs:][:n], x[2*xs:][:n], x[3*xs:][:n]
	var s0, s1, s2, s3 float64
	for i, v := range g {
		f := float64(v)
		s0 += f * float64(x0[i])
		s1 += f * float64(x1[i])
		s2 += f * float64(x2[i])
		s3 += f * float64(x3[i])
	}
	acc[0] += s0
	acc[as] += s1
	acc[2*as] += s2
	acc[3*as] += s3
}

// ChannelBias adds a bias to every channel in place: y[n][c][...] += b[c].
func ChannelBias[T Float](y, b []T, s Shape) {
	v := s.Spatial()
	for i := range s.N * s.C {
		bc := b[i%s.C]
		yc := y[i*v:][:v]
		for j := range yc {
			yc[j] += bc
		}
	}
}

// ChannelBiasBackward is the gradient with respect to the bias: db[c] = Σ over n, d, h, w of dy[n][c][d][h][w].
func ChannelBiasBackward[T Float](db, dy []T, s Shape) {
	v := s.Spatial()
	for c := range s.C {
		var sum float64
		for n := range s.N {
			for _, g := range dy[(n*s.C+c)*v:][:v] {
				sum += float64(g)
			}
		}
		db[c] = T(sum)
	}
}

// dot returns Σ a[i]*b[i]. Four partial sums hide the latency of the addition.
func dot[T Float](a, b []T) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s0 += float64(a[i]) * float64(b[i])
		s1 += float64(a[i+1]) * float64(b[i+1])
		s2 += float64(a[i+2]) * float64(b[i+2])
		s3 += float64(a[i+3]) * float64(b[i+3])
	}
	for ; i < len(a); i++ {
		s0 += float64(a[i]) * float64(b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

// store rounds sums to T.
func store[T Float](dst []T, sums []float64) {
	for i, v := range sums {
		dst[i] = T(v)
	}
}
