package report

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/png"
	"os"
	"strings"
	"testing"
)

// The pictures stand as a radiologist looks at them, whichever way the axes of the array run.
func TestViewIsUpright(t *testing.T) {
	// A bright voxel up (towards the head), in front, on the patient's left, in the middle slices of nothing else.
	const n = 5
	shape := [3]int{n, n, n}
	bright := func(d, h, w int) Array {
		a := Array{Voxels: make([]float32, n*n*n), Channels: 1, Shape: shape, MM: [3]float64{1, 1, 1}, Hi: 1}
		a.Voxels[(d*n+h)*n+w] = 1
		return a
	}
	const side = samplePixels
	for _, tt := range []struct {
		name    string
		d, h, w int
		x, y    int // of the bright spot in the picture
	}{
		{"axial: front is up, left is right", 2, 0, 4, side * 9 / 10, side / 10},
		{"coronal: head is up, left is right", 4, 2, 4, side + gap + side*9/10, side / 10},
		{"sagittal: head is up, front is left", 4, 0, 2, 2*(side+gap) + side/10, side / 10},
	} {
		straight, turned := bright(tt.d, tt.h, tt.w), bright(tt.w, tt.h, tt.d)
		turned.Reversed = true
		for _, a := range []Array{straight, turned} {
			v, err := NewView("x", nil, a)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(v.Picture), "data:image/png;base64,"))
			if err != nil {
				t.Fatal(err)
			}
			m, err := png.Decode(bytes.NewReader(raw))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.(*image.Gray).GrayAt(tt.x, tt.y).Y; got != 255 {
				t.Errorf("%s, reversed %v: the grey value there is %d", tt.name, a.Reversed, got)
			}
			if v.Highest != 1 || v.Lowest != 0 || v.Mean != 1.0/125 {
				t.Errorf("%s: values %+v", tt.name, v)
			}
		}
	}
}

// What the names of scans say cannot become a part of the page.
func TestPageEscapes(t *testing.T) {
	path := t.TempDir() + "/p.html"
	p := SamplePage{Title: "t", Samples: []Sample{{Name: "<script>alert(1)</script>", Warnings: []string{"a < b"}}}}
	if err := p.Write(path); err != nil {
		t.Fatal(err)
	}
	text := readFile(t, path)
	if strings.Contains(text, "<script>") || !strings.Contains(text, "&lt;script&gt;") || !strings.Contains(text, "a &lt; b") {
		t.Error(text)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
