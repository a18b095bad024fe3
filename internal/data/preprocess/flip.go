package preprocess

import (
	"fmt"
	"slices"
)

// Flip reverses an array [D][H][W] of the given shape along the chosen axes d, h, w, in place. It panics
// when data does not have the shape's length.
func Flip(data []float32, shape [3]int, axes [3]bool) {
	d, h, w := shape[0], shape[1], shape[2]
	if len(data) != d*h*w {
		panic(fmt.Sprintf("preprocess: Flip of %d values with shape %v", len(data), shape))
	}
	if axes[2] {
		for row := range slices.Chunk(data, max(w, 1)) {
			slices.Reverse(row)
		}
	}
	if axes[1] {
		for i := range d {
			slice := data[i*h*w : (i+1)*h*w]
			for j := range h / 2 {
				swap(slice[j*w:(j+1)*w], slice[(h-1-j)*w:(h-j)*w])
			}
		}
	}
	if axes[0] {
		for i := range d / 2 {
			swap(data[i*h*w:(i+1)*h*w], data[(d-1-i)*h*w:(d-i)*h*w])
		}
	}
}

// swap exchanges the contents of two slices of one length.
func swap(a, b []float32) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}
