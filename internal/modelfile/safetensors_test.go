package modelfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// file builds a safetensors file out of a header and data.
func file(header string, data []byte) []byte {
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(out, header...), data...)
}

func decodeBytes(b []byte) ([]Tensor, map[string]string, error) {
	return decode(bytes.NewReader(b), int64(len(b)))
}

// The bytes follow from the format's description: integers first, then names in order, header
// padded to eight bytes.
func TestBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.safetensors")
	err := SaveTensors(path, []Tensor{
		{Name: "b", Shape: []int{2}, F32: []float32{1, -2}},
		{Name: "n", I64: []int64{-1}},
		{Name: "a", Shape: []int{1, 1}, F32: []float32{0.5}},
	}, map[string]string{"k": "<v>"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	header := `{"__metadata__":{"k":"<v>"},"n":{"dtype":"I64","shape":[],"data_offsets":[0,8]},` +
		`"a":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`
	header += strings.Repeat(" ", (8-len(header)%8)%8)
	want := file(header, []byte{
		255, 255, 255, 255, 255, 255, 255, 255,
		0, 0, 0, 0x3f,
		0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0,
	})
	if !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		var tensors []Tensor
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zé"\\.0-9]{0,12}`), 0, 6, rapid.ID).Draw(t, "names")
		for _, name := range names {
			shape := rapid.SliceOfN(rapid.IntRange(0, 5), 0, 4).Draw(t, "shape")
			n, err := elements(shape)
			if err != nil {
				t.Fatal(err)
			}
			x := Tensor{Name: name, Shape: shape}
			if rapid.Bool().Draw(t, "integers") {
				x.I64 = rapid.SliceOfN(rapid.Int64(), n, n).Draw(t, "values")
			} else {
				x.F32 = rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, "values")
			}
			tensors = append(tensors, x)
		}
		metadata := rapid.MapOf(rapid.StringMatching(`[a-z]{1,4}`), rapid.StringMatching(`[ -~ä]{0,20}`)).Draw(t, "metadata")
		path := filepath.Join(dir, "t.safetensors")
		if err := SaveTensors(path, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		got, gotMeta, err := LoadTensors(path)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(tensors, func(a, b Tensor) int { return strings.Compare(a.Name, b.Name) })
		if len(got) != len(tensors) || len(got) > 0 && !reflect.DeepEqual(got, tensors) {
			t.Errorf("got %v, want %v", got, tensors)
		}
		if !reflect.DeepEqual(gotMeta, metadata) {
			t.Errorf("metadata: got %v, want %v", gotMeta, metadata)
		}
	})
}

// More values than one conversion chunk, on both sides of its border.
func TestLargeTensor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.safetensors")
	want := make([]float32, 2*chunk+3)
	for i := range want {
		want[i] = float32(i)
	}
	if err := SaveTensors(path, []Tensor{{Name: "x", Shape: []int{len(want)}, F32: want}}, nil); err != nil {
		t.Fatal(err)
	}
	got, _, err := LoadTensors(path)
	if err != nil || !slices.Equal(got[0].F32, want) {
		t.Errorf("large tensor changed on the way (%v)", err)
	}
}

// Bit patterns with their values by IEEE 754.
func TestConversions(t *testing.T) {
	inf := float32(math.Inf(1))
	cases := []struct {
		dtype string
		data  []byte
		want  []float32
	}{
		{
			"F16",
			[]byte{0x00, 0x3c, 0x00, 0xc0, 0xff, 0x7b, 0x01, 0x00, 0xff, 0x03, 0x00, 0x04, 0x00, 0x7c, 0x00, 0x80, 0x55, 0x35},
			[]float32{1, -2, 65504, 0x1p-24, 0x1p-14 - 0x1p-24, 0x1p-14, inf, 0, 0.333251953125},
		},
		{"BF16", []byte{0x80, 0x3f, 0x49, 0x40, 0x80, 0xff}, []float32{1, 3.140625, -inf}},
		{"F64", []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f, 0x9a, 0x99, 0x99, 0x99, 0x99, 0x99, 0xb9, 0x3f}, []float32{1.5, 0.1}},
	}
	size := map[string]int{"F16": 2, "BF16": 2, "F64": 8}
	for _, c := range cases {
		n := len(c.data) / size[c.dtype]
		header := `{"x":{"dtype":"` + c.dtype + `","shape":[` + strconv.Itoa(n) + `],"data_offsets":[0,` + strconv.Itoa(len(c.data)) + `]}}`
		got, _, err := decodeBytes(file(header, c.data))
		if err != nil {
			t.Errorf("%s: %v", c.dtype, err)
			continue
		}
		if !slices.Equal(got[0].F32, c.want) {
			t.Errorf("%s: got %v, want %v", c.dtype, got[0].F32, c.want)
		}
	}
	if x := halfToFloat(0x8000); !math.Signbit(float64(x)) {
		t.Error("the sign of -0 was lost")
	}
	if x := halfToFloat(0x7e01); x == x {
		t.Errorf("a half NaN became %v", x)
	}
}

func TestMalformed(t *testing.T) {
	entry := func(s string) string { return `{"x":` + s + `}` }
	big := binary.LittleEndian.AppendUint64(nil, math.Float64bits(1e300))
	cases := []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"empty", nil, "too few"},
		{"short", []byte("abc"), "too few"},
		{"huge header", append(binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "{}"...), "header claims"},
		{"header beyond the end", append(binary.LittleEndian.AppendUint64(nil, 3), "{}"...), "header claims"},
		{"a zip", []byte("PK\x03\x04 something else entirely"), "header claims"},
		{"not JSON", file("{x", nil), "header"},
		{"an array", file("[]", nil), "start with {"},
		{"leading space", file(" {}", nil), "start with {"},
		{"trailing text", file("{} x", nil), "follow"},
		{"unclosed", file(`{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}`, make([]byte, 4)), "header"},
		{"metadata not strings", file(`{"__metadata__":{"a":1}}`, nil), "__metadata__"},
		{"repeated name", file(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, nil), "twice"},
		{"unknown key", file(entry(`{"dtype":"F32","shape":[],"data_offsets":[0,4],"z":1}`), make([]byte, 4)), `"z"`},
		{"no shape", file(entry(`{"dtype":"F32","data_offsets":[0,4]}`), make([]byte, 4)), "shape"},
		{"no offsets", file(entry(`{"dtype":"F32","shape":[]}`), make([]byte, 4)), "data_offsets"},
		{"three offsets", file(entry(`{"dtype":"F32","shape":[],"data_offsets":[0,4,4]}`), make([]byte, 4)), "data_offsets"},
		{"integer type", file(entry(`{"dtype":"U8","shape":[4],"data_offsets":[0,4]}`), make([]byte, 4)), `"U8"`},
		{"fractional size", file(entry(`{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}`), make([]byte, 4)), "header"},
		{"negative size", file(entry(`{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}`), make([]byte, 4)), "negative"},
		{"overflowing shape", file(entry(`{"dtype":"F32","shape":[4294967296,4294967296,4294967297],"data_offsets":[0,4]}`), make([]byte, 4)), "more elements"},
		{"shape larger than data", file(entry(`{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}`), make([]byte, 4)), "has 4 bytes"},
		{"odd bytes", file(entry(`{"dtype":"F32","shape":[1],"data_offsets":[0,5]}`), make([]byte, 5)), "has 5 bytes"},
		{"beyond the end", file(entry(`{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`), make([]byte, 4)), "of 4"},
		{"backwards", file(entry(`{"dtype":"F32","shape":[1],"data_offsets":[4,0]}`), make([]byte, 4)), "of 4"},
		{"negative offset", file(entry(`{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}`), make([]byte, 4)), "of 4"},
		{"gap at the start", file(entry(`{"dtype":"F32","shape":[1],"data_offsets":[4,8]}`), make([]byte, 8)), "belong to nothing"},
		{"rest at the end", file(entry(`{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`), make([]byte, 8)), "belong to nothing"},
		{"overlap", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, make([]byte, 8)), "overlaps"},
		{"double out of range", file(entry(`{"dtype":"F64","shape":[1],"data_offsets":[0,8]}`), big), "range"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := decodeBytes(c.bytes)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, path + ".absent", filepath.Dir(path)} {
		if _, _, err := LoadTensors(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("error %v does not name %s", err, p)
		}
	}
}

// A file that shrinks while it is read, and any cut of a good file, is an error.
func TestCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.safetensors")
	if err := SaveTensors(path, exampleModel().Tensors, map[string]string{"k": "v"}); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, _, err := decodeBytes(whole[:n]); err == nil {
			t.Errorf("the first %d of %d bytes were accepted", n, len(whole))
		}
		if _, _, err := decode(bytes.NewReader(whole[:n]), int64(len(whole))); err == nil {
			t.Errorf("the first %d of %d bytes were accepted as the whole", n, len(whole))
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(file(`{"x":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}`, make([]byte, 4)))
	f.Add(file(`{"__metadata__":{"a":"b"},"x":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, make([]byte, 8)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tensors, _, err := decodeBytes(b)
		if err != nil {
			return
		}
		for _, x := range tensors {
			if err := x.check(); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestMatchTensors(t *testing.T) {
	have := []Tensor{
		{Name: "a", Shape: []int{2}, F32: make([]float32, 2)},
		{Name: "b", Shape: []int{3}, F32: make([]float32, 3)},
		{Name: "n", I64: []int64{1}},
		{Name: "extra", F32: []float32{1}},
		{Name: "another", F32: []float32{1}},
	}
	want := []Spec{{"z", []int{1}, F32}, {"a", []int{2}, F32}, {"b", []int{1, 3}, F32}, {"n", nil, F32}, {"m", nil, I64}}
	err := MatchTensors(have, want)
	var diff *MismatchError
	if !errors.As(err, &diff) {
		t.Fatalf("got %v", err)
	}
	expect := MismatchError{
		Missing:    []string{"m", "z"},
		Unexpected: []string{"another", "extra"},
		Misshaped:  []string{"b is [3], expected [1 3]", "n is I64, expected F32"},
	}
	if !reflect.DeepEqual(*diff, expect) {
		t.Errorf("got %+v, want %+v", *diff, expect)
	}
	for _, word := range []string{"2 missing (m, z)", "2 unexpected (another, extra)", "b is [3], expected [1 3]"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q lacks %q", err, word)
		}
	}
	if err := MatchTensors(have[:1], want[1:2]); err != nil {
		t.Errorf("equal tensors: %v", err)
	}
}
