package dicom

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/dicomtest"
)

func text(vr, s string) dicomtest.Value { return dicomtest.Value{VR: vr, Data: s} }

func long(n uint32) dicomtest.Value {
	return dicomtest.Value{VR: "UL", Data: binary.LittleEndian.AppendUint32(nil, n)}
}

// sharedGroups are those of axial frames with 0.5 mm between rows, 0.75 mm between columns, HU = pixel - 1024.
func sharedGroups() dicomtest.Item {
	return dicomtest.Item{
		0x00209116: dicomtest.Group(dicomtest.Item{0x00200037: text("DS", `1\0\0\0\1\0`)}),
		0x00289110: dicomtest.Group(dicomtest.Item{
			0x00180050: text("DS", "2.5"), 0x00280030: text("DS", `0.5\0.75`),
		}),
		0x00289145: dicomtest.Group(dicomtest.Item{
			0x00281052: text("DS", "-1024"), 0x00281053: text("DS", "1"), 0x00281054: text("LO", "HU"),
		}),
		0x00189329: dicomtest.Group(dicomtest.Item{0x00089007: text("CS", `ORIGINAL\PRIMARY\VOLUME\NONE`)}),
		0x00189314: dicomtest.Group(dicomtest.Item{0x00181210: text("SH", "B40f")}),
	}
}

// frameAt is the group of a frame at height z, with further elements of its frame content.
func frameAt(z float64, content dicomtest.Item) dicomtest.Item {
	item := dicomtest.Item{0x00209113: dicomtest.Group(dicomtest.Item{0x00200032: text("DS", fmt.Sprintf(`-10\20\%g`, z))})}
	if content != nil {
		item[0x00209111] = dicomtest.Group(content)
	}
	return item
}

// framePixels are frames of 2 x 3 pixels, each of one value in HU.
func framePixels(hu ...int) []int16 {
	var p []int16
	for _, v := range hu {
		for range 6 {
			p = append(p, int16(v+1024))
		}
	}
	return p
}

// enhanced is an image of frames at heights z with HU 10 z.
func enhanced(heights ...float64) *dicomtest.File {
	var frames []dicomtest.Item
	var hu []int
	for _, z := range heights {
		frames = append(frames, frameAt(z, nil))
		hu = append(hu, int(10*z))
	}
	return dicomtest.Enhanced("1.2.3.4", 2, 3, sharedGroups(), frames, framePixels(hu...))
}

func TestEnhanced(t *testing.T) {
	open := func(f *dicomtest.File) {
		for _, tag := range []uint32{0x52009229, 0x52009230} {
			items := f.Elements[tag].Data.([]dicomtest.Item)
			for _, item := range items {
				for macro, v := range item {
					item[macro] = dicomtest.Value{VR: "SQ", Data: dicomtest.OpenItems(v.Data.([]dicomtest.Item))}
				}
			}
			f.Elements[tag] = dicomtest.Value{VR: "SQ", Data: dicomtest.OpenItems(items)}
		}
	}
	for _, tt := range []struct {
		name   string
		change func(f *dicomtest.File)
	}{
		{"explicit", func(f *dicomtest.File) {}},
		{"implicit", func(f *dicomtest.File) { f.Syntax = dicomtest.Implicit }},
		{"big endian", func(f *dicomtest.File) { f.Syntax = dicomtest.BigEndian }},
		{"bare", func(f *dicomtest.File) { f.Bare = true }},
		{"undefined lengths", open},
		{"undefined lengths, implicit", func(f *dicomtest.File) { open(f); f.Syntax = dicomtest.Implicit }},
		{"sequences of unknown VR", func(f *dicomtest.File) {
			for _, tag := range []uint32{0x52009229, 0x52009230} {
				f.Elements[tag] = dicomtest.Value{VR: "UN", Data: f.Elements[tag].Data}
			}
		}},
		{"legacy converted", func(f *dicomtest.File) { f.Set(0x00080016, "UI", classLegacyCT) }},
		{"RLE", func(f *dicomtest.File) {
			f.Syntax = dicomtest.RLE
			for _, hu := range []int{60, 0, 40, 20} {
				f.Fragments = append(f.Fragments, rleFrame(framePixels(hu)))
			}
		}},
		{"position of a foreign group", func(f *dicomtest.File) {
			f.Elements[0x52009230].Data.([]dicomtest.Item)[1][0x00209114] = dicomtest.Group(dicomtest.Item{0x00200032: text("DS", `1\1\77`)})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := enhanced(6, 0, 4, 2)
			tt.change(f)
			s := one(t, f)
			v, warnings := read(t, s, false)
			wantColumn(t, v, 0, 20, 40, 60)
			if len(warnings) != 0 {
				t.Errorf("warnings %q", warnings)
			}
			want := [4][4]float64{{0.75, 0, 0, -10}, {0, 0.5, 0, 20}, {0, 0, 2, 0}, {0, 0, 0, 1}}
			if v.Affine != want || s.Size() != [3]int{4, 2, 3} {
				t.Errorf("affine %v, size %v", v.Affine, s.Size())
			}
			h := &s.Slices[0]
			if h.Kernel != "B40f" || h.SliceThickness != 2.5 || h.Frames != 4 || h.Frame != 2 ||
				!reflect.DeepEqual(h.ImageType, []string{"ORIGINAL", "PRIMARY", "VOLUME", "NONE"}) {
				t.Errorf("facts %q %g %d %d %q", h.Kernel, h.SliceThickness, h.Frames, h.Frame, h.ImageType)
			}
		})
	}
}

// Frames are slices as files are: gaps and tilt are put right, per-frame rescale counts.
func TestEnhancedCorrections(t *testing.T) {
	v, warnings := read(t, one(t, enhanced(0, 1.5, 3, 6, 7.5, 9)), false)
	wantColumn(t, v, 0, 15, 30, 45, 60, 75, 90)
	if len(warnings) != 1 || !strings.Contains(warnings[0], "widest after IM000, frame 3") {
		t.Errorf("warnings %q", warnings)
	}
	f := enhanced(0, 1)
	f.Elements[0x52009230].Data.([]dicomtest.Item)[1][0x00289145] = dicomtest.Group(dicomtest.Item{0x00281052: text("DS", "-100"), 0x00281053: text("DS", "0.5")})
	v, _ = read(t, one(t, f), false)
	wantColumn(t, v, 0, 0.5*1034-100)

	// One frame whose groups are all shared ones; its neighbour is another file of the same kind.
	single := func(instance int, z float64) *dicomtest.File {
		shared := sharedGroups()
		maps.Copy(shared, frameAt(z, nil))
		f := dicomtest.Enhanced("1.2.3.4", 2, 3, shared, []dicomtest.Item{{}}, framePixels(instance))
		delete(f.Elements, 0x52009230)
		return f.Set(0x00080018, "UI", fmt.Sprintf("7.%d", instance))
	}
	v, _ = read(t, one(t, single(2, 1), single(1, 0)), false)
	wantColumn(t, v, 1, 2)
}

func TestEnhancedSeries(t *testing.T) {
	phase := func(percent float32) dicomtest.Value {
		return dicomtest.Group(dicomtest.Item{0x00209241: {VR: "FL", Data: binary.LittleEndian.AppendUint32(nil, math.Float32bits(percent))}})
	}
	// Two frames at each of two places, which only `apart` tells from each other; HU 0, 1, then 100, 101.
	pairs := func(apart func(item dicomtest.Item, second bool)) *dicomtest.File {
		var frames []dicomtest.Item
		for i := range 4 {
			item := frameAt(float64(i%2), dicomtest.Item{0x00209057: long(uint32(i%2 + 1))})
			apart(item, i > 1)
			frames = append(frames, item)
		}
		return dicomtest.Enhanced("1.2.3.4", 2, 3, sharedGroups(), frames, framePixels(0, 1, 100, 101))
	}
	number := map[bool]uint32{false: 1, true: 2}
	content := func(tag uint32, v func(second bool) dicomtest.Value) func(dicomtest.Item, bool) {
		return func(item dicomtest.Item, second bool) {
			item[0x00209111].Data.([]dicomtest.Item)[0][tag] = v(second)
		}
	}
	object := func(uid string, offset int, heights ...float64) *dicomtest.File {
		f := enhanced(heights...)
		var hu []int
		for i := range heights {
			hu = append(hu, offset+i)
		}
		return dicomtest.Enhanced("1.2.3.4", 2, 3, sharedGroups(), f.Elements[0x52009230].Data.([]dicomtest.Item), framePixels(hu...)).
			Set(0x00080018, "UI", uid)
	}
	for _, tt := range []struct {
		name  string
		files []*dicomtest.File
		want  [][]float32
	}{
		{"stacks", []*dicomtest.File{pairs(content(0x00209056, func(second bool) dicomtest.Value {
			return text("SH", fmt.Sprint(number[second]))
		}))}, [][]float32{{0, 1}, {100, 101}}},
		{"temporal positions", []*dicomtest.File{pairs(content(0x00209128, func(second bool) dicomtest.Value {
			return long(number[second])
		}))}, [][]float32{{0, 1}, {100, 101}}},
		{"acquisitions", []*dicomtest.File{pairs(content(0x00209156, func(second bool) dicomtest.Value {
			return dicomtest.Value{VR: "US", Data: []uint16{uint16(number[second])}}
		}))}, [][]float32{{0, 1}, {100, 101}}},
		{"cardiac phases", []*dicomtest.File{pairs(func(item dicomtest.Item, second bool) {
			item[0x00189118] = phase(40 + 35*float32(number[second]-1))
		})}, [][]float32{{0, 1}, {100, 101}}},
		{"frame types", []*dicomtest.File{pairs(func(item dicomtest.Item, second bool) {
			if second {
				item[0x00189329] = dicomtest.Group(dicomtest.Item{0x00089007: text("CS", `DERIVED\PRIMARY\VOLUME\MAXIMUM`)})
			}
		})}, [][]float32{{0, 1}, {100, 101}}},
		{"two images of one region", []*dicomtest.File{object("5.1", 0, 0, 1), object("5.2", 100, 0, 1)}, [][]float32{{0, 1}, {100, 101}}},
		{"two images side by side", []*dicomtest.File{object("5.2", 100, 2, 3), object("5.1", 0, 0, 1)}, [][]float32{{0, 1, 100, 101}}},
		{"a copy", []*dicomtest.File{object("5.1", 0, 0, 1), object("5.1", 0, 0, 1)}, [][]float32{{0, 1}}},
		{"a concatenation", []*dicomtest.File{
			object("5.1", 0, 0, 2).Set(0x00209161, "UI", "5.9"), object("5.2", 100, 1, 3).Set(0x00209161, "UI", "5.9"),
		}, [][]float32{{0, 100, 1, 101}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			series, rejected := Group(folder(t, tt.files...))
			if len(series) != len(tt.want) || len(rejected) != 0 {
				t.Fatalf("%d series, rejected %v", len(series), rejected)
			}
			for i := range series {
				v, _ := read(t, &series[i], false)
				wantColumn(t, v, tt.want[i]...)
			}
		})
	}
	// Nothing tells the frames apart: refused, by the first pair that is found.
	_, _, err := one(t, pairs(func(dicomtest.Item, bool) {})).Read(false)
	if err == nil || !strings.Contains(err.Error(), "IM000, frame ") {
		t.Errorf("frames that cannot be told apart: %v", err)
	}
}

func TestEnhancedRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *dicomtest.File)
		want   string
	}{
		{"too few groups", func(f *dicomtest.File) { f.Set(0x00280008, "IS", "4") }, "(Enhanced CT, 4 frames) that says of 3 frames"},
		{"no groups", func(f *dicomtest.File) { delete(f.Elements, 0x52009230) }, "(Enhanced CT, 3 frames) that says of 0 frames"},
		{"plain CT of several frames", func(f *dicomtest.File) {
			f.Set(0x00080016, "UI", classCT)
			delete(f.Elements, 0x52009230)
		}, "(CT image, 3 frames)"},
		{"truncated", func(f *dicomtest.File) { f.Elements[0x7FE00010] = dicomtest.Value{VR: "OW", Data: make([]byte, 34)} }, "truncated: 34 of 36 bytes"},
		{"deflated", func(f *dicomtest.File) { f.Syntax = dicomtest.Deflated }, "deflated multi-frame"},
		{"too few fragments", func(f *dicomtest.File) {
			f.Syntax = dicomtest.RLE
			f.Fragments = [][]byte{rleFrame(framePixels(1)), rleFrame(framePixels(2))}
		}, "2 fragments cannot hold 3 frames"},
		{"a damaged frame", func(f *dicomtest.File) {
			f.Syntax = dicomtest.RLE
			f.Fragments = [][]byte{rleFrame(framePixels(1)), make([]byte, 70), rleFrame(framePixels(2))}
		}, "IM000, frame 2: decoding RLE"},
	} {
		f := enhanced(0, 1, 2)
		tt.change(f)
		series, _ := Group(folder(t, f))
		if len(series) != 1 {
			t.Errorf("%s: %d series", tt.name, len(series))
			continue
		}
		if _, _, err := series[0].Read(false); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "IM000") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if n := series[0].Size()[0]; n < 3 {
			t.Errorf("%s: %d slices", tt.name, n)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(f *dicomtest.File)
		want   string
	}{
		{"position of two numbers", func(f *dicomtest.File) {
			f.Elements[0x52009230].Data.([]dicomtest.Item)[1][0x00209113] = dicomtest.Group(dicomtest.Item{0x00200032: text("DS", `1\2`)})
		}, "frame 2: element (0020,0032): 2 values"},
		{"endless frames", func(f *dicomtest.File) {
			f.Elements[0x52009230] = dicomtest.Value{VR: "SQ", Data: make([]dicomtest.Item, maxFrames+1)}
		}, "more than 16384 frames"},
		{"an item longer than its sequence", func(f *dicomtest.File) {
			f.Elements[0x52009229] = dicomtest.Value{VR: "SQ", Data: []byte{0xFE, 0xFF, 0x00, 0xE0, 40, 0, 0, 0, 0x20, 0, 0x16, 0x91, 'S', 'Q', 0, 0, 0, 0, 0, 0}}
		}, "(5200,9229)"},
		{"no item", func(f *dicomtest.File) {
			f.Elements[0x52009229] = dicomtest.Value{VR: "SQ", Data: make([]byte, 8)}
		}, "(0000,0000)"},
	} {
		f := enhanced(0, 1, 2)
		tt.change(f)
		content := f.Bytes()
		if _, err := readHeader(bytes.NewReader(content), int64(len(content))); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestFramesLeftOut(t *testing.T) {
	f := enhanced(0, 1, 2)
	f.Elements[0x52009230].Data.([]dicomtest.Item)[1][0x00189329] = dicomtest.Group(dicomtest.Item{0x00089007: text("CS", `ORIGINAL\PRIMARY\LOCALIZER\NONE`)})
	series, rejected := Group(folder(t, f))
	if len(series) != 1 || len(rejected) != 1 || !strings.Contains(rejected[0].Reason, "1 of 3 frames: localizer") {
		t.Fatalf("%d series, rejected %v", len(series), rejected)
	}
	v, _ := read(t, &series[0], false)
	wantColumn(t, v, 0, 20)
}

func TestNotHU(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(f *dicomtest.File)
		want   string
	}{
		{"HU", func(f *dicomtest.File) { f.Set(0x00281054, "LO", "HU") }, ""},
		{"unspecified", func(f *dicomtest.File) { f.Set(0x00281054, "LO", "US") }, ""},
		{"optical density", func(f *dicomtest.File) { f.Set(0x00281054, "LO", "OD") }, "rescale type OD"},
		{"perfusion map", func(f *dicomtest.File) { f.Set(0x00080008, "CS", `DERIVED\PRIMARY\PERFUSION\RCBF`) }, `image type DERIVED\PRIMARY\PERFUSION\RCBF`},
	} {
		f := tiny(1, 0)
		tt.change(f)
		s := one(t, f)
		if tt.want == "" && len(s.Warnings) > 0 || tt.want != "" && (len(s.Warnings) != 1 || s.Warnings[0] != tt.want+": the values are not Hounsfield units") {
			t.Errorf("%s: warnings %q", tt.name, s.Warnings)
		}
	}
}
