package modelfile

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// maxPickle is the largest pickle that is read. A state_dict needs some 200 bytes a tensor.
const maxPickle = 4 << 20

// torchArchive is an open torch.save file.
type torchArchive struct {
	entries map[string]*zip.File // by the name below the archive's folder
	state   *pickleDict
	key     string // where the state_dict was found, such as model_state_dict; empty: it is the file itself
	loaded  map[torchStorage]Tensor
	budget  int64 // elements that may still be copied out of storages
}

// openTorch reads the directory and the pickle of a torch.save file of size bytes and finds its state_dict.
func openTorch(r io.ReaderAt, size int64) (*torchArchive, error) {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("its zip directory cannot be read, it may be cut short: %w", err)
	}
	a := &torchArchive{entries: map[string]*zip.File{}, loaded: map[torchStorage]Tensor{}}
	folder, ok := "", false
	var total uint64
	for _, f := range z.File {
		// Sizes are believed only as far as the file itself goes: nothing is compressed, nothing overlaps.
		if f.Method != zip.Store || f.CompressedSize64 != f.UncompressedSize64 {
			return nil, fmt.Errorf("its entry %q is compressed, which torch.save does not do", clip(f.Name))
		}
		if f.UncompressedSize64 > uint64(size) || total+f.UncompressedSize64 > uint64(size) {
			return nil, fmt.Errorf("its entries claim more bytes than the %d of the file", size)
		}
		total += f.UncompressedSize64
		if before, found := strings.CutSuffix(f.Name, "data.pkl"); found && !ok && strings.Count(f.Name, "/") <= 1 {
			folder, ok = before, true
		}
	}
	if !ok {
		return nil, errors.New("it is a zip file without data.pkl: torch.save did not write it")
	}
	for _, f := range z.File {
		if name, found := strings.CutPrefix(f.Name, folder); found {
			a.entries[name] = f
		}
	}
	a.budget = int64(total)
	if order, err := a.read("byteorder", 64); err == nil && string(order) == "big" {
		return nil, errors.New("it was written on a big-endian machine, which is not supported")
	}
	data, err := a.read("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	root, err := unpickle(data)
	if err != nil {
		return nil, err
	}
	a.state, a.key, err = findState(root)
	return a, err
}

// read returns a whole small entry.
func (a *torchArchive) read(name string, most uint64) ([]byte, error) {
	f := a.entries[name]
	if f == nil {
		return nil, fmt.Errorf("it has no %s", name)
	}
	if f.UncompressedSize64 > most {
		return nil, fmt.Errorf("its %s has %d bytes, more than the %d of any state_dict", name, f.UncompressedSize64, most)
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b := make([]byte, f.UncompressedSize64)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, shortRead(err))
	}
	return b, nil
}

// stateKeys are the names under which training scripts keep a state_dict, the likeliest first.
func stateKeys() []string {
	return []string{"model_state_dict", "state_dict", "model", "network", "net", "module", "weights"}
}

// findState returns the state_dict within what was pickled: the value of one of the usual keys, or the
// dictionary itself.
func findState(root any) (state *pickleDict, key string, err error) {
	d, ok := root.(*pickleDict)
	if !ok {
		return nil, "", errors.New("it holds no dictionary: save the state_dict (torch.save(model.state_dict(), FILE))")
	}
	for depth := 0; depth < 4; depth++ {
		next, name := (*pickleDict)(nil), ""
		for _, k := range stateKeys() {
			if v, ok := d.get(k); ok {
				if inner, ok := v.(*pickleDict); ok {
					next, name = inner, k
					break
				}
			}
		}
		if next == nil {
			break
		}
		d, key = next, strings.TrimPrefix(key+"."+name, ".")
	}
	var names []string
	for i, v := range d.values {
		if _, ok := v.(*torchTensor); ok {
			return d, key, nil
		}
		if k, ok := d.keys[i].(string); ok && len(names) < 20 {
			names = append(names, clip(k))
		}
	}
	return nil, "", fmt.Errorf("it holds no state_dict: there is no tensor in it, and none of its keys (%s) is one of %s",
		strings.Join(names, ", "), strings.Join(stateKeys(), ", "))
}

// tensors lists the views of the state_dict by name, sorted; of a repeated name the last one.
func (a *torchArchive) tensors() (names []string, views map[string]*torchTensor) {
	views = map[string]*torchTensor{}
	for i, k := range a.state.keys {
		name, ok1 := k.(string)
		t, ok2 := a.state.values[i].(*torchTensor)
		if ok1 && ok2 {
			views[name] = t
		}
	}
	for name := range views {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, views
}

// load reads the values of one view.
func (a *torchArchive) load(name string, v *torchTensor) (Tensor, error) {
	shape, err := v.check()
	if err != nil {
		return Tensor{}, err
	}
	all, err := a.storage(v.storage)
	if err != nil {
		return Tensor{}, err
	}
	t := Tensor{Name: name, Shape: shape}
	n, _ := elements(shape)
	if v.contiguous() {
		if all.I64 != nil {
			t.I64 = all.I64[v.offset : v.offset+int64(n) : v.offset+int64(n)]
		} else {
			t.F32 = all.F32[v.offset : v.offset+int64(n) : v.offset+int64(n)]
		}
		return t, nil
	}
	if a.budget -= int64(n); a.budget < 0 {
		return Tensor{}, errors.New("the tensors overlap so often that they would take more memory than the file")
	}
	if all.I64 != nil {
		t.I64 = gather(all.I64, v, n)
	} else {
		t.F32 = gather(all.F32, v, n)
	}
	return t, nil
}

// check returns the shape, if the view lies inside its storage and does not repeat elements of it.
func (v *torchTensor) check() ([]int, error) {
	shape := make([]int, len(v.shape))
	last := v.offset
	if v.offset < 0 || v.offset > v.storage.numel {
		return nil, fmt.Errorf("it starts at element %d of a storage of %d", v.offset, v.storage.numel)
	}
	for i, s := range v.shape {
		if s < 0 || v.stride[i] < 0 || s > math.MaxInt {
			return nil, fmt.Errorf("shape %v with strides %v is not possible", v.shape, v.stride)
		}
		shape[i] = int(s)
	}
	n, err := elements(shape)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return shape, nil
	}
	if int64(n) > v.storage.numel {
		return nil, fmt.Errorf("shape %v needs %d elements, its storage has %d", v.shape, n, v.storage.numel)
	}
	for i, s := range v.shape {
		if s > 1 {
			if v.stride[i] > (v.storage.numel-1-last)/(s-1) {
				return nil, fmt.Errorf("shape %v with strides %v reaches beyond its storage of %d elements", v.shape, v.stride, v.storage.numel)
			}
			last += v.stride[i] * (s - 1)
		}
	}
	if last >= v.storage.numel {
		return nil, fmt.Errorf("it ends at element %d of a storage of %d", last, v.storage.numel)
	}
	return shape, nil
}

// contiguous reports whether the elements lie in row-major order without gaps.
func (v *torchTensor) contiguous() bool {
	want := int64(1)
	for i := len(v.shape) - 1; i >= 0; i-- {
		if v.shape[i] == 0 {
			return true
		}
		if v.shape[i] != 1 && v.stride[i] != want {
			return false
		}
		want *= v.shape[i]
	}
	return true
}

// gather copies the n elements of a view in row-major order.
func gather[T any](from []T, v *torchTensor, n int) []T {
	out := make([]T, n)
	index := make([]int64, len(v.shape))
	at := v.offset
	for i := range out {
		out[i] = from[at]
		for d := len(index) - 1; d >= 0; d-- {
			index[d]++
			at += v.stride[d]
			if index[d] < v.shape[d] {
				break
			}
			at -= v.stride[d] * v.shape[d]
			index[d] = 0
		}
	}
	return out
}

// storage returns the values of a storage as a tensor of one axis, read once.
func (a *torchArchive) storage(s torchStorage) (Tensor, error) {
	if t, ok := a.loaded[s]; ok {
		return t, nil
	}
	each, ok := elementBytes(s.dtype)
	if !ok {
		return Tensor{}, fmt.Errorf("its elements are %s, supported are float32, float16, bfloat16, float64 and int64", s.dtype)
	}
	f := a.entries["data/"+s.key]
	if f == nil {
		return Tensor{}, fmt.Errorf("the file has no data/%s", clip(s.key))
	}
	if s.numel > int64(f.UncompressedSize64)/each {
		return Tensor{}, fmt.Errorf("its storage of %d elements of %s has only %d bytes", s.numel, s.dtype, f.UncompressedSize64)
	}
	r, err := f.Open()
	if err != nil {
		return Tensor{}, fmt.Errorf("data/%s: %w", clip(s.key), err)
	}
	defer r.Close()
	t, err := readValues(r, storedTensor{dtype: s.dtype, shape: []int{int(s.numel)}, count: int(s.numel)}, nil)
	if err != nil {
		return Tensor{}, fmt.Errorf("data/%s: %w", clip(s.key), err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // to the end, where the checksum is compared
		return Tensor{}, fmt.Errorf("data/%s: %w", clip(s.key), err)
	}
	for other := range a.loaded {
		if other.key == s.key { // one storage under several types would be read over and over
			return Tensor{}, fmt.Errorf("data/%s is used with two element types or lengths", clip(s.key))
		}
	}
	a.loaded[s] = t
	return t, nil
}

// File is a file of weights of any format that can be read.
type File struct {
	Format   string            // safetensors or torch
	Tensors  []Tensor          // sorted by name
	Metadata map[string]string // of a safetensors file
	Model    *Model            // without Tensors; nil: the file is no model of ctclass
	StateKey string            // where the state_dict lies in a torch file; empty: it is the whole file
}

// Open reads a safetensors file or a torch.save file (zip format, PyTorch 1.6 and newer); the content decides
// which it is. Of a torch file only tensors are ever made, and only those of the state_dict; everything else
// that Python could make is refused by name. F16, BF16 and F64 values become float32.
func Open(path string) (*File, error) {
	f, size, format, err := sniff(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := &File{Format: format}
	if format == "safetensors" {
		if out.Tensors, out.Metadata, err = decode(f, size); err != nil {
			return nil, fmt.Errorf("%s cannot be read as a safetensors file: %w", path, err)
		}
		if text, ok := out.Metadata[modelKey]; ok {
			if out.Model, err = decodeModel(text); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		return out, nil
	}
	a, err := openTorch(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read as a torch file: %w", path, err)
	}
	out.StateKey = a.key
	names, views := a.tensors()
	for _, name := range names {
		t, err := a.load(name, views[name])
		if err != nil {
			return nil, fmt.Errorf("%s: tensor %q: %w", path, clip(name), err)
		}
		out.Tensors = append(out.Tensors, t)
	}
	return out, nil
}

// Entry is a tensor as a file stores it.
type Entry struct {
	Name  string `json:"name"`
	DType string `json:"dtype"` // F32, F16, BF16, F64, I64, or torch's name of a type that cannot be read
	Shape []int  `json:"shape"`
}

// List returns what a file of weights holds without reading any values; the result's Tensors are nil.
func List(path string) (*File, []Entry, error) {
	f, size, format, err := sniff(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	out := &File{Format: format}
	var entries []Entry
	if format == "safetensors" {
		header, err := readHeader(f, size)
		if err == nil {
			var stored []storedTensor
			if stored, out.Metadata, err = parseHeader(header); err == nil {
				err = checkLayout(stored, size-8-int64(len(header)))
			}
			for _, s := range stored {
				entries = append(entries, Entry{s.name, s.dtype, s.shape})
			}
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%s cannot be read as a safetensors file: %w", path, err)
		}
		if text, ok := out.Metadata[modelKey]; ok {
			if out.Model, err = decodeModel(text); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	} else {
		a, err := openTorch(f, size)
		if err != nil {
			return nil, nil, fmt.Errorf("%s cannot be read as a torch file: %w", path, err)
		}
		out.StateKey = a.key
		names, views := a.tensors()
		for _, name := range names {
			shape, err := views[name].check()
			if err != nil {
				return nil, nil, fmt.Errorf("%s: tensor %q: %w", path, clip(name), err)
			}
			entries = append(entries, Entry{name, views[name].storage.dtype, shape})
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out, entries, nil
}

// sniff opens a file of weights and tells its format by its first bytes.
func sniff(path string) (f *os.File, size int64, format string, err error) {
	if f, err = os.Open(path); err != nil {
		return nil, 0, "", fmt.Errorf("cannot read the weights: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, "", fmt.Errorf("cannot read the weights: %w", err)
	}
	if info.IsDir() {
		return nil, 0, "", fmt.Errorf("%s is a folder, expected a .safetensors or .pth file", path)
	}
	var first [4]byte
	n, err := f.ReadAt(first[:], 0)
	if err != nil && err != io.EOF {
		return nil, 0, "", fmt.Errorf("cannot read the weights: %w", err)
	}
	switch head := string(first[:n]); {
	case strings.HasPrefix(head, "PK"):
		return f, info.Size(), "torch", nil
	case n >= 2 && first[0] == 0x80 && first[1] <= 5 && !strings.HasSuffix(path, ".safetensors"):
		return nil, 0, "", fmt.Errorf("%s is a torch file of the format before PyTorch 1.6: open it with torch.load and save it again", path)
	}
	return f, info.Size(), "safetensors", nil
}
