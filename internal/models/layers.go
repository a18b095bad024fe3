package models

import (
	"strconv"
	"strings"
)

// Layer returns where a parameter stands between the input and the output, for learning rates that fall layer by
// layer: 0 is the stem and top the head. The layers between are the four stages of a ResNet and the four dense
// blocks of a DenseNet (a transition belongs to the block before it, the last norm to the last block). Those of a
// vision transformer are its blocks; its embeddings are layer 0, its last norm belongs to the head.
func (n *Network) Layer(param string) (at, top int) {
	parts := strings.Split(param, ".")
	number := func(text, prefix string) (int, bool) {
		digits, ok := strings.CutPrefix(text, prefix)
		i, err := strconv.Atoi(digits)
		return i, ok && err == nil
	}
	switch o := n.Options.(type) {
	case ResNet3DOptions:
		top = len(o.Blocks) + 1
		switch i, ok := number(parts[0], "layer"); {
		case ok:
			return i, top
		case parts[0] == "fc":
			return top, top
		}
	case DenseNet3DOptions:
		top = len(o.Blocks) + 1
		if parts[0] == "classifier" {
			return top, top
		}
		for _, prefix := range []string{"denseblock", "transition"} {
			if i, ok := number(parts[1], prefix); ok {
				return i, top
			}
		}
		if parts[1] == "norm5" {
			return len(o.Blocks), top
		}
	case ViT3DOptions:
		top = o.Depth + 1
		switch parts[0] {
		case "blocks":
			i, _ := number(parts[1], "")
			return i + 1, top
		case "norm", "head":
			return top, top
		}
	}
	return 0, top
}

// Embedding says whether a parameter is the class token or the positions of a vision transformer. Like norms and
// biases, they are as a rule left out of weight decay.
func (n *Network) Embedding(param string) bool {
	_, transformer := n.Options.(ViT3DOptions)
	return transformer && (param == "cls_token" || param == "pos_embed")
}
