package modelfile

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

// Values that are loaded when they are written, into one buffer, give the bytes of values that lie in memory.
func TestLoadWhenWritten(t *testing.T) {
	a := Tensor{Name: "a", Shape: []int{2, 3}, F32: []float32{1, 2, 3, 4, 5, 6}}
	b := Tensor{Name: "b", Shape: []int{2}, F32: []float32{7, 8}}
	n := Tensor{Name: "n", I64: []int64{9}}
	buf := make([]float32, 6)
	later := func(t Tensor) Tensor {
		values := t.F32
		return Tensor{Name: t.Name, Shape: t.Shape, Load: func() []float32 { return buf[:copy(buf, values)] }}
	}
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one"), filepath.Join(dir, "two")
	if err := SaveTensors(one, []Tensor{a, b, n}, nil); err != nil {
		t.Fatal(err)
	}
	if err := SaveTensors(two, []Tensor{later(b), n, later(a)}, nil); err != nil {
		t.Fatal(err)
	}
	want, errOne := os.ReadFile(one)
	got, errTwo := os.ReadFile(two)
	if errOne != nil || errTwo != nil || !bytes.Equal(got, want) {
		t.Fatalf("the files differ (%v, %v)", errOne, errTwo)
	}

	short := Tensor{Name: "a", Shape: []int{2, 3}, Load: func() []float32 { return buf[:5] }}
	both := later(a)
	both.F32 = a.F32
	for name, bad := range map[string]Tensor{"too few values": short, "values of two kinds": both} {
		if err := SaveTensors(two, []Tensor{bad}, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
		if after, err := os.ReadFile(two); err != nil || !bytes.Equal(after, want) {
			t.Errorf("%s: the file was changed (%v)", name, err)
		}
	}
}

func TestEachTensor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.safetensors")
	stored := []Tensor{
		{Name: "a", Shape: []int{2}, F32: []float32{1, 2}},
		{Name: "b", Shape: []int{}, I64: []int64{3}},
		{Name: "c", Shape: []int{1, 1}, F32: []float32{4}},
	}
	if err := SaveTensors(path, stored, map[string]string{"key": "value"}); err != nil {
		t.Fatal(err)
	}
	accepted := false
	taken := map[string]Tensor{}
	take := func(x Tensor) error { x.F32 = slices.Clone(x.F32); taken[x.Name] = x; return nil }
	err := EachTensor(path, func(metadata map[string]string, tensors []Tensor) error {
		accepted = len(taken) == 0
		if metadata["key"] != "value" || len(tensors) != 3 {
			t.Errorf("%v, %v", metadata, tensors)
		}
		for i, x := range tensors {
			s := stored[i]
			if x.Name != s.Name || !reflect.DeepEqual(x.Shape, s.Shape) || x.DType() != s.DType() || len(x.F32)+len(x.I64) > 0 {
				t.Errorf("%+v, want %+v without its values", x, s)
			}
		}
		return nil
	}, take)
	if err != nil || !accepted || len(taken) != 3 {
		t.Fatalf("%v, accepted first %v, taken %v", err, accepted, taken)
	}
	for _, s := range stored {
		if !reflect.DeepEqual(taken[s.Name], s) {
			t.Errorf("%+v, want %+v", taken[s.Name], s)
		}
	}

	refusal := errors.New("not this one")
	accept := func(map[string]string, []Tensor) error { return nil }
	clear(taken)
	if err := EachTensor(path, func(map[string]string, []Tensor) error { return refusal }, take); err != refusal || len(taken) > 0 {
		t.Errorf("refused: %v, %d tensors taken", err, len(taken))
	}
	if err := EachTensor(path, accept, func(Tensor) error { return refusal }); err != refusal {
		t.Errorf("refused one: %v", err)
	}
	if err := os.WriteFile(path, []byte("nothing"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := EachTensor(path, accept, take); err == nil || errors.Is(err, refusal) {
		t.Errorf("damaged: %v", err)
	}
}
