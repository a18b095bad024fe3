package predict

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"image"
	"image/png"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/explain"
	"github.com/ctclass/ctclass/internal/report"
	"github.com/ctclass/ctclass/internal/volume"
)

// Which labels are explained, beside the name of one.
const (
	ExplainFound = ""    // those that are found, or else the most probable one
	ExplainAll   = "all" // every label
)

// Explain says which answers are explained, and where to.
type Explain struct {
	Dir   string // folder of the heat maps; "": they are made for Documents alone
	Label string // ExplainFound, ExplainAll, or names of labels separated by commas
	explain.Options
}

// Explanation is a heat map that was written.
type Explanation struct {
	Label  string `json:"label"`
	Method string `json:"method"`
	Layer  string `json:"layer,omitempty"` // of Grad-CAM
	NIfTI  string `json:"nifti"`           // on the voxels of the scan, in shares of the map's peak, 0 to 1
	PNG    string `json:"png"`             // slices through the peak
}

// source is what explanations and documents need of a volume that has been read.
type source struct {
	volume *volume.Volume
	input  preprocess.Result
	origin *dicom.Origin // nil: no documents
}

// explainer explains answers of one model; of several, the first one's.
type explainer struct {
	Explain
	*explain.Explainer
	labels []int // that are asked for by name; nil: by the answer
}

func newExplainer(m *Model, opt Explain) (*explainer, error) {
	e := &explainer{Explain: opt}
	var err error
	if e.Explainer, err = explain.New(opt.Options); err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	switch opt.Label {
	case ExplainFound:
	case ExplainAll:
		for i := range m.Labels {
			e.labels = append(e.labels, i)
		}
	default:
		for name := range strings.SplitSeq(opt.Label, ",") {
			i := slices.Index(m.Labels, strings.TrimSpace(name))
			if i < 0 {
				return nil, exitcode.Errorf(exitcode.Usage, "%s has no label %q to explain; it has %s", m.Path, name, strings.Join(m.Labels, ", "))
			}
			e.labels = append(e.labels, i)
		}
	}
	return e, makeFolders(opt.Dir)
}

// wanted returns the indices of the labels to explain.
func (e *explainer) wanted(labels []Label) []int {
	if e.labels != nil {
		return e.labels
	}
	var found []int
	best := 0
	for i, l := range labels {
		if l.Present {
			found = append(found, i)
		}
		if l.Probability > labels[best].Probability {
			best = i
		}
	}
	if found == nil {
		found = []int{best}
	}
	return found
}

// picture is a heat map over slices of the scan.
type picture struct {
	label int
	image *image.RGBA
}

// explain makes the heat maps of an answer and writes them, where there is a folder for them.
func (p *Predictor) explain(ctx context.Context, r *Result, src source) ([]picture, error) {
	var pictures []picture
	for _, i := range p.explainer.wanted(r.Labels) {
		m, err := p.explainer.Map(ctx, p.ensemble.members[0].sess, src.input.Data, i)
		if err != nil {
			return nil, err
		}
		heat, err := m.Over(src.volume, src.input.Shape, src.input.ToSource)
		if err != nil {
			return nil, err
		}
		if _, peak := m.Peak(); !(peak > 0) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("nothing in the volume speaks for %q: its heat map is empty", r.Labels[i].Name))
		}
		caption := fmt.Sprintf("%s %.1f%% - %s", r.Labels[i].Name, 100*r.Labels[i].Probability, p.explainer.Method())
		drawn, err := report.Overlay(src.volume, heat, p.grayWindow(), caption)
		if err != nil {
			return nil, err
		}
		pictures = append(pictures, picture{i, drawn})
		if p.explainer.Dir == "" {
			continue
		}
		base := filepath.Join(p.explainer.Dir, fileName(r)+"."+cleanName(r.Labels[i].Name, i))
		x := Explanation{
			Label: r.Labels[i].Name, Method: p.explainer.Method(), Layer: p.explainer.Layer(), NIfTI: base + ".nii.gz", PNG: base + ".png",
		}
		if err := nifti.Write(x.NIfTI, heat, nifti.Float32); err != nil {
			return nil, err
		}
		if err := atomicfile.Write(x.PNG, func(w io.Writer) error { return png.Encode(w, drawn) }); err != nil {
			return nil, err
		}
		r.Explanations = append(r.Explanations, x)
	}
	return pictures, nil
}

// grayWindow returns the HU that pictures show from black to white: what the network sees.
func (p *Predictor) grayWindow() [2]float64 {
	if s := p.models[0].Preprocess; s.Intensity == "window" {
		return s.Windows()[0]
	}
	return [2]float64{-1000, 400}
}

// fileName names the files that belong to a result: after the scan's path, with a few digits of a hash that tell
// apart scans of one name and the series of one scan.
func fileName(r *Result) string {
	base := filepath.Base(r.Path)
	for _, ext := range []string{".gz", ".nii", ".hdr", ".dcm", ".zip", ".tar", ".tgz"} {
		if cut, ok := strings.CutSuffix(base, ext); ok && cut != "" {
			base = cut
		}
	}
	hash := sha256.Sum256([]byte(r.Path + "\n" + r.SeriesUID))
	return cleanName(base, -1) + "-" + hex.EncodeToString(hash[:4])
}

// cleanName leaves of a name what every file system takes. Where that changes the name of label i, the number
// keeps it unique.
func cleanName(name string, i int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.", r) {
			return r
		}
		return '_'
	}, name)
	if clean != name && i >= 0 {
		clean = fmt.Sprintf("%s-%d", clean, i+1)
	}
	return clean
}
