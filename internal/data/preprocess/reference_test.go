package preprocess

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// TestReference compares with MONAI, PyTorch and SciPy; bench/preprocess_reference.py made the file.
func TestReference(t *testing.T) {
	raw, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Size  [3]int    `json:"size_ijk"`
		HU    []float32 `json:"hu"`
		Cases []struct {
			Name     string          `json:"name"`
			Affine   [4][4]float64   `json:"affine"` // to RAS
			Settings json.RawMessage `json:"settings"`
			Shape    [3]int          `json:"shape"`
			Channels int             `json:"channels"`
			Expected []float64       `json:"expected"`
		} `json:"cases"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	size := [3]int{file.Size[2], file.Size[1], file.Size[0]}
	hu := make([]float32, len(file.HU)) // [k][j][i] of [i][j][k]
	for n, x := range file.HU {
		i, j, k := n/size[0]/size[1], n/size[0]%size[1], n%size[0]
		hu[(k*size[1]+j)*size[2]+i] = x
	}
	if len(file.Cases) != 22 {
		t.Fatalf("%d cases, want 22", len(file.Cases))
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			v, err := volume.FromAffine(size, slices.Clone(hu), volume.SwapLPS(c.Affine))
			if err != nil {
				t.Fatal(err)
			}
			r := apply(t, v, settings(t, c.Settings))
			if r.Shape != c.Shape || r.Channels != c.Channels || len(r.Data) != len(c.Expected) {
				t.Fatalf("%d channels of shape %v, want %d of %v", r.Channels, r.Shape, c.Channels, c.Shape)
			}
			worst := 0.0
			for i, want := range c.Expected {
				worst = max(worst, math.Abs(float64(r.Data[i])-want))
			}
			// The window is 1 wide; the file has six digits. Whole HU, only turned, are exact.
			tolerance := 1e-5
			if settings(t, c.Settings).Intensity == "raw" {
				tolerance = 0
			}
			if !(worst <= tolerance) {
				t.Errorf("off by up to %g", worst)
			}
		})
	}
}

// settings reads settings in the words of the configuration; what they leave out is the default.
func settings(t *testing.T, raw json.RawMessage) config.Preprocess {
	t.Helper()
	var s struct {
		SpacingMM     *[3]float64  `json:"spacing_mm"`
		Intensity     *string      `json:"intensity"`
		HUWindow      *[2]float64  `json:"hu_window"`
		HUWindows     [][2]float64 `json:"hu_windows"`
		ShapeDHW      [3]int       `json:"shape_dhw"`
		Fit           *string      `json:"fit"`
		Antialias     *string      `json:"antialias"`
		Interpolation *string      `json:"interpolation"`
		Recipe        *string      `json:"recipe"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		t.Fatal(err)
	}
	p := config.Default().Preprocess
	if s.SpacingMM != nil {
		p.SpacingMM = config.Spacing{MM: *s.SpacingMM}
	}
	if s.HUWindow != nil {
		p.HUWindow = *s.HUWindow
	}
	p.HUWindows, p.ShapeDHW = s.HUWindows, s.ShapeDHW
	for to, from := range map[*string]*string{
		&p.Intensity: s.Intensity, &p.Fit: s.Fit, &p.Antialias: s.Antialias, &p.Interpolation: s.Interpolation, &p.Recipe: s.Recipe,
	} {
		if from != nil {
			*to = *from
		}
	}
	return p
}
