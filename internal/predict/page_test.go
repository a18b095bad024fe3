package predict

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/phantom"
	"github.com/ctclass/ctclass/internal/progress"
)

// labelled makes a data set of phantoms of two patients each and a configuration for it; the column "ward" has three
// values, one of which the test split has not.
func labelled(t *testing.T, task string) *config.Config {
	t.Helper()
	dir := t.TempDir()
	var table strings.Builder
	table.WriteString("path,patient,split,ward,nodule,effusion,class\n")
	for i := range 24 {
		c, err := phantom.Generate(phantom.Options{Seed: 3, Case: i, Size: [3]int{20, 28, 28}, SpacingMM: [3]float64{14, 12, 12}})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("scan%d.nii", i)
		if err := nifti.Write(filepath.Join(dir, name), c.Volume, nifti.Int16); err != nil {
			t.Fatal(err)
		}
		split, ward := "test", "east"
		if i%3 == 0 {
			ward = "west"
		}
		if i >= 16 {
			split, ward = "val", "north"
		}
		fmt.Fprintf(&table, "%s,p%d,%s,%s,%d,%d,%d\n", name, i/2, split, ward, i%2, i/3%2, i%3)
	}
	c := config.Default()
	c.Data.Table = filepath.Join(dir, "labels.csv")
	if err := os.WriteFile(c.Data.Table, []byte(table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Data.Task, c.Data.GroupColumn, c.Data.SplitColumn, c.Data.Labels = task, "patient", "split", []string{"nodule", "effusion"}
	if task == "multiclass" {
		c.Data.Labels, c.Data.LabelColumn = []string{"one", "two", "three"}, "class"
	}
	c.Eval.Resamples, c.Eval.Subgroups = 50, []string{"ward"}
	return &c
}

func evaluate(t *testing.T, c *config.Config, opt EvalOptions) *Evaluation {
	t.Helper()
	e, err := Evaluate(t.Context(), c, opt, slog.New(slog.DiscardHandler), progress.New(io.Discard, progress.Off))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Every number that the report shows is one of the JSON, in the same digits; what is not a result is on a short list.
func TestReportEqualsJSON(t *testing.T) {
	for _, task := range []string{"multilabel", "multiclass"} {
		t.Run(task, func(t *testing.T) {
			c := labelled(t, task)
			dir := t.TempDir()
			a, b := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
			untrained(t, a, task, c.Data.Labels, func(m *modelfile.Model) {
				m.History = json.RawMessage(`[{"epoch":1,"train_loss":0.75,"val_loss":0.5,"val":{"macro":{"auroc":0.625}},"best":true},{"epoch":2,"train_loss":0.5}]`)
				m.OperatingPoints = []eval.OperatingPoint{{Name: "youden", Label: c.Data.Labels[0], Threshold: 0.25, Origin: eval.Origin{Split: "val", Samples: 8}}}
			})
			untrained(t, b, task, c.Data.Labels, func(m *modelfile.Model) {
				for i := range m.Tensors {
					for j := range m.Tensors[i].F32 {
						m.Tensors[i].F32[j] *= 1.5
					}
				}
			})
			e := evaluate(t, c, EvalOptions{Models: []string{a}, Compare: []string{b}})
			raw, err := e.JSON()
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, "report.html")
			if err := e.WriteReport(t.Context(), path, c); err != nil {
				t.Fatal(err)
			}
			page, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			checkNumbers(t, string(page), raw)
		})
	}
}

func checkNumbers(t *testing.T, page string, raw []byte) {
	t.Helper()
	var tree any
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	element := regexp.MustCompile(`<data value="([^"]*)" data-path="([^"]*)">([^<]*)</data>`)
	for _, m := range element.FindAllStringSubmatch(page, -1) {
		value, at, text := m[1], html.UnescapeString(m[2]), html.UnescapeString(m[3])
		shown[at] = true
		v := tree
		for _, key := range strings.Split(at, "/")[1:] {
			switch x := v.(type) {
			case map[string]any:
				v = x[key]
			case []any:
				i, err := strconv.Atoi(key)
				if err != nil || i >= len(x) {
					t.Fatalf("%s: no such element", at)
				}
				v = x[i]
			}
		}
		n, ok := v.(json.Number)
		if !ok || n.String() != value {
			t.Errorf("%s is %v in the JSON and %s on the page", at, v, value)
			continue
		}
		want, err := n.Float64()
		if err != nil {
			t.Fatal(err)
		}
		text = strings.ReplaceAll(strings.TrimPrefix(text, "< "), "−", "-")
		got, err := strconv.ParseFloat(text, 64)
		if err != nil || math.Abs(got-want) > 0.0005000001 && !strings.HasPrefix(m[3], "&lt;") {
			t.Errorf("%s is %v, the page shows %q", at, want, m[3])
		}
	}
	for _, want := range []string{
		"/samples", "/patients", "/labels/0/auroc", "/labels/1/brier", "/labels/0/intervals/sensitivity/low", "/labels/0/operating_points/0/ppv",
		"/macro/auprc", "/micro/intervals/accuracy/high", "/subgroups/0/labels/0/specificity", "/comparison/labels/0/differences/auroc/difference",
		"/mistakes/0/probability", "/resamples", "/seed",
	} {
		if !shown[want] {
			t.Errorf("the page does not show %s", want)
		}
	}

	// What is left once the numbers from the JSON, names, drawings and the sections about the run are taken out.
	rest := element.ReplaceAllString(page, "")
	for _, part := range []string{
		`(?s)<style>.*?</style>`, `(?s)<svg.*?</svg>`, `(?s)<pre.*?</pre>`, `(?s)<dl class="facts">.*?</dl>`, `(?s)<title>.*?</title>`, `(?s)<h1>.*?</h1>`,
		`<(\w+)[^>]* data-(name|note)>[^<]*</`, `<h[23][^>]*>[^<]*</h`, `<img [^>]*>`, `<[^>]*>`,
	} {
		rest = regexp.MustCompile(part).ReplaceAllString(rest, "<")
	}
	for _, known := range []string{"95&nbsp;%", "F1", "0 to 1", "method 5", "over 15 parts", "−1 is unknown", "Means over 2 labels", "Means over 3 classes"} {
		rest = strings.ReplaceAll(rest, known, "")
	}
	for _, line := range strings.Split(rest, "\n") {
		if regexp.MustCompile(`[0-9]`).MatchString(line) {
			t.Errorf("a number that is not one of the JSON: %s", strings.TrimSpace(line))
		}
	}
	if strings.Contains(regexp.MustCompile(`src="[^"]*"`).ReplaceAllString(page, ""), "NaN") || regexp.MustCompile(`(src|href)="(https?:)?//`).MatchString(page) {
		t.Error("the page shows NaN or asks the network")
	}
}

// A value of a column that the split has not got is said to have no samples.
func TestEmptySubgroup(t *testing.T) {
	c := labelled(t, "multilabel")
	path := filepath.Join(t.TempDir(), "m.safetensors")
	untrained(t, path, "multilabel", c.Data.Labels, nil)
	e := evaluate(t, c, EvalOptions{Models: []string{path}})
	var values []string
	total := 0
	for _, g := range e.Subgroups {
		values = append(values, g.Value)
		total += g.Samples
		if g.Value == "north" && (g.Samples != 0 || g.Labels[0].AUROC.Defined() || g.Labels[0].Note == "") {
			t.Errorf("the empty subgroup is %+v", g.Labels[0])
		}
	}
	if !slices.Equal(values, []string{"east", "north", "west"}) || total != e.Samples || e.Samples != 16 || e.Patients != 8 {
		t.Errorf("subgroups %v of %d samples and %d patients", values, e.Samples, e.Patients)
	}
}
