// Package explain says where in a volume a network found the reason for an answer.
//
// A Map has a value for each cell of a coarse grid: of a feature map (Grad-CAM), of the tokens (attention) or of
// the places of a mask (occlusion). Cells know their place in the network's input, from the kernels, strides and
// paddings on the way, and Map.Over carries the map to the voxels of the scan.
package explain

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/ops"
	"github.com/ctclass/ctclass/internal/session"
)

// The methods.
const (
	// GradCAM weights the channels of a feature map by the mean gradient of the label's logit (Selvaraju et al.
	// 2017).
	GradCAM = "gradcam"
	// HiResCAM weights each element of a feature map by its own gradient (Draelos and Carin 2020).
	HiResCAM = "hirescam"
	// Attention follows the relevance of the class token back through the attention of all blocks, each weighted
	// by its gradient (Chefer, Gur and Wolf, ICCV 2021).
	Attention = "attention"
	// Occlusion masks one part of the input after another and measures how much the label's logit falls
	// (Zeiler and Fergus 2014). It takes hundreds of passes through the network.
	Occlusion = "occlusion"
)

// Methods lists the methods.
func Methods() []string { return []string{GradCAM, HiResCAM, Attention, Occlusion} }

// maxStride is the coarsest feature map that Grad-CAM takes by itself, in input voxels a cell.
const maxStride = 8

// Options choose how answers are explained.
type Options struct {
	Method string // "": Attention for a network with attention, GradCAM for others
	Layer  string // whose feature map Grad-CAM reads; "": the deepest of at most 8 voxels a cell
}

// Explainer makes the maps of one network.
type Explainer struct {
	method string
	layer  string
	shape  [3]int // of the input
	cells  Cells  // of the feature map or tokens
	depth  int    // attention blocks
	heads  int
}

// New returns an explainer. It is of use once a session with its Probe has been compiled.
func New(opt Options) (*Explainer, error) {
	if opt.Method != "" && !slices.Contains(Methods(), opt.Method) {
		return nil, fmt.Errorf("unknown method %q, allowed: %s", opt.Method, strings.Join(Methods(), ", "))
	}
	if opt.Layer != "" && (opt.Method == Attention || opt.Method == Occlusion) {
		return nil, fmt.Errorf("the method %s has no layer to choose", opt.Method)
	}
	return &Explainer{method: opt.Method, layer: opt.Layer}, nil
}

// Method returns the method in use, once it is settled by Probe.
func (e *Explainer) Method() string { return e.method }

// Layer returns the layer whose feature map is read, "" for methods without one.
func (e *Explainer) Layer() string { return e.layer }

// Cells returns the grid of the feature map or of the tokens, which maps of the network have.
func (e *Explainer) Cells() Cells { return e.cells }

// Probe is the session.Options.Probe of the explainer: it settles the method by the network.
func (e *Explainer) Probe(logits *graph.Value) (session.Probe, error) {
	values := graph.Reachable(logits)
	var attention, tokens []*graph.Value // outputs of attention; patches
	for _, v := range values {
		switch v.Op.(type) {
		case ops.Attention:
			attention = append(attention, v)
		case ops.Patches:
			tokens = append(tokens, v)
		}
		if v.Role == graph.Input && v.Class == graph.Volume {
			e.shape = [3]int(v.Shape[2:])
		}
	}
	isViT := len(attention) > 0 && len(tokens) == 1
	if e.method == "" {
		e.method = GradCAM
		if isViT {
			e.method = Attention
		}
	}
	switch {
	case e.method == Occlusion:
		return session.Probe{}, nil
	case e.method == Attention && !isViT:
		return session.Probe{}, fmt.Errorf("the method %s needs a network with attention: use %s", Attention, GradCAM)
	case e.method == Attention:
		e.cells = cellsOf(tokens[0])
		e.depth, e.heads = len(attention), attention[0].Op.(ops.Attention).Heads
		p := session.Probe{Gradients: attention}
		for _, v := range attention {
			p.Values = append(p.Values, v.In[0])
		}
		return p, nil
	case isViT:
		return session.Probe{}, fmt.Errorf("the method %s needs a convolutional network: use %s", e.method, Attention)
	}
	v, err := chooseLayer(values, e.layer)
	if err != nil {
		return session.Probe{}, err
	}
	e.layer, e.cells = v.Name, cellsOf(v)
	return session.Probe{Values: []*graph.Value{v}, Gradients: []*graph.Value{v}}, nil
}

// Map explains the logit of one class for the input x (C, D, H, W) by a session that was compiled with Probe.
func (e *Explainer) Map(ctx context.Context, s *session.Session, x []float32, class int) (*Map, error) {
	if e.method == Occlusion {
		return e.occlude(ctx, s, x, class)
	}
	weights := make([]float32, s.Classes())
	weights[class] = 1
	p, err := s.Probe(x, weights)
	if err != nil {
		return nil, err
	}
	m := &Map{Cells: e.cells}
	switch e.method {
	case GradCAM:
		m.Heat = gradCAM(p.Values[0], p.Gradients[0], m.voxels())
	case HiResCAM:
		m.Heat = hiResCAM(p.Values[0], p.Gradients[0], m.voxels())
	case Attention:
		m.Heat = relevance(p.Values, p.Gradients, e.heads, m.voxels())
	}
	return m, nil
}
