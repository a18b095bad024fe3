package modelfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// This file reads the pickle of a torch.save file. It is no general unpickler: the values it can make are
// numbers, strings, lists, tuples, dictionaries and descriptions of tensors. A pickle asks for everything
// else by the name of a Python global, and every global that is not in [unpickler.global] is refused.

// The values of a pickle. Others are nil, bool, int64, float64 and string (text and bytes).
type (
	pickleTuple []any
	pickleList  struct{ items []any }
	// pickleDict keeps its entries in order; of repeated keys the last one counts.
	pickleDict struct{ keys, values []any }
	// pickleGlobal is a Python name that may be used.
	pickleGlobal struct{ module, name string }
	// pickleMark is where a MARK was put on the stack.
	pickleMark struct{}
)

// torchStorage names a storage of the archive.
type torchStorage struct {
	dtype string // element type as in safetensors, or the torch name of one that cannot be read
	key   string
	numel int64
}

// torchTensor is a strided view of a storage.
type torchTensor struct {
	storage       torchStorage
	offset        int64
	shape, stride []int64
}

// get returns the value of a text key.
func (d *pickleDict) get(key string) (any, bool) {
	for i := len(d.keys) - 1; i >= 0; i-- {
		if k, ok := d.keys[i].(string); ok && k == key {
			return d.values[i], true
		}
	}
	return nil, false
}

// unpickler runs the opcodes of one pickle.
type unpickler struct {
	in    *bytes.Reader
	stack []any
	memo  map[uint64]any
}

var errPickle = errors.New("its pickle is damaged")

// unpickle returns the value of a pickle. Every opcode takes at least one byte and makes at most one small
// value, and lengths are checked against the bytes that are left: memory is bounded by the pickle's length.
func unpickle(data []byte) (any, error) {
	u := &unpickler{in: bytes.NewReader(data), memo: map[uint64]any{}}
	for {
		op, err := u.in.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("%w: it ends too early", errPickle)
		}
		if op == '.' {
			return u.pop()
		}
		if err := u.run(op); err != nil {
			return nil, err
		}
	}
}

// run executes one opcode; the letters are those of Python's pickle module.
func (u *unpickler) run(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.in.ReadByte()
		if err == nil && v > 5 {
			return fmt.Errorf("its pickle has protocol %d, at most 5 can be read", v)
		}
		return u.short(err)
	case 0x95: // FRAME: its length is of no use here
		_, err := u.uint(8)
		return err
	case '(':
		u.push(pickleMark{})
	case '0':
		_, err := u.pop()
		return err
	case '1':
		_, err := u.popMark()
		return err
	case 'N':
		u.push(nil)
	case 0x88, 0x89:
		u.push(op == 0x88)
	case 'J', 'K', 'M', 'I', 'L', 0x8a, 'F', 'G':
		return u.number(op)
	case 'X', 0x8c, 0x8d, 'V', 'T', 'U', 'B', 'C', 0x8e:
		return u.text(op)
	case ']', ')', '}', 0x85, 0x86, 0x87, 't', 'l', 'd', 'a', 'e', 's', 'u':
		return u.container(op)
	case 'p', 'q', 'r', 0x94, 'g', 'h', 'j':
		return u.remember(op)
	case 'c', 0x93:
		return u.global(op)
	case 'R':
		return u.reduce()
	case 'b':
		return u.build()
	case 'Q':
		return u.persistent()
	default:
		return fmt.Errorf("its pickle uses the opcode %#02x, which no state_dict needs: save only the state_dict", op)
	}
	return nil
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

func (u *unpickler) pop() (any, error) {
	if len(u.stack) == 0 {
		return nil, errPickle
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	if _, isMark := v.(pickleMark); isMark {
		return nil, errPickle
	}
	return v, nil
}

// popMark returns what lies above the last mark and takes the mark away.
func (u *unpickler) popMark() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, isMark := u.stack[i].(pickleMark); isMark {
			items := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return items, nil
		}
	}
	return nil, errPickle
}

func (u *unpickler) short(err error) error {
	if err != nil {
		return fmt.Errorf("%w: it ends too early", errPickle)
	}
	return nil
}

// uint reads n bytes, little-endian.
func (u *unpickler) uint(n int) (uint64, error) {
	var word [8]byte
	if u.in.Len() < n {
		return 0, u.short(errPickle)
	}
	_, err := u.in.Read(word[:n])
	return binary.LittleEndian.Uint64(word[:]), u.short(err)
}

// bytes reads n bytes, of which the file must have as many left.
func (u *unpickler) bytes(n uint64) ([]byte, error) {
	if n > uint64(u.in.Len()) {
		return nil, u.short(errPickle)
	}
	b := make([]byte, n)
	if n > 0 {
		if _, err := u.in.Read(b); err != nil {
			return nil, u.short(err)
		}
	}
	return b, nil
}

// line reads up to a line feed.
func (u *unpickler) line() (string, error) {
	var b strings.Builder
	for {
		c, err := u.in.ReadByte()
		if err != nil {
			return "", u.short(err)
		}
		if c == '\n' {
			return b.String(), nil
		}
		b.WriteByte(c)
	}
}

func (u *unpickler) number(op byte) error {
	width := map[byte]int{'J': 4, 'K': 1, 'M': 2, 0x8a: 1, 'G': 8}[op]
	var word uint64
	var text string
	var err error
	if width > 0 {
		word, err = u.uint(width)
	} else {
		text, err = u.line()
	}
	if err != nil {
		return err
	}
	switch op {
	case 'J':
		u.push(int64(int32(word)))
	case 'K', 'M':
		u.push(int64(word))
	case 0x8a: // LONG1: a length and a number in two's complement
		raw, err := u.bytes(word)
		if err != nil {
			return err
		}
		if len(raw) > 8 {
			return fmt.Errorf("its pickle has a number of %d bytes", len(raw))
		}
		var b [8]byte
		if len(raw) > 0 && raw[len(raw)-1] >= 0x80 {
			b = [8]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		}
		copy(b[:], raw)
		u.push(int64(binary.LittleEndian.Uint64(b[:])))
	case 'I', 'L':
		switch text { // the truth values of protocol 0
		case "00":
			u.push(false)
			return nil
		case "01":
			u.push(true)
			return nil
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(text, "L"), 10, 64)
		if err != nil {
			return errPickle
		}
		u.push(n)
	case 'F':
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return errPickle
		}
		u.push(x)
	case 'G': // big-endian
		u.push(math.Float64frombits(bits.ReverseBytes64(word)))
	}
	return nil
}

// text reads strings and bytes, which need not be told apart here.
func (u *unpickler) text(op byte) error {
	if op == 'V' {
		s, err := u.line()
		u.push(s)
		return err
	}
	width := map[byte]int{'X': 4, 'T': 4, 'B': 4, 0x8c: 1, 'U': 1, 'C': 1, 0x8d: 8, 0x8e: 8}[op]
	n, err := u.uint(width)
	if err != nil {
		return err
	}
	b, err := u.bytes(n)
	u.push(string(b))
	return err
}

func (u *unpickler) container(op byte) error {
	var items []any
	var err error
	switch op {
	case 't', 'l', 'd', 'e', 'u':
		if items, err = u.popMark(); err != nil {
			return err
		}
	case 0x85, 0x86, 0x87, 'a', 's':
		n := map[byte]int{0x85: 1, 0x86: 2, 0x87: 3, 'a': 1, 's': 2}[op]
		items = make([]any, n)
		for i := n - 1; i >= 0; i-- {
			if items[i], err = u.pop(); err != nil {
				return err
			}
		}
	}
	switch op {
	case ')', 't', 0x85, 0x86, 0x87:
		u.push(pickleTuple(items))
		return nil
	case ']', 'l':
		u.push(&pickleList{items})
		return nil
	case '}':
		u.push(&pickleDict{})
		return nil
	case 'd':
		u.push(&pickleDict{})
	}
	// The rest adds to what is on top of the stack.
	if len(u.stack) == 0 {
		return errPickle
	}
	switch top := u.stack[len(u.stack)-1].(type) {
	case *pickleList:
		if op != 'a' && op != 'e' {
			return errPickle
		}
		top.items = append(top.items, items...)
	case *pickleDict:
		if op == 'a' || op == 'e' || len(items)%2 != 0 {
			return errPickle
		}
		for i := 0; i < len(items); i += 2 {
			top.keys, top.values = append(top.keys, items[i]), append(top.values, items[i+1])
		}
	default:
		return errPickle
	}
	return nil
}

// remember puts the top of the stack into the memo, or brings a value back from there.
func (u *unpickler) remember(op byte) error {
	var index uint64
	var err error
	switch op {
	case 'p', 'g':
		var text string
		if text, err = u.line(); err == nil {
			if index, err = strconv.ParseUint(text, 10, 32); err != nil {
				err = errPickle
			}
		}
	case 'q', 'h':
		index, err = u.uint(1)
	case 'r', 'j':
		index, err = u.uint(4)
	default: // MEMOIZE
		index = uint64(len(u.memo))
	}
	if err != nil {
		return err
	}
	if op == 'g' || op == 'h' || op == 'j' {
		v, ok := u.memo[index]
		if !ok {
			return errPickle
		}
		u.push(v)
		return nil
	}
	if len(u.stack) == 0 {
		return errPickle
	}
	u.memo[index] = u.stack[len(u.stack)-1]
	return nil
}

// storageTypes maps the storage classes of torch to element types. Those without one exist, but cannot be read.
func storageTypes() map[string]string {
	return map[string]string{
		"FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16", "DoubleStorage": "F64", "LongStorage": "I64",
		"IntStorage": "", "ShortStorage": "", "CharStorage": "", "ByteStorage": "", "BoolStorage": "",
	}
}

// global pushes a Python name, if it is one of those that make tensors and the dictionaries around them.
func (u *unpickler) global(op byte) error {
	var g pickleGlobal
	var err error
	if op == 'c' {
		if g.module, err = u.line(); err == nil {
			g.name, err = u.line()
		}
	} else { // STACK_GLOBAL
		var module, name any
		if name, err = u.pop(); err == nil {
			module, err = u.pop()
		}
		var ok1, ok2 bool
		g.module, ok1 = module.(string)
		g.name, ok2 = name.(string)
		if err == nil && !(ok1 && ok2) {
			err = errPickle
		}
	}
	if err != nil {
		return err
	}
	switch g {
	case pickleGlobal{"collections", "OrderedDict"}, pickleGlobal{"torch._utils", "_rebuild_tensor_v2"},
		pickleGlobal{"torch._utils", "_rebuild_tensor"}, pickleGlobal{"torch._utils", "_rebuild_parameter"}:
		u.push(g)
		return nil
	}
	if _, ok := storageTypes()[g.name]; ok && g.module == "torch" {
		u.push(g)
		return nil
	}
	return fmt.Errorf("it asks for the Python object %s.%s, and only tensors are read: "+
		"in PyTorch, save only the state_dict (torch.save(model.state_dict(), FILE))", clip(g.module), clip(g.name))
}

// clip keeps a message short whatever a file says.
func clip(s string) string {
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}

// reduce calls a global with a tuple of arguments.
func (u *unpickler) reduce() error {
	rawArgs, err := u.pop()
	if err != nil {
		return err
	}
	callable, err := u.pop()
	if err != nil {
		return err
	}
	g, ok1 := callable.(pickleGlobal)
	args, ok2 := rawArgs.(pickleTuple)
	if !ok1 || !ok2 {
		return errPickle
	}
	switch g.name {
	case "OrderedDict":
		d := &pickleDict{}
		if len(args) == 1 {
			pairs, ok := args[0].(*pickleList)
			if !ok {
				return errPickle
			}
			for _, p := range pairs.items {
				var pair []any
				switch p := p.(type) {
				case pickleTuple:
					pair = p
				case *pickleList:
					pair = p.items
				}
				if len(pair) != 2 {
					return errPickle
				}
				d.keys, d.values = append(d.keys, pair[0]), append(d.values, pair[1])
			}
		} else if len(args) > 1 {
			return errPickle
		}
		u.push(d)
	case "_rebuild_tensor_v2", "_rebuild_tensor":
		t, err := rebuildTensor(args)
		if err != nil {
			return err
		}
		u.push(t)
	case "_rebuild_parameter":
		if len(args) == 0 {
			return errPickle
		}
		t, ok := args[0].(*torchTensor)
		if !ok {
			return errPickle
		}
		u.push(t)
	default: // a storage class is no function
		return errPickle
	}
	return nil
}

// rebuildTensor takes storage, offset, size, stride and more that is of no use here.
func rebuildTensor(args pickleTuple) (*torchTensor, error) {
	if len(args) < 4 {
		return nil, errPickle
	}
	storage, ok1 := args[0].(torchStorage)
	offset, ok2 := args[1].(int64)
	shape, ok3 := intTuple(args[2])
	stride, ok4 := intTuple(args[3])
	if !ok1 || !ok2 || !ok3 || !ok4 || len(shape) != len(stride) {
		return nil, errPickle
	}
	return &torchTensor{storage, offset, shape, stride}, nil
}

func intTuple(v any) ([]int64, bool) {
	t, ok := v.(pickleTuple)
	if !ok {
		return nil, false
	}
	out := make([]int64, len(t))
	for i, e := range t {
		if out[i], ok = e.(int64); !ok {
			return nil, false
		}
	}
	return out, true
}

// build sets the state of an object. The only objects here are dictionaries, whose attributes (the versions
// of modules) nobody needs.
func (u *unpickler) build() error {
	if _, err := u.pop(); err != nil {
		return err
	}
	if len(u.stack) == 0 {
		return errPickle
	}
	if _, ok := u.stack[len(u.stack)-1].(*pickleDict); !ok {
		return errPickle
	}
	return nil
}

// persistent turns ("storage", class, key, location, elements) into a storage.
func (u *unpickler) persistent() error {
	v, err := u.pop()
	if err != nil {
		return err
	}
	id, ok := v.(pickleTuple)
	if !ok || len(id) < 5 {
		return errPickle
	}
	kind, ok1 := id[0].(string)
	class, ok2 := id[1].(pickleGlobal)
	key, ok3 := id[2].(string)
	numel, ok4 := id[4].(int64)
	dtype, ok5 := storageTypes()[class.name]
	if !ok1 || kind != "storage" || !ok2 || !ok3 || !ok4 || !ok5 || numel < 0 {
		return errPickle
	}
	if dtype == "" {
		dtype = "torch." + class.name
	}
	u.push(torchStorage{dtype, key, numel})
	return nil
}
