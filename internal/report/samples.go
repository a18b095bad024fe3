package report

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"html/template"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"

	"github.com/ctclass/ctclass/internal/atomicfile"
)

// SamplePage shows samples of a data set as the network sees them.
type SamplePage struct {
	Title   string
	Facts   []string // about the whole
	Samples []Sample
}

// Sample is one scan.
type Sample struct {
	Name     string
	Labels   []string // that it has
	Facts    []string // such as its size
	Warnings []string
	Views    []View // none: the scan cannot be used, and the warnings say why
}

// View is an array as a picture.
type View struct {
	Caption  string
	Changes  []string
	Picture  template.URL
	Lowest   float32
	Highest  float32
	Mean     float64
	Channels int
}

// Array is a sample's voxels.
type Array struct {
	Voxels   []float32 // [channels][d][h][w]
	Channels int
	Shape    [3]int // d, h, w
	MM       [3]float64
	Lo, Hi   float32 // shown as black and white
	Reversed bool    // the axes run along w, h, d of the patient
}

// NewView draws the middle axial, coronal and sagittal slice of each channel, the head on top and the patient's left
// on the right.
func NewView(caption string, changes []string, a Array) (View, error) {
	v := View{Caption: caption, Changes: changes, Channels: a.Channels, Lowest: a.Voxels[0], Highest: a.Voxels[0]}
	sum := 0.0
	for _, x := range a.Voxels {
		v.Lowest, v.Highest = min(v.Lowest, x), max(v.Highest, x)
		sum += float64(x)
	}
	v.Mean = sum / float64(len(a.Voxels))
	var b bytes.Buffer
	if err := png.Encode(&b, a.picture()); err != nil {
		return v, err
	}
	v.Picture = template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes()))
	return v, nil
}

// samplePixels is the longest side of a slice on the page.
const samplePixels = 160

func (a Array) picture() *image.Gray {
	size, mm := a.Shape, a.MM
	if a.Reversed {
		size[0], size[2], mm[0], mm[2] = size[2], size[0], mm[2], mm[0]
	}
	longest := 0.0
	for i := range 3 {
		longest = max(longest, float64(size[i])*mm[i])
	}
	pixels := func(axis int) int {
		return max(1, int(math.Round(samplePixels*float64(size[axis])*mm[axis]/longest)))
	}
	type plane struct{ fixed, down, right int }
	planes := []plane{{0, 1, 2}, {1, 0, 2}, {2, 0, 1}}
	width, height := 0, 0
	for _, p := range planes {
		width += pixels(p.right) + gap
		height = max(height, pixels(p.down))
	}
	m := image.NewGray(image.Rect(0, 0, width-gap, a.Channels*(height+gap)-gap))
	fill(m, m.Bounds(), color.Gray{Y: 32})
	win := window{low: float64(a.Lo), high: float64(a.Hi)}
	for c := range a.Channels {
		left := 0
		for _, p := range planes {
			w, h := pixels(p.right), pixels(p.down)
			for y := range h {
				for x := range w {
					var at [3]int
					at[p.fixed] = size[p.fixed] / 2
					at[p.down] = y * size[p.down] / h
					at[p.right] = x * size[p.right] / w
					if p.down == 0 { // d grows towards the head
						at[0] = size[0] - 1 - at[0]
					}
					m.SetGray(left+x, c*(height+gap)+y, color.Gray{Y: win.gray(a.at(c, at))})
				}
			}
			left += w + gap
		}
	}
	return m
}

// at returns a voxel by the patient's axes d, h, w.
func (a Array) at(c int, i [3]int) float64 {
	if a.Reversed {
		i[0], i[2] = i[2], i[0]
	}
	return float64(a.Voxels[((c*a.Shape[0]+i[0])*a.Shape[1]+i[1])*a.Shape[2]+i[2]])
}

//go:embed samples.html
var samplesHTML string

// Write writes the page, one file that needs nothing else.
func (p *SamplePage) Write(path string) error {
	t, err := template.New("samples").Parse(samplesHTML)
	if err != nil {
		return err
	}
	return atomicfile.Write(path, func(w io.Writer) error { return t.Execute(w, p) })
}
