package report

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"math"
	"slices"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/eval"
)

// Page is the report of an evaluation: one HTML file that needs nothing besides itself.
type Page struct {
	// Evaluation is what `ctclass eval --json` prints. Every result on the page is taken from it.
	Evaluation []byte
	Curves     []eval.Curves // one a label
	History    []Epoch       // of the training; may be empty
	Pictures   []image.Image // one for each of the evaluation's mistakes; nil where the scan cannot be drawn
	Config     string        // the resolved configuration
	Facts      []Fact        // about what made the evaluation
}

// Fact is a name with what there is to say about it.
type Fact struct{ Name, Text string }

//go:embed page.html
var pageText string

// WritePage writes the report to a file.
func WritePage(path string, p *Page) error {
	var b bytes.Buffer
	if err := p.render(&b); err != nil {
		return fmt.Errorf("cannot make the report %s: %w", path, err)
	}
	return atomicfile.WriteBytes(path, b.Bytes())
}

func (p *Page) render(w io.Writer) error {
	root, err := parseNode(p.Evaluation)
	if err != nil {
		return err
	}
	if labels := len(root.Each("labels")); labels != len(p.Curves) || len(root.Each("mistakes")) != len(p.Pictures) {
		return fmt.Errorf("curves of %d labels and %d pictures do not belong to an evaluation of %d labels and %d mistakes",
			len(p.Curves), len(p.Pictures), labels, len(root.Each("mistakes")))
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"roc":         func(i int, label node) template.HTML { return rocPlot(label, p.Curves[i].ROC) },
		"pr":          func(i int, label node) template.HTML { return prPlot(label, p.Curves[i].PR) },
		"reliability": reliabilityPlot,
		"history":     func() []template.HTML { return historyPlots(p.History) },
		"interval":    interval,
		"picture":     func(i int) (template.URL, error) { return dataURL(p.Pictures[i]) },
		"measures":    measures,
		"compared":    compared,
		"shade":       shade,
		"last":        func(i int, list []node) bool { return i == len(list)-1 },
		"columns":     subgroupColumns,
		"dict":        dict,
	}).Parse(pageText)
	if err != nil {
		return err
	}
	return t.Execute(w, struct {
		*Page
		E node
	}{p, root})
}

// measure is a row of the comparison.
type measure struct{ Key, Name string }

// measures lists the measures of the JSON with the names that the page gives them.
func measures() []measure {
	return []measure{
		{"auroc", "AUROC"},
		{"auprc", "AUPRC"},
		{"sensitivity", "Sensitivity"},
		{"specificity", "Specificity"},
		{"ppv", "PPV"},
		{"npv", "NPV"},
		{"f1", "F1"},
		{"accuracy", "Accuracy"},
		{"balanced_accuracy", "Balanced accuracy"},
		{"brier", "Brier score"},
		{"ece", "ECE"},
	}
}

// compared lists the measures of the comparison's table; the JSON has all.
func compared() []measure {
	return slices.DeleteFunc(measures(), func(m measure) bool {
		return slices.Contains([]string{"ppv", "npv", "f1", "balanced_accuracy", "ece"}, m.Key)
	})
}

// dict gives a template several values.
func dict(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		out[pairs[i].(string)] = pairs[i+1]
	}
	return out
}

// shade is the share of a cell of the confusion table in its row, as the strength of its colour.
func shade(row node, column int) string {
	sum := 0.0
	for _, cell := range row.Each() {
		x, _ := cell.number()
		sum += x
	}
	x, _ := row.number(column)
	if sum == 0 {
		return "0"
	}
	return fmt.Sprintf("%.3f", x/sum)
}

// subgroupColumns gathers the subgroups of each column.
func subgroupColumns(root node) [][]node {
	var out [][]node
	for i, g := range root.Each("subgroups") {
		if i == 0 || g.Text("column") != out[len(out)-1][0].Text("column") {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], g)
	}
	return out
}

// dataURL holds a picture as PNG within the page; "" where there is none.
func dataURL(m image.Image) (template.URL, error) {
	if m == nil {
		return "", nil
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		return "", err
	}
	return template.URL("data:image/png;base64," + base64.StdEncoding.EncodeToString(b.Bytes())), nil
}

// ParseHistory reads the training history of a model file; none gives none.
func ParseHistory(raw []byte) ([]Epoch, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var lines []struct {
		Epoch     int      `json:"epoch"`
		TrainLoss *float64 `json:"train_loss"`
		ValLoss   *float64 `json:"val_loss"`
		Val       *struct {
			Macro struct {
				AUROC *float64 `json:"auroc"`
			} `json:"macro"`
		} `json:"val"`
		Best bool `json:"best"`
	}
	if err := json.Unmarshal(raw, &lines); err != nil {
		return nil, fmt.Errorf("the model's history: %w", err)
	}
	value := func(x *float64) float64 {
		if x == nil {
			return math.NaN()
		}
		return *x
	}
	var out []Epoch
	for _, l := range lines {
		e := Epoch{Epoch: l.Epoch, TrainLoss: value(l.TrainLoss), ValLoss: value(l.ValLoss), ValAUROC: math.NaN(), Best: l.Best}
		if l.Val != nil {
			e.ValAUROC = value(l.Val.Macro.AUROC)
		}
		out = append(out, e)
	}
	return out, nil
}
