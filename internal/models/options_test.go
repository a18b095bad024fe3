package models

import (
	"math"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/nn"
)

func TestRegistry(t *testing.T) {
	want := map[string]int64{ // parameters with 18 classes; transformers at 96×224×224
		"resnet18_3d": 0, "resnet34_3d": 0, // see TestCost
		"densenet121_3d": 11776658, "densenet169_3d": 19404434, "densenet201_3d": 26323602, "densenet161_3d": 40570322,
		"densenet_small_3d": 1420346, "densenet_tiny_3d": 592047,
		"vit_tiny_3d": 6405586, "vit_small_3d": 23423122, "vit_base_3d": 89308690, "vit_large_3d": 307980050,
	}
	seen := map[string]bool{}
	for _, e := range Registry() {
		if seen[e.Name] {
			t.Errorf("%s is there twice", e.Name)
		}
		seen[e.Name] = true
		net, err := New(config.Model{Name: e.Name}, 18)
		if err != nil {
			t.Fatal(err)
		}
		cost, err := net.Cost([3]int{96, 224, 224})
		if err != nil {
			t.Fatal(err)
		}
		if n, ok := want[e.Name]; !ok || n > 0 && cost.Parameters != n {
			t.Errorf("%s has %d parameters, want %d", e.Name, cost.Parameters, n)
		}
		saving := e.Name == "densenet_small_3d" || e.Name == "densenet_tiny_3d"
		if net.UseCheckpointing != saving || net.MemoryEfficient != saving {
			t.Errorf("%s: use_checkpointing %v, memory_efficient %v by default", e.Name, net.UseCheckpointing, net.MemoryEfficient)
		}
	}
	if len(seen) != len(want) {
		t.Errorf("%d networks, want %d", len(seen), len(want))
	}
}

func TestOptionErrors(t *testing.T) {
	yes := true
	opt := func(key string, v any) config.Model { return config.Model{Options: map[string]any{key: v}} }
	for _, c := range []struct {
		family string
		config.Model
		want string
	}{
		{"", opt("no_such_option", 1), "no_such_option"},
		{"", opt("hidden", 0), "model.options.hidden is 0"},
		{"", opt("in_channels", -1), "model.options.in_channels is -1"},
		{"", opt("hidden", "many"), "model.options.hidden"},
		{"ResNet3D", opt("drop_rate", 0.1), "drop_rate"},
		{"ResNet3D", opt("stem", "large"), `model.options.stem is "large", allowed: standard, small`},
		{"ResNet3D", opt("blocks", []any{1, 1}), "model.options.blocks has 2 numbers, want 4"},
		{"ResNet3D", opt("head_dropout", []any{0.5, 1.0}), "model.options.head_dropout is 1"},
		{"ResNet3D", config.Model{MemoryEfficient: &yes}, "model.memory_efficient is not an option of this family"},
		{"DenseNet3D", opt("widths", []any{1, 2, 3, 4}), "widths"},
		{"DenseNet3D", opt("growth", 0), "model.options.growth is 0"},
		{"DenseNet3D", opt("init_features", 0), "model.options.init_features is 0"},
		{"DenseNet3D", opt("bn_size", 0), "model.options.bn_size is 0"},
		{"DenseNet3D", opt("drop_rate", 1.0), "model.options.drop_rate is 1"},
		{"DenseNet3D", opt("drop_rate", math.NaN()), "model.options.drop_rate: got .nan"},
		{"DenseNet3D", opt("stem", ""), `model.options.stem is ""`},
		{"DenseNet3D", opt("blocks", []any{1, 0, 1, 1}), "model.options.blocks is 0"},
		{"ViT3D", opt("stem", "small"), "stem"},
		{"ViT3D", opt("patch_size", []any{8, 0, 8}), "model.options.patch_size is 0"},
		{"ViT3D", opt("patch_size", []any{8, 8}), "model.options.patch_size"},
		{"ViT3D", opt("heads", 5), "model.options.heads is 5, want a divisor of dim"},
		{"ViT3D", opt("heads", 0), "model.options.heads is 0"},
		{"ViT3D", opt("depth", 0), "model.options.depth is 0"},
		{"ViT3D", opt("mlp_ratio", 0), "model.options.mlp_ratio is 0"},
		{"ViT3D", opt("mlp_ratio", math.Inf(1)), "model.options.mlp_ratio: got .inf"},
		{"ViT3D", opt("drop_rate", -0.1), "model.options.drop_rate is -0.1"},
		{"ViT3D", opt("drop_path", 1.0), "model.options.drop_path is 1"},
		{"ViT3D", opt("proj_drop_rate", 2), "model.options.proj_drop_rate is 2"},
		{"ViT3D", opt("head_dropout", 1), "model.options.head_dropout is 1"},
		{"ViT3D", config.Model{MemoryEfficient: &yes}, "model.memory_efficient is not an option of this family"},
	} {
		for _, e := range Registry() {
			if c.family != "" && c.family != e.Family {
				continue
			}
			c.Name = e.Name
			_, err := New(c.Model, 18)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "model "+e.Name) {
				t.Errorf("%s %v: %v, want %q", e.Name, c.Options, err, c.want)
			}
		}
	}
	if _, err := New(config.Model{Name: "vit_tiny_3d"}, 0); err == nil {
		t.Error("no classes: no error")
	}
	if _, err := New(config.Model{Name: "vit_huge_3d"}, 2); err == nil || !strings.Contains(err.Error(), "vit_large_3d") {
		t.Errorf("an unknown network: %v", err)
	}
}

// shapeError builds the network for training or evaluation.
func shapeError(t *testing.T, c config.Model, training bool, shape ...int) error {
	t.Helper()
	net, err := New(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, err = graph.Build(func(g *graph.Graph) error {
		net.Build(nn.New(g, training), g.Leaf(graph.Input, "x", graph.Type{Shape: shape, Class: graph.Volume}))
		return nil
	})
	return err
}

func TestShapeErrors(t *testing.T) {
	small := map[string]any{"stem": "small"}
	for _, c := range []struct {
		config.Model
		training bool
		shape    []int
		want     string // "": no error
	}{
		{config.Model{Name: "densenet_tiny_3d"}, false, []int{1, 1, 29, 29, 29}, ""},
		{config.Model{Name: "densenet_tiny_3d"}, false, []int{1, 1, 64, 28, 64}, "the smallest is 29×29×29"},
		{config.Model{Name: "densenet_tiny_3d", Options: small}, false, []int{1, 1, 8, 8, 8}, ""},
		{config.Model{Name: "densenet_tiny_3d", Options: small}, false, []int{1, 1, 8, 8, 7}, "the smallest is 8×8×8"},
		{config.Model{Name: "densenet_tiny_3d"}, true, []int{1, 1, 29, 29, 29}, "one value per channel"},
		{config.Model{Name: "densenet_tiny_3d"}, true, []int{2, 1, 29, 29, 29}, ""},
		{config.Model{Name: "resnet18_3d"}, false, []int{1, 1, 1, 1, 1}, ""},
		{config.Model{Name: "resnet18_3d"}, true, []int{1, 1, 9, 9, 9}, "one value per channel"},
		{config.Model{Name: "resnet18_3d"}, false, []int{1, 2, 9, 9, 9}, "takes 1 input channels, got 2"},
		{config.Model{Name: "vit_tiny_3d"}, true, []int{1, 1, 16, 16, 16}, ""},
		{config.Model{Name: "vit_tiny_3d"}, false, []int{1, 1, 33, 47, 61}, "nearest sizes that fit are [32 32 48] and [48 48 64]"},
		{config.Model{Name: "vit_tiny_3d"}, false, []int{1, 1, 16, 16, 8}, "nearest sizes that fit are [16 16 16]"},
	} {
		err := shapeError(t, c.Model, c.training, c.shape...)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, training %v, %v: %v, want %q", c.Name, c.training, c.shape, err, c.want)
		}
	}
}

// TestModelDropout: model.dropout sets every rate of the head and no other.
func TestModelDropout(t *testing.T) {
	p := 0.25
	for _, name := range []string{"resnet18_3d", "densenet_tiny_3d", "vit_tiny_3d"} {
		net, err := New(config.Model{Name: name, Dropout: &p}, 2)
		if err != nil {
			t.Fatal(err)
		}
		var rates []float64
		switch o := net.Options.(type) {
		case ResNet3DOptions:
			rates = o.HeadDropout[:]
		case DenseNet3DOptions:
			rates = append(o.HeadDropout[:], o.DropRate+p)
		case ViT3DOptions:
			rates = []float64{o.HeadDropout, o.DropRate + p, o.ProjDropRate + p}
		}
		for _, r := range rates {
			if r != p {
				t.Errorf("%s: rates %v", name, rates)
			}
		}
	}
}

// TestInit looks at the deviation of some first weights.
func TestInit(t *testing.T) {
	for _, c := range []struct {
		model, param string
		shape        []int
		sigma        float64 // 0: all the given value
		value        float32
	}{
		{"resnet18_3d", "layer2.0.conv1.weight", []int{128, 64, 3, 3, 3}, math.Sqrt(2.0 / (128 * 27)), 0},
		{"resnet18_3d", "fc.1.weight", []int{256, 512}, 1 / math.Sqrt(3*512), 0},
		{"resnet18_3d", "fc.1.bias", []int{256}, 1 / math.Sqrt(3*512), 0},
		{"densenet121_3d", "features.conv0.weight", []int{64, 1, 7, 7, 7}, math.Sqrt(2.0 / 343), 0},
		{"densenet121_3d", "features.denseblock2.denselayer3.conv2.weight", []int{32, 128, 3, 3, 3}, math.Sqrt(2.0 / (128 * 27)), 0},
		{"densenet121_3d", "features.transition1.conv.weight", []int{128, 256, 1, 1, 1}, math.Sqrt(2.0 / 256), 0},
		{"densenet121_3d", "features.norm5.weight", []int{1024}, 0, 1},
		{"densenet121_3d", "classifier.3.weight", []int{512, 1024}, 1 / math.Sqrt(3*1024), 0},
		{"densenet121_3d", "classifier.3.bias", []int{512}, 0, 0},
		{"densenet121_3d", "classifier.6.bias", []int{2}, 0, 0},
		{"vit_tiny_3d", "patch_embed.proj.weight", []int{192, 1, 16, 16, 16}, 1 / math.Sqrt(3*4096), 0},
		{"vit_tiny_3d", "pos_embed", []int{1, 9, 192}, 0.02, 0},
		{"vit_tiny_3d", "cls_token", []int{1, 1, 192}, 0.02, 0},
		{"vit_tiny_3d", "blocks.11.attn.qkv.weight", []int{576, 192}, 0.02, 0},
		{"vit_tiny_3d", "blocks.0.mlp.fc2.bias", []int{192}, 0, 0},
		{"vit_tiny_3d", "blocks.0.norm2.weight", []int{192}, 0, 1},
		{"vit_tiny_3d", "head.3.weight", []int{2, 256}, 0.02, 0},
	} {
		net, err := New(config.Model{Name: c.model}, 2)
		if err != nil {
			t.Fatal(err)
		}
		var found bool
		_, err = graph.Build(func(g *graph.Graph) error {
			b := nn.New(g, false)
			net.Build(b, g.Leaf(graph.Input, "x", graph.Type{Shape: []int{1, 1, 32, 32, 32}, Class: graph.Volume}))
			for _, p := range b.Params {
				if p.Value.Name != c.param {
					continue
				}
				found = true
				if !(graph.Type{Shape: c.shape}).Equal(p.Value.Type) {
					t.Errorf("%s has shape %v, want %v", c.param, p.Value.Shape, c.shape)
				}
				var sum, squares float64
				v := nn.Initialize(p, 5, nil)
				for _, x := range v {
					sum += float64(x - c.value)
					squares += float64(x-c.value) * float64(x-c.value)
				}
				n := float64(len(v))
				// Six deviations of the estimates for a normal distribution.
				if got := math.Sqrt(squares / n); math.Abs(got-c.sigma) > 6*c.sigma/math.Sqrt(2*n) {
					t.Errorf("%s has deviation %v, want %v", c.param, got, c.sigma)
				}
				if math.Abs(sum/n) > 6*c.sigma/math.Sqrt(n) {
					t.Errorf("%s has mean %v", c.param, float64(c.value)+sum/n)
				}
			}
			return nil
		})
		if err != nil || !found {
			t.Errorf("%s %s: found %v, %v", c.model, c.param, found, err)
		}
	}
}
