package modelfile

import (
	"fmt"
	"strings"
)

// This file says which Python objects a torch.save file may make: tensors, and the dictionaries around them.

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
