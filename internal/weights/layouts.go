// Package weights brings weights of public PyTorch layouts into ctclass's networks and out of them again:
// which names mean which parameter, what fits, what is left over and why.
package weights

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Original is the layout whose names ctclass's parameters have.
const Original = "original"

// Layout is a public way to name the tensors of a family of networks.
type Layout struct {
	Name string

	in  func(name string) string // to ctclass's name
	out func(name string) string // from ctclass's name; nil: files of this layout are only read
}

// Layouts lists the layouts of a family, the original one first.
func Layouts(family string) []Layout {
	same := func(name string) string { return name }
	list := []Layout{{Name: Original, in: same, out: same}} // also the backbones of MedicalNet, MONAI's ResNets and torchvision (2D)
	switch family {
	case "ResNet3D":
		list = append(list,
			Layout{
				Name: "residual_layers", // residual_layers.0 to .3 instead of layer1 to layer4
				in:   replacer(`^residual_layers\.([0-3])\.`, func(m []string) string { return "layer" + shift(m[1], 1) + "." }),
				out: replacer(`^layer([1-4])\.`, func(m []string) string {
					return "residual_layers." + shift(m[1], -1) + "."
				}),
			},
			Layout{
				Name: "torchvision_video", // the backbone of torchvision.models.video.r3d_18
				in: chain(
					replacer(`^stem\.([01])\.`, func(m []string) string { return []string{"conv1.", "bn1."}[m[1][0]-'0'] }),
					replacer(`\.conv([12])\.([01])\.`, func(m []string) string {
						return []string{".conv", ".bn"}[m[2][0]-'0'] + m[1] + "."
					}),
				),
			})
	case "DenseNet3D":
		list = append(list,
			Layout{
				Name: "classifier14", // classifier.1 and .4 instead of classifier.3 and .6
				in:   replacer(`^classifier\.([14])\.`, func(m []string) string { return "classifier." + shift(m[1], 2) + "." }),
				out:  replacer(`^classifier\.([36])\.`, func(m []string) string { return "classifier." + shift(m[1], -2) + "." }),
			},
			Layout{
				Name: "monai", // the backbone of MONAI's DenseNets
				in:   replacer(`^(features\.denseblock\d+\.denselayer\d+)\.layers\.`, func(m []string) string { return m[1] + "." }),
			},
			Layout{
				Name: "torchvision_old", // the backbone of torchvision's first DenseNet files: norm.1 for norm1
				in:   replacer(`^(features\.denseblock\d+\.denselayer\d+\.(?:norm|conv))\.([12])\.`, func(m []string) string { return m[1] + m[2] + "." }),
			})
	}
	return list
}

// replacer rewrites the first match of a pattern by what f makes of its groups.
func replacer(pattern string, f func(groups []string) string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(name string) string {
		at := re.FindStringIndex(name)
		if at == nil {
			return name
		}
		return name[:at[0]] + f(re.FindStringSubmatch(name)) + name[at[1]:]
	}
}

func chain(fs ...func(string) string) func(string) string {
	return func(name string) string {
		for _, f := range fs {
			name = f(name)
		}
		return name
	}
}

// shift adds to a number of one digit.
func shift(digit string, by int) string { return strconv.Itoa(int(digit[0]-'0') + by) }

// Names returns a function from ctclass's names to those of a layout that can be written.
func Names(family, layout string) (func(string) string, error) {
	var known []string
	for _, l := range Layouts(family) {
		if l.out == nil {
			continue
		}
		if l.Name == layout {
			return l.out, nil
		}
		known = append(known, l.Name)
	}
	return nil, fmt.Errorf("%s files cannot be written in the layout %q; there are %s", family, layout, strings.Join(known, ", "))
}

// wrappers are the prefixes that wrappers of modules put before every name.
func wrappers() []string {
	return []string{"module.", "_orig_mod.", "model.", "network.", "net.", "backbone.", "encoder."}
}

// unwrap returns the prefix, of wrappers, that all names share.
func unwrap(names []string) string {
	prefix := ""
	for {
		i := slices.IndexFunc(wrappers(), func(w string) bool {
			for _, n := range names {
				if !strings.HasPrefix(n, prefix+w) {
					return false
				}
			}
			return len(names) > 0
		})
		if i < 0 {
			return prefix
		}
		prefix += wrappers()[i]
	}
}

// headOf returns the prefix of the classification head's parameters.
func headOf(family string) string {
	return map[string]string{"ResNet3D": "fc.", "DenseNet3D": "classifier.", "ViT3D": "head."}[family]
}

// isForeignHead reports whether a tensor belongs to a head as the public networks name them.
func isForeignHead(name string) bool {
	for _, h := range []string{"fc.", "classifier.", "head.", "class_layers.", "conv_seg."} {
		if strings.HasPrefix(name, h) {
			return true
		}
	}
	return false
}
