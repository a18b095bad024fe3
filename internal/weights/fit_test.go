package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
)

// tiny is a small network of each family, for volumes of 32³.
func tiny(t *testing.T, family string) Target {
	t.Helper()
	m := map[string]config.Model{
		"ResNet3D":   {Name: "resnet18_3d", Options: map[string]any{"blocks": []any{1, 1, 1, 1}, "widths": []any{2, 2, 3, 4}, "hidden": 3}},
		"DenseNet3D": {Name: "densenet_tiny_3d", Options: map[string]any{"blocks": []any{1, 1, 1, 1}, "growth": 2, "init_features": 3, "bn_size": 1, "hidden": 3}},
		"ViT3D":      {Name: "vit_tiny_3d", Options: map[string]any{"dim": 4, "depth": 1, "heads": 2, "patch_size": []any{8, 8, 8}, "hidden": 3}},
	}[family]
	net, err := models.New(m, 2)
	if err != nil {
		t.Fatal(err)
	}
	return Target{Network: net, ShapeDHW: [3]int{32, 32, 32}, Labels: []string{"a", "b"}}
}

// weightsOf makes a file with every tensor of the target, all values of tensor i near i, renamed; names that
// rename makes empty are left out.
func weightsOf(t *testing.T, target Target, rename func(string) string) *modelfile.File {
	t.Helper()
	params, err := target.Params()
	if err != nil {
		t.Fatal(err)
	}
	f := &modelfile.File{Format: "torch"}
	for i, p := range params {
		values := make([]float32, p.Value.Elements())
		for j := range values {
			values[j] = float32(i) + float32(j)/1024
		}
		if name := rename(p.Value.Name); name != "" {
			f.Tensors = append(f.Tensors, modelfile.Tensor{Name: name, Shape: p.Value.Shape, F32: values})
		}
		if layer, ok := strings.CutSuffix(rename(p.Value.Name), runningMean); ok {
			f.Tensors = append(f.Tensors, modelfile.Tensor{Name: layer + batchesTracked, I64: []int64{9}})
		}
	}
	return f
}

func same(name string) string { return name }

func find(tensors []modelfile.Tensor, name string) modelfile.Tensor {
	i := slices.IndexFunc(tensors, func(t modelfile.Tensor) bool { return t.Name == name })
	if i < 0 {
		return modelfile.Tensor{}
	}
	return tensors[i]
}

// TestForeignBackbones brings the names of MedicalNet, torchvision and MONAI, written down here as those
// libraries have them, to the network.
func TestForeignBackbones(t *testing.T) {
	for _, tt := range []struct {
		name, family, layout, prefix string
		pairs                        map[string]string // foreign name → ours
		rename                       func(string) string
		extra                        []string
	}{
		{
			name: "MedicalNet", family: "ResNet3D", layout: "original", prefix: "module.", extra: []string{"module.conv_seg.0.weight"},
			pairs:  map[string]string{"module.layer2.0.downsample.1.running_var": "layer2.0.downsample.1.running_var"},
			rename: func(n string) string { return "module." + n },
		},
		{
			name: "MONAI ResNet", family: "ResNet3D", layout: "original", extra: []string{"fc.weight", "fc.bias"},
			pairs: map[string]string{"layer4.0.bn2.bias": "layer4.0.bn2.bias"}, rename: same,
		},
		{
			name: "torchvision video", family: "ResNet3D", layout: "torchvision_video", extra: []string{"fc.weight", "fc.bias"},
			pairs: map[string]string{
				"stem.0.weight": "conv1.weight", "stem.1.running_mean": "bn1.running_mean", "layer1.0.conv1.0.weight": "layer1.0.conv1.weight",
				"layer3.0.conv2.1.bias": "layer3.0.bn2.bias", "layer2.0.downsample.0.weight": "layer2.0.downsample.0.weight",
			},
			rename: func(n string) string {
				if strings.HasPrefix(n, "layer") {
					for _, i := range []string{"1", "2"} {
						n = strings.Replace(strings.Replace(n, ".conv"+i+".", ".conv"+i+".0.", 1), ".bn"+i+".", ".conv"+i+".1.", 1)
					}
					return n
				}
				return strings.NewReplacer("conv1.", "stem.0.", "bn1.", "stem.1.").Replace(n)
			},
		},
		{
			name: "MONAI DenseNet", family: "DenseNet3D", layout: "monai", extra: []string{"class_layers.out.weight", "class_layers.out.bias"},
			pairs: map[string]string{
				"features.denseblock1.denselayer1.layers.norm1.weight": "features.denseblock1.denselayer1.norm1.weight",
				"features.transition1.conv.weight":                     "features.transition1.conv.weight",
			},
			rename: func(n string) string {
				return strings.Replace(n, ".denselayer1.", ".denselayer1.layers.", 1)
			},
		},
		{
			name: "torchvision DenseNet of 2017", family: "DenseNet3D", layout: "torchvision_old", extra: []string{"classifier.weight", "classifier.bias"},
			pairs: map[string]string{
				"features.denseblock1.denselayer1.norm.1.weight": "features.denseblock1.denselayer1.norm1.weight",
				"features.denseblock1.denselayer1.conv.2.weight": "features.denseblock1.denselayer1.conv2.weight",
			},
			rename: func(n string) string {
				if !strings.Contains(n, "denselayer") {
					return n
				}
				return strings.NewReplacer("norm1.", "norm.1.", "norm2.", "norm.2.", "conv1.", "conv.1.", "conv2.", "conv.2.").Replace(n)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target := tiny(t, tt.family)
			head := headOf(tt.family)
			file := weightsOf(t, target, func(n string) string {
				if strings.HasPrefix(n, head) {
					return "" // these files have another head
				}
				return tt.rename(n)
			})
			for _, name := range tt.extra {
				file.Tensors = append(file.Tensors, modelfile.Tensor{Name: name, Shape: []int{1}, F32: []float32{1}})
			}
			if _, _, err := Fit(file, target, Options{}); err == nil {
				t.Error("a file without the head is loaded though nothing may start afresh")
			}
			tensors, report, err := Fit(file, target, Options{NewHead: true})
			if err != nil {
				t.Fatal(err)
			}
			if report.Layout != tt.layout || report.Prefix != tt.prefix {
				t.Errorf("layout %s, prefix %q", report.Layout, report.Prefix)
			}
			for foreign, ours := range tt.pairs {
				from, to := find(file.Tensors, foreign), find(tensors, ours)
				if from.F32 == nil || !slices.Equal(from.F32, to.F32) {
					t.Errorf("%s does not become %s", foreign, ours)
				}
			}
			var left, fresh []string
			for _, n := range report.LeftOver {
				left = append(left, n.Name)
			}
			for _, n := range report.New {
				fresh = append(fresh, n.Name)
			}
			if !slices.Equal(left, tt.extra) {
				t.Errorf("left over %q, want %q", left, tt.extra)
			}
			if len(fresh) != 4 || !strings.HasPrefix(fresh[0], head) {
				t.Errorf("starts afresh: %q, want the head", fresh)
			}
		})
	}
}

// TestMismatch: everything that does not fit is named, with both shapes, and nothing is loaded.
func TestMismatch(t *testing.T) {
	target := tiny(t, "ResNet3D")
	file := weightsOf(t, target, func(n string) string {
		if n == "layer1.0.conv2.weight" {
			return ""
		}
		return n
	})
	for i, x := range file.Tensors {
		switch x.Name {
		case "bn1.bias":
			file.Tensors[i] = modelfile.Tensor{Name: x.Name, Shape: []int{5}, F32: make([]float32, 5)}
		case "bn1.num_batches_tracked":
			file.Tensors[i] = modelfile.Tensor{Name: x.Name, F32: []float32{1}}
		}
	}
	file.Tensors = append(file.Tensors, modelfile.Tensor{Name: "aux.weight", Shape: []int{3}, F32: make([]float32, 3)})
	tensors, _, err := Fit(file, target, Options{NewHead: true})
	var bad *MismatchError
	if !errors.As(err, &bad) || tensors != nil {
		t.Fatalf("got %v, %v", tensors, err)
	}
	want := `the weights do not fit resnet18_3d: 1 tensors are missing, 1 unexpected, 2 of another shape
  missing: layer1.0.conv2.weight [2 2 3 3 3]
  unexpected: aux.weight [3]
  shape: bn1.bias is [5], expected [2]
  shape: bn1.num_batches_tracked has elements of type F32, expected I64`
	if got := err.Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	tensors, report, err := Fit(file, target, Options{Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(report.New); got != "[{bn1.bias the file's tensor does not fit} {layer1.0.conv2.weight not in the file}]" {
		t.Errorf("new: %s", got)
	}
	if len(report.LeftOver) != 3 || len(tensors) == 0 {
		t.Errorf("left over %v", report.LeftOver)
	}
	m, _, err := Import(file, target, "multilabel", withShape(target.ShapeDHW), 5, Options{Partial: true})
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Fit(&modelfile.File{Tensors: m.Tensors}, target, Options{})
	if err != nil || len(again) != len(m.Tensors) {
		t.Errorf("a partial import is no complete model: %v", err)
	}
	if w := find(m.Tensors, "layer1.0.conv2.weight").F32; len(w) == 0 || slices.Max(w) == 0 {
		t.Error("a new parameter has no first values")
	}
}

func withShape(shape [3]int) config.Preprocess {
	p := config.Default().Preprocess
	p.ShapeDHW = shape
	return p
}

// TestNewHead: other classes replace the last layer only, other labels of the same number too.
func TestNewHead(t *testing.T) {
	target := tiny(t, "DenseNet3D")
	file := weightsOf(t, target, same)
	fresh := func(file *modelfile.File, target Target) string {
		_, report, err := Fit(file, target, Options{NewHead: true})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, n := range report.New {
			names = append(names, n.Name)
		}
		return strings.Join(names, " ")
	}
	if got := fresh(file, target); got != "" {
		t.Errorf("plain weights with as many outputs: %q starts afresh", got)
	}
	file.Model = &modelfile.Model{Labels: []string{"a", "c"}}
	if got := fresh(file, target); got != "classifier.6.weight classifier.6.bias" {
		t.Errorf("other labels: %q starts afresh", got)
	}
	file.Model.Labels = target.Labels
	if got := fresh(file, target); got != "" {
		t.Errorf("the same labels: %q starts afresh", got)
	}
	more, err := models.New(config.Model{Name: "densenet_tiny_3d", Options: map[string]any{
		"blocks": []any{1, 1, 1, 1}, "growth": 2, "init_features": 3, "bn_size": 1, "hidden": 3,
	}}, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got := fresh(file, Target{Network: more, ShapeDHW: target.ShapeDHW}); got != "classifier.6.weight classifier.6.bias" {
		t.Errorf("more classes: %q starts afresh", got)
	}
}

// TestInflate computes a 2D kernel's inflation by hand.
func TestInflate(t *testing.T) {
	k := modelfile.Tensor{Name: "k", Shape: []int{1, 2, 1, 2}, F32: []float32{1, 2, 10, 20}}
	got := inflate(k, []int{1, 1, 3, 1, 2}) // two channels summed: 11 22, over three slices
	want := []float32{11. / 3, 22. / 3, 11. / 3, 22. / 3, 11. / 3, 22. / 3}
	if !slices.Equal(got.F32, want) {
		t.Errorf("got %v, want %v", got.F32, want)
	}
	got = inflate(k, []int{1, 2, 2, 1, 2})
	if want := []float32{0.5, 1, 0.5, 1, 5, 10, 5, 10}; !slices.Equal(got.F32, want) {
		t.Errorf("got %v, want %v", got.F32, want)
	}

	// A whole 2D ResNet, as torchvision has it, loads only when that is asked for.
	target := tiny(t, "ResNet3D")
	file := weightsOf(t, target, same)
	for i, x := range file.Tensors {
		if len(x.Shape) == 5 {
			in := x.Shape[1]
			if x.Name == "conv1.weight" {
				in = 3
			}
			shape := []int{x.Shape[0], in, x.Shape[3], x.Shape[4]}
			n := shape[0] * shape[1] * shape[2] * shape[3]
			file.Tensors[i] = modelfile.Tensor{Name: x.Name, Shape: shape, F32: slices.Repeat([]float32{1}, n)}
		}
	}
	_, _, err := Fit(file, target, Options{NewHead: true})
	if err == nil || !strings.Contains(err.Error(), "conv1.weight is [2 3 7 7], expected [2 1 7 7 7] (a 2D kernel") {
		t.Errorf("got %v", err)
	}
	tensors, report, err := Fit(file, target, Options{Inflate: true})
	if err != nil {
		t.Fatal(err)
	}
	if v := find(tensors, "conv1.weight").F32[0]; v != 3./7 {
		t.Errorf("conv1: %v, want 3/7", v)
	}
	if v := find(tensors, "layer1.0.conv1.weight").F32[5]; v != 1./3 {
		t.Errorf("layer1.0.conv1: %v, want 1/3", v)
	}
	if len(report.Changed) != 12 {
		t.Errorf("%d kernels changed, want 12", len(report.Changed))
	}
}

// TestInterpolate: halves and doubles along each axis as linear interpolation between voxel centres says,
// a linear ramp stays linear inside, and the class token stays.
func TestInterpolate(t *testing.T) {
	src := modelfile.Tensor{Name: positions, Shape: []int{1, 5, 1}, F32: []float32{99, 0, 4, 8, 12}}
	got := interpolate(src, [3]int{1, 1, 4}, [3]int{1, 1, 8})
	// Centres of the new voxels lie at ¼ and ¾ of the old steps; the ends are held.
	if want := []float32{99, 0, 1, 3, 5, 7, 9, 11, 12}; !slices.Equal(got.F32, want) {
		t.Errorf("got %v, want %v", got.F32, want)
	}
	got = interpolate(src, [3]int{4, 1, 1}, [3]int{2, 1, 1})
	if want := []float32{99, 2, 10}; !slices.Equal(got.F32, want) {
		t.Errorf("got %v, want %v", got.F32, want)
	}
	got = interpolate(src, [3]int{1, 2, 2}, [3]int{1, 1, 1}) // the mean of all four
	if want := []float32{99, 6}; !slices.Equal(got.F32, want) {
		t.Errorf("got %v, want %v", got.F32, want)
	}

	target := tiny(t, "ViT3D") // 4³ patches
	file := weightsOf(t, Target{Network: target.Network, ShapeDHW: [3]int{16, 24, 32}}, same)
	fit := func(o Options) error { _, _, err := Fit(file, target, o); return err }
	for want, o := range map[string]Options{
		"(positions of another volume size":                   {},
		"does not say of which volume":                        {Interpolate: true},
		"has [2 2 2] patches, but the file has positions for": {Interpolate: true, FromDHW: [3]int{16, 16, 16}},
	} {
		if err := fit(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := fit(Options{Interpolate: true, FromDHW: [3]int{16, 24, 32}}); err != nil {
		t.Error(err)
	}
	file.Model = &modelfile.Model{Labels: target.Labels, Preprocess: withShape([3]int{16, 24, 32})}
	if err := fit(Options{Interpolate: true}); err != nil {
		t.Error(err)
	}
}

// TestFoldedBias: the bias of a convolution before a batch norm moves into the norm's mean.
func TestFoldedBias(t *testing.T) {
	target := tiny(t, "ResNet3D")
	file := weightsOf(t, target, same)
	bias := modelfile.Tensor{Name: "layer2.0.downsample.0.bias", Shape: []int{2}, F32: []float32{3, -1}}
	file.Tensors = append(file.Tensors, bias)
	tensors, report, err := Fit(file, target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	const mean = "layer2.0.downsample.1.running_mean"
	before, after := find(file.Tensors, mean).F32, find(tensors, mean).F32
	if after[0] != before[0]-3 || after[1] != before[1]+1 || len(report.Changed) != 1 {
		t.Errorf("%v becomes %v, %v", before, after, report.Changed)
	}
}

func TestFrozenPatterns(t *testing.T) {
	target := tiny(t, "ResNet3D")
	params, err := target.Params()
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := Frozen([]string{"conv1.*", "layer[12].*", "bn?.weight"}, params)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{
		"conv1.weight": true, "layer1.0.bn2.bias": true, "layer2.0.downsample.0.weight": true, "layer3.0.conv1.weight": false,
		"bn1.weight": true, "bn1.bias": false, "layer1.0.bn2.running_mean": false, "fc.4.weight": false,
	} {
		if frozen[name] != want {
			t.Errorf("%s: frozen is %v, want %v", name, frozen[name], want)
		}
	}
	for pattern, want := range map[string]string{"layers.*": `no parameter matches "layers.*"`, "[": "cannot be read", "*": "nothing is left to train"} {
		if _, err := Frozen([]string{pattern}, params); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", pattern, err, want)
		}
	}
}

func TestUnwrap(t *testing.T) {
	for want, names := range map[string][]string{
		"":                      {"module.a", "b"},
		"module.":               {"module.a", "module.b"},
		"_orig_mod.module.net.": {"_orig_mod.module.net.a", "_orig_mod.module.net.b"},
	} {
		if got := unwrap(names); got != want {
			t.Errorf("%v: %q, want %q", names, got, want)
		}
	}
	if got := unwrap(nil); got != "" {
		t.Errorf("nothing: %q", got)
	}
}
