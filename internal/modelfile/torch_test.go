package modelfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// archive writes a torch.save file with the given pickle and storages.
func archive(t testing.TB, pickle string, storages map[string][]byte) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	put := func(name string, content []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	put("data.pkl", []byte(pickle))
	for name, content := range storages {
		put("data/"+name, content)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.pth")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Pieces of pickles, as torch.save writes them.

func pickledText(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func pickledInts(ns ...int32) string {
	b := []byte("(")
	for _, n := range ns {
		b = binary.LittleEndian.AppendUint32(append(b, 'J'), uint32(n))
	}
	return string(append(b, 't'))
}

func pickledInt(n int32) string {
	return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n)))
}

// pickledTensor is a tensor over storage key of numel elements.
func pickledTensor(class, key string, numel, offset int32, shape, stride []int32) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickledText("storage") + "ctorch\n" + class + "\n" + pickledText(key) + pickledText("cpu") +
		pickledInt(numel) + "tQ" + pickledInt(offset) + pickledInts(shape...) + pickledInts(stride...) + "\x89ccollections\nOrderedDict\n)RtR"
}

// state is a pickled state_dict.
func state(entries ...string) string {
	var b strings.Builder
	b.WriteString("\x80\x02}(")
	for i, e := range entries {
		b.WriteString(pickledText(fmt.Sprint("t", i)) + e)
	}
	b.WriteString("u.")
	return b.String()
}

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

func TestTorchViews(t *testing.T) {
	path := archive(t, state(
		pickledTensor("FloatStorage", "0", 6, 0, []int32{2, 3}, []int32{3, 1}),
		pickledTensor("FloatStorage", "0", 6, 0, []int32{3, 2}, []int32{1, 3}), // transposed
		pickledTensor("FloatStorage", "0", 6, 1, []int32{2}, []int32{2}),       // every second element
		pickledTensor("FloatStorage", "0", 6, 5, nil, nil),                     // scalar
		pickledTensor("FloatStorage", "0", 6, 6, []int32{0, 4}, []int32{4, 1}), // empty
		pickledTensor("LongStorage", "1", 1, 0, nil, nil),
		pickledTensor("DoubleStorage", "2", 1, 0, []int32{1}, []int32{99}), // the stride of a single element is of no matter
	), map[string][]byte{
		"0": floats(0, 1, 2, 3, 4, 5), "1": {0xfe, 255, 255, 255, 255, 255, 255, 255},
		"2": binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.1)),
	})
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]float32{{0, 1, 2, 3, 4, 5}, {0, 3, 1, 4, 2, 5}, {1, 3}, {5}, {}, nil, {float32(0.1)}}
	for i, tensor := range f.Tensors {
		if !slices.Equal(tensor.F32, want[i]) {
			t.Errorf("%s: got %v, want %v", tensor.Name, tensor.F32, want[i])
		}
	}
	if got := f.Tensors[5].I64; !slices.Equal(got, []int64{-2}) {
		t.Errorf("int64: got %v", got)
	}
	if f.Format != "torch" || f.StateKey != "" || f.Model != nil {
		t.Errorf("got %+v", f)
	}
}

func TestTorchRefused(t *testing.T) {
	one := map[string][]byte{"0": floats(0, 1, 2, 3)}
	for name, tt := range map[string]struct {
		pickle   string
		storages map[string][]byte
		want     string
	}{
		"system":           {"\x80\x02cos\nsystem\n" + pickledText("true") + "\x85R.", nil, "os.system"},
		"builtins":         {"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", nil, "builtins.eval"},
		"numpy":            {state("cnumpy.core.multiarray\nscalar\n)R"), nil, "numpy.core.multiarray.scalar"},
		"other storage":    {"\x80\x02ctorch\nload\n.", nil, "torch.load"},
		"instance":         {"\x80\x02(ios\nsystem\n.", nil, "opcode 0x69"},
		"new object":       {"\x80\x02ccollections\nOrderedDict\n)\x81.", nil, "opcode 0x81"},
		"no dictionary":    {"\x80\x02]." /* a list */, nil, "no dictionary"},
		"no tensors":       {"\x80\x02}" + pickledText("epoch") + "K\x03s.", nil, "no state_dict"},
		"beyond":           {state(pickledTensor("FloatStorage", "0", 4, 1, []int32{4}, []int32{1})), one, "reaches beyond"},
		"expanded":         {state(pickledTensor("FloatStorage", "0", 4, 0, []int32{1 << 30}, []int32{0})), one, "needs 1073741824 elements"},
		"product":          {state(pickledTensor("FloatStorage", "0", 4, 0, []int32{1 << 30, 1 << 30, 1 << 30}, []int32{0, 0, 0})), one, "more elements than"},
		"negative stride":  {state(pickledTensor("FloatStorage", "0", 4, 3, []int32{4}, []int32{-1})), one, "not possible"},
		"negative offset":  {state(pickledTensor("FloatStorage", "0", 4, -1, []int32{1}, []int32{1})), one, "starts at element -1"},
		"claimed elements": {state(pickledTensor("FloatStorage", "0", 1<<30, 0, []int32{1 << 30}, []int32{1})), one, "has only 16 bytes"},
		"no storage":       {state(pickledTensor("FloatStorage", "7", 4, 0, []int32{4}, []int32{1})), one, "no data/7"},
		"two types":        {state(pickledTensor("FloatStorage", "0", 4, 0, []int32{4}, []int32{1}), pickledTensor("LongStorage", "0", 2, 0, []int32{2}, []int32{1})), one, "two element types"},
		"unknown type":     {state(pickledTensor("BoolStorage", "0", 4, 0, []int32{4}, []int32{1})), one, "torch.BoolStorage"},
		"cut":              {state(pickledTensor("FloatStorage", "0", 4, 0, []int32{4}, []int32{1}))[:60], one, "damaged"},
		"long text":        {"\x80\x02X\xff\xff\xff\x7f", nil, "damaged"},
		"long bytes":       {"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff", nil, "damaged"},
		"long number":      {"\x80\x02\x8a\xff" + strings.Repeat("1", 255) + ".", nil, "255 bytes"},
		"empty stack":      {"\x80\x02R.", nil, "damaged"},
		"no mark":          {"\x80\x02]e.", nil, "damaged"},
		"odd dictionary":   {"\x80\x02}(K\x01u.", nil, "damaged"},
		"no memo":          {"\x80\x02h\x05.", nil, "damaged"},
		"protocol":         {"\x80\x09N.", nil, "protocol 9"},
		"state of a list":  {"\x80\x02]}b.", nil, "damaged"},
		"called storage":   {"\x80\x02ctorch\nFloatStorage\n)R.", nil, "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			path := archive(t, tt.pickle, tt.storages)
			_, err := Open(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q and the path", err, tt.want)
			}
		})
	}
}

// TestTorchOverlap gives many strided views of one storage, which together would take far more than the file.
func TestTorchOverlap(t *testing.T) {
	const n = 1 << 14
	views := make([]string, 200)
	for i := range views {
		views[i] = pickledTensor("FloatStorage", "0", n, 0, []int32{n / 128, 128}, []int32{1, n / 128})
	}
	_, err := Open(archive(t, state(views...), map[string][]byte{"0": make([]byte, 4*n)}))
	if err == nil || !strings.Contains(err.Error(), "overlap") {
		t.Errorf("got %v", err)
	}
}

func TestTorchContainer(t *testing.T) {
	write := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "x.pth")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	zipped := func(name string, method uint16, size int) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for want, content := range map[string][]byte{
		"compressed":             zipped("archive/data.pkl", zip.Deflate, 1<<20),
		"without data.pkl":       zipped("archive/other", zip.Store, 4),
		"more than the":          zipped("archive/data.pkl", zip.Store, maxPickle+1),
		"zip directory":          []byte("PK\x03\x04 and nothing else"),
		"before PyTorch 1.6":     {0x80, 2, 0x8a, 10, 0x6c, 0xfc},
		"as a safetensors file:": []byte("what is this"),
	} {
		if _, err := Open(write(content)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "folder") {
		t.Errorf("got %v", err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.pth")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestTorchDamaged cuts and changes a good file everywhere: it is read or refused, in little memory.
func TestTorchDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.pth")
	tensors := []Tensor{{Name: "w", Shape: []int{2, 3}, F32: []float32{1, 2, 3, 4, 5, 6}}, {Name: "n", I64: []int64{7}}}
	if err := SaveTorch(path, tensors); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	read := func(content []byte) {
		if a, err := openTorch(bytes.NewReader(content), int64(len(content))); err == nil {
			names, views := a.tensors()
			for _, n := range names {
				_, _ = a.load(n, views[n])
			}
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range good {
		read(good[:n])
		for _, flip := range []byte{0x01, 0x80, 0xff} {
			bad := slices.Clone(good)
			bad[n] ^= flip
			read(bad)
		}
	}
	runtime.ReadMemStats(&after)
	if per := (after.TotalAlloc - before.TotalAlloc) / uint64(4*len(good)); per > 64<<10 {
		t.Errorf("a damaged file of %d bytes takes %d bytes on average", len(good), per)
	}
}

// TestTorchRoundTrip: what is written comes back bit by bit, and equal tensors give equal bytes.
func TestTorchRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		var tensors []Tensor
		for i := range rapid.IntRange(1, 5).Draw(r, "tensors") {
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 5).Draw(r, "shape")
			n, err := elements(shape)
			if err != nil {
				r.Fatal(err)
			}
			tensor := Tensor{Name: rapid.StringN(0, 8, 20).Draw(r, "name") + fmt.Sprint(i), Shape: shape}
			if rapid.Bool().Draw(r, "integers") {
				tensor.I64 = rapid.SliceOfN(rapid.Int64(), n, n).Draw(r, "values")
			} else {
				for range n {
					tensor.F32 = append(tensor.F32, math.Float32frombits(rapid.Uint32().Draw(r, "bits")))
				}
			}
			tensors = append(tensors, tensor)
		}
		a, b := filepath.Join(dir, "a.pth"), filepath.Join(dir, "b.pth")
		if err := SaveTorch(a, tensors); err != nil {
			r.Fatal(err)
		}
		slices.Reverse(tensors)
		if err := SaveTorch(b, tensors); err != nil {
			r.Fatal(err)
		}
		rawA, _ := os.ReadFile(a)
		rawB, _ := os.ReadFile(b)
		if len(rawA) == 0 || !bytes.Equal(rawA, rawB) {
			r.Fatal("the bytes depend on the order of the tensors")
		}
		f, err := Open(a)
		if err != nil {
			r.Fatal(err)
		}
		slices.SortFunc(tensors, func(x, y Tensor) int { return strings.Compare(x.Name, y.Name) })
		for i, want := range tensors {
			got := f.Tensors[i]
			same := slices.EqualFunc(got.F32, want.F32, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
			if got.Name != want.Name || !slices.Equal(got.Shape, want.Shape) || !same || !slices.Equal(got.I64, want.I64) {
				r.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}

func FuzzUnpickle(f *testing.F) {
	f.Add([]byte(state(pickledTensor("FloatStorage", "0", 4, 0, []int32{4}, []int32{1}))))
	f.Add(pickleState([]Tensor{{Name: "w", Shape: []int{1}, F32: []float32{1}}}))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = unpickle(data) })
}
