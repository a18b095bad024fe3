package dicom

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

func TestModalityLUT(t *testing.T) {
	words := func(w ...uint16) dicomtest.Value { return dicomtest.Value{VR: "US", Data: w} }
	lut := func(kind string, descriptor []uint16, data dicomtest.Value) dicomtest.Value {
		return dicomtest.Group(dicomtest.Item{0x00283002: words(descriptor...), 0x00283004: text("LO", kind), 0x00283006: data})
	}
	// Stored values; the table's first entry stands for -5.
	pixels := []int16{-300, -5, -4, -3, 7, 100}
	want := []float32{10, 10, 20, 3000, 3000, 3000}
	for _, tt := range []struct {
		name    string
		syntax  string
		lut     dicomtest.Value
		want    []float32
		warning string
	}{
		{"words", dicomtest.Explicit, lut("HU", []uint16{3, 0xFFFB, 16}, words(10, 20, 3000)), want, ""},
		{"words, OW", dicomtest.Implicit, lut("HU", []uint16{3, 0xFFFB, 12}, dicomtest.Value{VR: "OW", Data: []uint16{10, 20, 3000}}), want, ""},
		{"words, big endian", dicomtest.BigEndian, lut("HU", []uint16{3, 0xFFFB, 16}, words(10, 20, 3000)), want, ""},
		{
			"bytes", dicomtest.Explicit, lut("HU", []uint16{3, 0xFFFB, 8}, dicomtest.Value{VR: "OW", Data: []byte{10, 20, 30}}),
			[]float32{10, 10, 20, 30, 30, 30},
			"",
		},
		{
			"65536 entries", dicomtest.Explicit, lut("HU", []uint16{0, 0x8000, 16}, dicomtest.Value{VR: "OW", Data: make([]uint16, 65536)}),
			make([]float32, 6), "",
		},
		{"no unit", dicomtest.Explicit, lut("US", []uint16{3, 0xFFFB, 16}, words(10, 20, 3000)), want, "rescale type US"},
	} {
		f := dicomtest.Slice("1.2.3.4", 1, 0, 2, 3, pixels)
		f.Set(0x00281052, "DS", "").Set(0x00281053, "DS", "")
		f.Syntax = tt.syntax
		f.Elements[0x00283000] = tt.lut
		v, warnings := read(t, one(t, f), false)
		if !reflect.DeepEqual(v.HU, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, v.HU, tt.want)
		}
		if tt.warning == "" && len(warnings) > 0 || tt.warning != "" && (len(warnings) != 1 || !strings.Contains(warnings[0], tt.warning)) {
			t.Errorf("%s: warnings %q", tt.name, warnings)
		}
	}

	for _, tt := range []struct {
		name string
		lut  dicomtest.Value
		want string
	}{
		{"no descriptor", dicomtest.Group(dicomtest.Item{0x00283006: words(1, 2)}), "no descriptor"},
		{"cut", lut("HU", []uint16{4, 0, 16}, words(1, 2, 3)), "6 bytes for 4 entries"},
		{"cut, full table", lut("HU", []uint16{0, 0, 16}, words(1, 2, 3)), "6 bytes for 65536 entries"},
		{"32 bits", lut("HU", []uint16{1, 0, 32}, words(1, 2)), "32 bits"},
		{"no item", dicomtest.Value{VR: "SQ", Data: make([]byte, 8)}, "(0000,0000)"},
	} {
		f := tiny(1, 0)
		f.Elements[0x00283000] = tt.lut
		content := f.Bytes()
		if _, err := readHeader(bytes.NewReader(content), int64(len(content))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
	// An empty sequence is none.
	f := tiny(1, 0)
	f.Elements[0x00283000] = dicomtest.Value{VR: "SQ", Data: []dicomtest.Item{}}
	if v, _ := read(t, one(t, f), false); v.HU[1] != 0 {
		t.Errorf("rescaled to %v", v.HU)
	}
}

// Copies of a slice with other tables are not the same image.
func TestModalityLUTOfDuplicates(t *testing.T) {
	with := func(uid string, last uint16) *dicomtest.File {
		f := tiny(1, 0).Set(0x00080018, "UI", uid)
		f.Elements[0x00283000] = dicomtest.Group(dicomtest.Item{
			0x00283002: {VR: "US", Data: []uint16{2, 0, 16}}, 0x00283006: {VR: "US", Data: []uint16{5, last}},
		})
		return f
	}
	if _, _, err := one(t, with("1.1", 6), with("1.2", 6)).Read(false); err != nil {
		t.Error(err)
	}
	if _, _, err := one(t, with("1.1", 6), with("1.2", 7)).Read(false); err == nil || !strings.Contains(err.Error(), "different images") {
		t.Errorf("other tables: %v", err)
	}
}
