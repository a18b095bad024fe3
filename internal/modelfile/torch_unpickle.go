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
