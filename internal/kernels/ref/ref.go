// Package ref holds the reference kernels: plain Go loops over row-major slices, in float32 or float64, that
// say what every operation of ctclass computes. The other kernels are tested against them, and whole
// networks run on them in float64.
//
// Feature maps are [N][C][D][H][W] and token matrices [N][T][E], w and e contiguous. A kernel's results come
// first in its arguments and are overwritten; no argument may overlap a result unless the comment allows it.
// Sums run in float64 for both types and are rounded once. Slices must have the lengths that the shapes ask
// for: the kernels trust their caller.
package ref

// Float is the element type of a kernel.
type Float interface{ ~float32 | ~float64 }

// Shape is the shape of a feature map, [N][C][D][H][W].
type Shape struct{ N, C, D, H, W int }

// Len returns the number of elements.
func (s Shape) Len() int { return s.N * s.C * s.D * s.H * s.W }

// Spatial returns the number of voxels of one channel of one sample.
func (s Shape) Spatial() int { return s.D * s.H * s.W }

// Window is a sliding window: kernel size, stride and zero padding on both sides, each in the order D, H, W.
type Window struct{ Kernel, Stride, Pad [3]int }

// Cube returns the window with the same kernel, stride and padding on every axis.
func Cube(kernel, stride, pad int) Window {
	return Window{
		Kernel: [3]int{kernel, kernel, kernel},
		Stride: [3]int{stride, stride, stride},
		Pad:    [3]int{pad, pad, pad},
	}
}

// Taps returns the number of kernel positions.
func (w Window) Taps() int { return w.Kernel[0] * w.Kernel[1] * w.Kernel[2] }

// Out returns the shape of the output with the given channels: on each axis
// floor((in + 2*pad - kernel)/stride) + 1 positions.
func (w Window) Out(in Shape, channels int) Shape {
	size := func(axis, n int) int {
		return (n+2*w.Pad[axis]-w.Kernel[axis])/w.Stride[axis] + 1
	}
	return Shape{in.N, channels, size(0, in.D), size(1, in.H), size(2, in.W)}
}

// inside returns the outputs [lo, hi) of an axis whose tap k falls inside the in positions of the input.
func (w Window) inside(axis, k, in, out int) (lo, hi int) {
	s, p := w.Stride[axis], w.Pad[axis]
	if k < p {
		lo = (p - k + s - 1) / s
	}
	if last := in - 1 + p - k; last >= 0 {
		hi = min(last/s+1, out)
	}
	return lo, hi
}
