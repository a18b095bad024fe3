package explain

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/session"
	"github.com/ctclass/ctclass/internal/volume"
)

// Toy volumes have side³ voxels, balls this radius.
const (
	side   = 16
	radius = 2
)

// ball is a volume of noise with, or without, a bright ball, and the ball's centre.
func ball(number uint64, present bool) ([]float32, [3]int) {
	s := rng.New(rng.Key(number, "ball"))
	x := make([]float32, side*side*side)
	var c [3]int
	for a := range c {
		c[a] = 3 + s.Intn(side-6)
	}
	for i := range x {
		x[i] = float32(0.3 * s.Normal())
		d, h, w := i/(side*side)-c[0], i/side%side-c[1], i%side-c[2]
		if present && d*d+h*h+w*w <= radius*radius+1 {
			x[i] += 2
		}
	}
	return x, c
}

// train returns the weights of a network that tells volumes with a ball from others.
func train(t *testing.T, m config.Model, steps int, lr float64) []modelfile.Tensor {
	t.Helper()
	loss, err := losses.New(config.Loss{Name: "bce"}, "binary", 1)
	if err != nil {
		t.Fatal(err)
	}
	const batch = 8
	s := start(t, m, session.Options{
		Training: &session.Training{Loss: loss, BatchSizes: []int{batch}, Optimizer: session.Optimizer{Rule: session.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}},
	})
	if err := s.Initialize(1); err != nil {
		t.Fatal(err)
	}
	for step := range steps {
		var b session.MicroBatch
		for i := range batch {
			number := uint64(1000 + step*batch + i)
			x, _ := ball(number, i%2 == 0)
			b.X = append(b.X, x...)
			b.Targets = append(b.Targets, float32(1-i%2))
			b.IDs = append(b.IDs, number)
		}
		if _, err := s.Train([]session.MicroBatch{b}, session.Step{Number: step + 1, LR: lr, Seed: 1}, false); err != nil {
			t.Fatal(err)
		}
	}
	return s.Tensors()
}

// start makes a session of a network for one label.
func start(t *testing.T, m config.Model, opt session.Options) *session.Session {
	t.Helper()
	net, err := models.New(m, 1)
	if err != nil {
		t.Fatal(err)
	}
	opt.Network, opt.ShapeDHW = net, [3]int{side, side, side}
	dev := cpu.New(2)
	t.Cleanup(dev.Close)
	plan, err := session.Compile(dev, opt)
	if err != nil {
		t.Fatal(err)
	}
	s, err := plan.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// explained is a session with an explainer and the given weights.
func explained(t *testing.T, m config.Model, opt Options, weights []modelfile.Tensor) (*Explainer, *session.Session) {
	t.Helper()
	e, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, m, session.Options{EvalBatch: 8, Probe: e.Probe})
	if err := s.LoadTensors(weights); err != nil {
		t.Fatal(err)
	}
	return e, s
}

// found returns in how many of the first n volumes that have a ball and are found to have one the peak of the map
// lies within one cell of the ball, how many these are, and their maps.
func found(t *testing.T, e *Explainer, s *session.Session, n int) (hits, positive int, maps []*Map) {
	t.Helper()
	for i := range n {
		x, centre := ball(uint64(i), true)
		logits, err := s.Logits(x, 1)
		if err != nil {
			t.Fatal(err)
		}
		if logits[0] <= 0 {
			continue
		}
		positive++
		m, err := e.Map(t.Context(), s, x, 0)
		if err != nil {
			t.Fatal(err)
		}
		maps = append(maps, m)
		cell, _ := m.Peak()
		hit := true
		for a := range 3 {
			at := m.First[a] + m.Step[a]*float64(cell[a])
			hit = hit && math.Abs(at-float64(centre[a])) <= radius+m.Step[a]
		}
		if hit {
			hits++
		}
	}
	return hits, positive, maps
}

func resnet() config.Model {
	return config.Model{
		Name:    "resnet18_3d",
		Options: map[string]any{"stem": "small", "widths": []any{8, 8, 8, 8}, "blocks": []any{1, 1, 1, 1}, "hidden": 8},
	}
}

func vit() config.Model {
	return config.Model{
		Name:    "vit_tiny_3d",
		Options: map[string]any{"patch_size": []any{4, 4, 4}, "dim": 32, "depth": 2, "heads": 2, "hidden": 16, "head_dropout": 0.0},
	}
}

// On volumes with one ball the peak of Grad-CAM and HiResCAM lies at the ball, and occlusion agrees. With random
// weights, in all layers or in the head alone, the map is another one: it shows what the network has learnt, not
// what the volume looks like (Adebayo et al., NeurIPS 2018).
func TestConvolutional(t *testing.T) {
	weights := train(t, resnet(), 25, 0.01)
	e, s := explained(t, resnet(), Options{Layer: "layer3"}, weights)
	hits, positive, maps := found(t, e, s, 20)
	if e.Method() != GradCAM || e.Layer() != "layer3.0" || maps[0].Size != [3]int{4, 4, 4} {
		t.Errorf("method %s, layer %s, cells %+v", e.Method(), e.Layer(), maps[0].Cells)
	}
	if positive < 15 || hits < positive*8/10 {
		t.Fatalf("Grad-CAM: %d of 20 balls are found, the peak lies at %d of them", positive, hits)
	}
	t.Run("hirescam", func(t *testing.T) {
		e, s := explained(t, resnet(), Options{Method: HiResCAM, Layer: "layer3"}, weights)
		if hits, positive, _ := found(t, e, s, 10); hits < positive*8/10 {
			t.Errorf("the peak lies at %d of %d balls", hits, positive)
		}
	})
	t.Run("occlusion", func(t *testing.T) {
		e, s := explained(t, resnet(), Options{Method: Occlusion}, weights)
		if hits, positive, _ := found(t, e, s, 2); hits != positive {
			t.Errorf("the peak lies at %d of %d balls", hits, positive)
		}
	})
	for name, random := range map[string]func(name string) bool{
		"all layers random": func(string) bool { return true },
		"head random":       func(name string) bool { return strings.HasPrefix(name, "fc.") },
	} {
		t.Run(name, func(t *testing.T) {
			e, s := explained(t, resnet(), Options{Layer: "layer3"}, randomised(t, weights, random))
			sum := 0.0
			for i := range maps {
				x, _ := ball(uint64(i), true)
				m, err := e.Map(t.Context(), s, x, 0)
				if err != nil {
					t.Fatal(err)
				}
				sum += rankCorrelation(m.Heat, maps[i].Heat)
			}
			if mean := sum / float64(len(maps)); mean > 0.5 {
				t.Errorf("the maps of random weights resemble those of the trained ones: mean rank correlation %.2f", mean)
			}
		})
	}
}

// randomised returns the weights with those that random names drawn anew.
func randomised(t *testing.T, weights []modelfile.Tensor, random func(name string) bool) []modelfile.Tensor {
	t.Helper()
	s := start(t, resnet(), session.Options{EvalBatch: 1})
	if err := s.Initialize(99); err != nil {
		t.Fatal(err)
	}
	fresh := map[string]modelfile.Tensor{}
	for _, w := range s.Tensors() {
		fresh[w.Name] = w
	}
	out := slices.Clone(weights)
	for i, w := range out {
		if random(w.Name) {
			out[i] = fresh[w.Name]
		}
	}
	return out
}

// rankCorrelation is Spearman's, ties in the order of the cells; 0 when one of them is constant.
func rankCorrelation(a, b []float64) float64 {
	ranks := func(x []float64) []float64 {
		order := make([]int, len(x))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(x[i], x[j]) })
		r := make([]float64, len(x))
		for rank, i := range order {
			r[i] = float64(rank)
		}
		return r
	}
	if slices.Max(a) == slices.Min(a) || slices.Max(b) == slices.Min(b) {
		return 0
	}
	ra, rb := ranks(a), ranks(b)
	n := float64(len(a))
	sum := 0.0
	for i := range ra {
		sum += (ra[i] - rb[i]) * (ra[i] - rb[i])
	}
	return 1 - 6*sum/(n*(n*n-1))
}

// The relevance of the tokens is that of the whole matrices, in the words of the paper: R starts as the identity and
// each block adds Ā·R.
func TestRelevance(t *testing.T) {
	const tokens, heads, width, blocks = 70, 2, 3, 3
	const e = heads * width
	s := rng.New(rng.Key(5, "relevance"))
	draw := func(n int) []float32 {
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(s.Normal())
		}
		return x
	}
	r := make([][]float64, tokens)
	for i := range r {
		r[i] = make([]float64, tokens)
		r[i][i] = 1
	}
	var qkv, gradient [][]float32
	for range blocks {
		x, g := draw(tokens*3*e), draw(tokens*e)
		qkv, gradient = append(qkv, x), append(gradient, g)
		mean := make([][]float64, tokens)
		for i := range mean {
			mean[i] = make([]float64, tokens)
		}
		at := func(part, token, head, k int) float64 { return float64(x[token*3*e+part*e+head*width+k]) }
		for h := range heads {
			for i := range tokens {
				row, sum := make([]float64, tokens), 0.0
				for j := range tokens {
					z := 0.0
					for k := range width {
						z += at(0, i, h, k) * at(1, j, h, k)
					}
					row[j] = math.Exp(z / math.Sqrt(width))
					sum += row[j]
				}
				for j := range tokens {
					da := 0.0
					for k := range width {
						da += float64(g[i*e+h*width+k]) * at(2, j, h, k)
					}
					mean[i][j] += max(0, da*row[j]/sum) / heads
				}
			}
		}
		next := make([][]float64, tokens)
		for i := range next {
			next[i] = slices.Clone(r[i])
			for j := range tokens {
				for k := range tokens {
					next[i][k] += mean[i][j] * r[j][k]
				}
			}
		}
		r = next
	}
	got := relevance(qkv, gradient, heads, tokens-1)
	for j, want := range r[0][1:] {
		if math.Abs(got[j]-want) > 1e-9*want {
			t.Fatalf("token %d: got %v, want %v", j, got[j], want)
		}
	}
}

// A vision transformer is explained by its attention, on the grid of its patches.
func TestTransformer(t *testing.T) {
	s := start(t, vit(), session.Options{EvalBatch: 1})
	if err := s.Initialize(3); err != nil {
		t.Fatal(err)
	}
	e, s := explained(t, vit(), Options{}, s.Tensors())
	x, _ := ball(1, true)
	m, err := e.Map(t.Context(), s, x, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, peak := m.Peak(); e.Method() != Attention || !(peak > 0) || len(m.Heat) != 64 {
		t.Errorf("method %s, peak %v of %d tokens", e.Method(), peak, len(m.Heat))
	}
	if want := (Cells{[3]int{4, 4, 4}, [3]float64{1.5, 1.5, 1.5}, [3]float64{4, 4, 4}}); m.Cells != want {
		t.Errorf("cells %+v, want %+v", m.Cells, want)
	}
}

// The default layer and its cells: by hand, a standard stem sees its output o around the input 4·o, a transition's
// mean of two shifts by half a cell.
func TestLayers(t *testing.T) {
	dense := config.Model{Name: "densenet_tiny_3d", Options: map[string]any{"blocks": []any{1, 1, 1, 1}, "growth": 4, "init_features": 8, "hidden": 4}}
	wide := config.Model{Name: "resnet18_3d", Options: map[string]any{"widths": []any{4, 4, 4, 4}, "hidden": 4}}
	for _, tt := range []struct {
		model       config.Model
		layer, want string
		cells       Cells
	}{
		{wide, "", "layer2.1", Cells{[3]int{4, 5, 6}, [3]float64{}, [3]float64{8, 8, 8}}},
		{wide, "layer3.0.conv1", "layer3.0.conv1", Cells{[3]int{2, 3, 3}, [3]float64{}, [3]float64{16, 16, 16}}},
		{dense, "", "features.transition2", Cells{[3]int{4, 5, 6}, [3]float64{2, 2, 2}, [3]float64{8, 8, 8}}},
		{dense, "features.transition2", "features.transition2", Cells{[3]int{4, 5, 6}, [3]float64{2, 2, 2}, [3]float64{8, 8, 8}}},
		{resnet(), "", "layer4.0", Cells{[3]int{4, 5, 6}, [3]float64{}, [3]float64{8, 8, 8}}},
	} {
		e, err := New(Options{Layer: tt.layer})
		if err != nil {
			t.Fatal(err)
		}
		if err := compile(tt.model, [3]int{32, 40, 48}, e); err != nil {
			t.Fatal(err)
		}
		if e.Layer() != tt.want || e.cells != tt.cells {
			t.Errorf("%s, layer %q: got %s with %+v, want %s with %+v", tt.model.Name, tt.layer, e.Layer(), e.cells, tt.want, tt.cells)
		}
	}
	for _, tt := range []struct {
		model config.Model
		opt   Options
		want  string
	}{
		{wide, Options{Layer: "layer9"}, "there are layer1, layer1.0"},
		{wide, Options{Method: Attention}, "needs a network with attention"},
		{vit(), Options{Method: GradCAM}, "needs a convolutional network"},
	} {
		e, err := New(tt.opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := compile(tt.model, [3]int{32, 40, 48}, e); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: got %v, want an error with %q", tt.opt, err, tt.want)
		}
	}
	for opt, want := range map[Options]string{
		{Method: "saliency"}: "allowed: gradcam, hirescam, attention, occlusion",
		{Occlusion, "x"}:     "no layer to choose",
	} {
		if _, err := New(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want an error with %q", opt, err, want)
		}
	}
}

func compile(m config.Model, shape [3]int, e *Explainer) error {
	net, err := models.New(m, 1)
	if err != nil {
		return err
	}
	dev := cpu.New(1)
	defer dev.Close()
	_, err = session.Compile(dev, session.Options{Network: net, ShapeDHW: shape, Probe: e.Probe})
	return err
}

// A heat that is a linear function of the place in the patient on the input's voxels is that function on the scan's,
// however the scan lies in the patient and whatever was cut, padded and resampled.
func TestOver(t *testing.T) {
	plane := func(p [3]float64) float64 { return 2000 + 3*p[0] - 2*p[1] + 1.5*p[2] }
	for _, code := range []string{"LPS", "RAS", "SRA", "PIL"} {
		for _, fit := range []string{"resize", "crop_pad"} {
			size := [3]int{22, 31, 27}
			lps := [4][4]float64{{0.8, 0, 0, -30}, {0, 1.1, 0, 15}, {0, 0, 2.5, 40}, {0, 0, 0, 1}}
			v, err := volume.FromAffine(size, make([]float32, size[0]*size[1]*size[2]), lps)
			if err != nil {
				t.Fatal(err)
			}
			if v, err = volume.Reorient(v, code); err != nil {
				t.Fatal(err)
			}
			in, _, err := preprocess.Apply(v, config.Preprocess{
				Orientation: "LPS", SpacingMM: config.Spacing{MM: [3]float64{2, 1.5, 1}}, Intensity: "window", HUWindow: [2]float64{-1000, 400},
				ScaleTo: [2]float64{0, 1}, ShapeDHW: [3]int{40, 16, 14}, Fit: fit,
			})
			if err != nil {
				t.Fatal(err)
			}
			m := &Map{Cells: Cells{Size: in.Shape, Step: [3]float64{1, 1, 1}}}
			for d := range in.Shape[0] {
				for h := range in.Shape[1] {
					for w := range in.Shape[2] {
						m.Heat = append(m.Heat, plane(volume.Transform(in.ToSource, float64(w), float64(h), float64(d))))
					}
				}
			}
			_, peak := m.Peak()
			heat, err := m.Over(v, in.Shape, in.ToSource)
			if err != nil {
				t.Fatal(err)
			}
			if heat.Affine != v.Affine || heat.Size != v.Size {
				t.Fatalf("%s: the heat has other voxels than the scan", code)
			}
			toInput := volume.Inverse(in.ToSource)
			inside, outside := 0, 0
			for d := range v.Size[0] {
				for h := range v.Size[1] {
					for w := range v.Size[2] {
						p := volume.Transform(v.Affine, float64(w), float64(h), float64(d))
						at := volume.Transform(toInput, p[0], p[1], p[2])
						within, beyond := true, false
						for a, x := range at { // w, h, d
							n := float64(in.Shape[2-a])
							within = within && x >= 0 && x <= n-1
							beyond = beyond || x < -0.51 || x > n-0.49
						}
						got := float64(heat.At(d, h, w)) * peak
						switch {
						case within:
							inside++
							if math.Abs(got-plane(p)) > 0.51*peak/levels {
								t.Fatalf("%s, %s: %v at %v, want %v", code, fit, got, p, plane(p))
							}
						case beyond:
							outside++
							if got != 0 {
								t.Fatalf("%s, %s: %v at %v, which the network has not seen", code, fit, got, p)
							}
						}
					}
				}
			}
			if inside < 1000 || (outside == 0) != (fit == "resize") {
				t.Errorf("%s, %s: %d voxels inside, %d outside", code, fit, inside, outside)
			}
		}
	}
}
