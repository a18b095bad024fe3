package config

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestEveryKeyIsDocumented compares the table of documentation with the fields of Config.
func TestEveryKeyIsDocumented(t *testing.T) {
	var have, want, vars []string
	for _, d := range keyDocs() {
		have = append(have, d.key)
		if d.doc == "" || !strings.HasSuffix(d.doc, ".") {
			t.Errorf("%s: the documentation %q is no sentence", d.key, d.doc)
		}
	}
	for _, f := range tree().all() {
		want = append(want, f.key)
		if f.fields != nil {
			continue
		}
		if slices.Contains(vars, f.env()) {
			t.Errorf("%s: two keys share %s", f.key, f.env())
		}
		vars = append(vars, f.env())
	}
	if !slices.Equal(have, want) {
		t.Errorf("documented\n%q\nin Config\n%q", have, want)
	}
}

// TestRulesFitTheirTypes runs every rule on the default: a rule for another type panics.
func TestRulesFitTheirTypes(t *testing.T) {
	def := Default()
	for _, f := range tree().leaves() {
		if v := f.value(&def); f.doc.rule != nil && v != nil && !f.doc.rule.ok(v) {
			t.Errorf("%s: the default %v is not allowed (%s)", f.key, v, f.allowed())
		}
	}
	if r := tree().find("model.dropout").doc.rule; !r.ok(0.0) || r.ok(1.0) {
		t.Error("model.dropout: wants 0 allowed, 1 not")
	}
}

func TestSchema(t *testing.T) {
	text, err := Schema(testNames)
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	at := func(key string) map[string]any {
		n := s
		for _, part := range strings.Split(key, ".") {
			p, ok := n["properties"].(map[string]any)
			if !ok || p[part] == nil {
				t.Fatalf("the schema has no %s", key)
			}
			n = p[part].(map[string]any)
		}
		return n
	}
	for _, f := range tree().all() {
		n := at(f.key)
		if !strings.HasPrefix(n["description"].(string), f.doc.doc) {
			t.Errorf("%s: description %q", f.key, n["description"])
		}
		if f.fields != nil && n["additionalProperties"] != false {
			t.Errorf("%s: other keys are allowed", f.key)
		}
	}
	for key, want := range map[string]string{
		"model.name":                `["resnet18_3d","resnet34_3d","densenet121_3d"]`,
		"data.task":                 `["binary","multilabel","multiclass"]`,
		"train.schedule.pct_start":  `{"exclusiveMinimum":0,"exclusiveMaximum":1,"default":0.3,"type":"number"}`,
		"train.epochs":              `{"minimum":1,"maximum":1000000,"default":10,"type":"integer"}`,
		"train.drop_last":           `{"default":true,"type":"boolean"}`,
		"model.dropout":             `{"minimum":0,"exclusiveMaximum":1,"type":["number","null"]}`,
		"preprocess.spacing_mm":     `{"anyOf":[{"const":"keep"},{"type":"array","minItems":3,"maxItems":3,"items":{"type":"number","exclusiveMinimum":0}}],"default":"keep"}`,
		"preprocess.shape_dhw":      `{"type":"array","minItems":3,"maxItems":3,"items":{"type":"integer","minimum":1,"maximum":4096},"default":[64,128,128]}`,
		"loss.gamma":                `{"anyOf":[{"const":0},{"type":"number","minimum":1}],"default":2}`,
		"loss.pos_weight":           `{"anyOf":[{"const":"auto"},{"type":"array","items":{"type":"number","exclusiveMinimum":0}}],"default":[]}`,
		"train.optimizer.betas":     `{"type":"array","minItems":2,"maxItems":2,"items":{"type":"number","minimum":0,"exclusiveMaximum":1},"default":[0.9,0.999]}`,
		"train.early_stop.patience": `{"minimum":0,"maximum":1000000,"default":0,"type":"integer"}`,
	} {
		var w any
		if err := json.Unmarshal([]byte(want), &w); err != nil {
			t.Fatal(err)
		}
		n := at(key)
		delete(n, "description")
		var got any = n
		if _, isList := w.([]any); isList {
			got = n["enum"]
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(w)
		if string(a) != string(b) {
			t.Errorf("%s: got %s, want %s", key, a, b)
		}
	}
	if strings.Index(string(text), `"model"`) > strings.Index(string(text), `"data"`) {
		t.Error("the schema does not keep the order of the keys")
	}
}

func TestExplain(t *testing.T) {
	got, err := Explain("preprocess.hu_window", Names{})
	want := `preprocess.hu_window
  Lower and upper end of the intensity window.
  allowed: two numbers, the first below the second
  unit: HU
  default: [-1000, 400]
  environment: CTCLASS_PREPROCESS_HU_WINDOW
`
	if err != nil || got != want {
		t.Errorf("got\n%s\n%v\nwant\n%s", got, err, want)
	}
	section, err := Explain("train.schedule", Names{})
	if err != nil || !strings.Contains(section, "train.schedule.pct_start\n") || strings.Contains(section, "train.epochs") {
		t.Errorf("got\n%s\n%v", section, err)
	}
	all, err := Explain("", testNames)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tree().all() {
		if !strings.Contains(all, "\n"+f.key+"\n") {
			t.Errorf("%s is not explained", f.key)
		}
	}
	if !strings.Contains(all, "allowed: resnet18_3d, resnet34_3d, densenet121_3d\n") {
		t.Error("the known models are not listed")
	}
	for _, line := range strings.Split(all, "\n") {
		if len(line) > 100 {
			t.Errorf("long line: %s", line)
		}
	}
	if _, err := Explain("preprocess.window", Names{}); err == nil || err.Error() != `unknown key "preprocess.window"; did you mean "preprocess.hu_window"?` {
		t.Errorf("got %v", err)
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"8GiB": 8 << 30, "512MB": 512e6, "1.5 GiB": 3 << 29, "100B": 100, "2kB": 2000, "2KiB": 2048,
		" 1tib ": 1 << 40, "0.5KB": 500, "3TB": 3e12, "1MiB": 1 << 20,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "8", "GiB", "-1GiB", "50%", "auto", "8 Gi", "1e3MB", "0x1GB", "1_0GB", "0GiB", "0.1B", "9999999TiB", "1.2.3GB", "8GiB!", "NaN GB", "inf GB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, want an error", text, got)
		} else if !strings.Contains(err.Error(), "8GiB") {
			t.Errorf("ParseBytes(%q): %v does not say what is allowed", text, err)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"resnet18_3d", "resnet34_3d", "densenet121_3d", "epochs", "lr"}
	for word, want := range map[string]string{
		"resnet18": "resnet18_3d", "resnet43_3d": "resnet34_3d", "Epochs": "epochs", "epcohs": "epochs", "lr": "lr", "l": "lr",
		"transformer": "", "densenet": "densenet121_3d", "": "", "xy": "",
	} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	for _, tt := range []struct {
		a, b string
		d    int
	}{{"kitten", "sitting", 3}, {"", "abc", 3}, {"ab", "ba", 1}, {"ca", "abc", 3}, {"same", "same", 0}, {"größe", "grösse", 2}} {
		if got := editDistance(tt.a, tt.b); got != tt.d {
			t.Errorf("editDistance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.d)
		}
	}
}

func TestDecodeOptions(t *testing.T) {
	type common struct {
		ZeroInit bool `yaml:"zero_init"`
	}
	type options struct {
		common `yaml:",inline"`
		Growth int      `yaml:"growth_rate"`
		Drop   float64  `yaml:"drop_rate"`
		Pool   *string  `yaml:"pool"`
		Patch  [3]int   `yaml:"patch"`
		Blocks []int    `yaml:"blocks"`
		Tags   []string `yaml:"tags"`
		hidden int
		Nested struct {
			Depth uint8 `yaml:"depth"`
		} `yaml:"nested"`
	}
	o := options{Growth: 32, Blocks: []int{6, 12}, hidden: 1}
	err := DecodeOptions(map[string]any{
		"drop_rate": 1, "zero_init": true, "pool": "max", "patch": []any{8, 16, 16}, "nested": map[string]any{"depth": 3}, "tags": []any{},
	}, &o)
	if err != nil {
		t.Fatal(err)
	}
	if o.Growth != 32 || o.Drop != 1 || !o.ZeroInit || o.Pool == nil || *o.Pool != "max" || o.Patch != [3]int{8, 16, 16} || o.Nested.Depth != 3 || len(o.Blocks) != 2 || o.hidden != 1 {
		t.Errorf("got %+v", o)
	}
	// A model file keeps options as JSON, where every number is a float64.
	if err := DecodeOptions(map[string]any{"growth_rate": float64(12)}, &o); err != nil || o.Growth != 12 {
		t.Errorf("got %d, %v", o.Growth, err)
	}
	err = DecodeOptions(map[string]any{"growht_rate": 1, "drop_rate": "high", "blocks": []any{1, 2.5}, "nested": map[string]any{"dept": 3, "depth": 300}, "hidden": 3}, &o)
	want := `model.options.blocks: got [1, 2.5], allowed: a list of whole numbers
model.options.drop_rate: got "high", allowed: a number
unknown key "model.options.growht_rate"; did you mean "model.options.growth_rate"?
unknown key "model.options.hidden"
unknown key "model.options.nested.dept"; did you mean "model.options.nested.depth"?
model.options.nested.depth: got 300, allowed: a whole number of at least 0`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if err := DecodeOptions(nil, &struct{}{}); err != nil {
		t.Error(err)
	}
	if err := DecodeOptions(map[string]any{"x": 1}, &struct{}{}); err == nil || !strings.Contains(err.Error(), "has no options") {
		t.Errorf("got %v", err)
	}
	if err := DecodeOptions(nil, o); err == nil {
		t.Error("a value that is no pointer was accepted")
	}
}

func TestParseBudget(t *testing.T) {
	const available = 1000
	for text, want := range map[string]int64{"": 0, "none": 0, " auto ": 900, "50%": 500, "12.5 %": 125, "100%": 1000, "2kB": 2000, "8GiB": 8 << 30} {
		b, err := ParseBudget(text)
		if got := b.Limit(available); err != nil || got != want {
			t.Errorf("ParseBudget(%q) of %d is %d, %v, want %d", text, available, got, err, want)
		}
	}
	for _, text := range []string{"0%", "101%", "-5%", "1e1%", "%", "NaN%", "8", "lots", "8GiB 5%"} {
		if b, err := ParseBudget(text); err == nil {
			t.Errorf("ParseBudget(%q) = %+v, want an error", text, b)
		}
	}
}
