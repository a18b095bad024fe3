package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/weights"
)

func newWeightsCommand(app *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "weights",
		Short:   "Exchange weights with PyTorch",
		Example: "  ctclass weights import resnet.pth --model resnet18_3d -o model.safetensors",
	})
	cmd.AddCommand(newWeightsImportCommand(app), newWeightsExportCommand(app), newWeightsShowCommand(app))
	return cmd
}

type weightsImportOptions struct {
	config      configFlags
	in, out     string
	model       string
	task        string
	labels      []string
	partial     bool
	inflate     bool
	interpolate bool
	fromShape   string
}

func newWeightsImportCommand(app *app) *cobra.Command {
	var opts weightsImportOptions
	cmd := &cobra.Command{
		Use:   "import IN --model NAME -o OUT",
		Short: "Make a model file of PyTorch weights",
		Long: `Import reads a .safetensors file or a .pth file of torch.save (a state_dict, or a dictionary with one under
model_state_dict, state_dict or model) and writes a model file that predict, eval and export take.

Names in every known layout are recognised, and prefixes such as module. taken away; float16, bfloat16 and
float64 become float32. Every tensor must fit: otherwise all that is missing, unexpected or of another shape
is listed and nothing is written. With --partial what fits is loaded, the rest of the network gets first
values (from train.seed), and the report says which is which.

The weights do not say how scans were prepared for them. The model file takes preprocess.* of the
configuration, which must be what the network was trained with.`,
		Example: `  ctclass weights import resnet.pth --model resnet18_3d -o model.safetensors --set preprocess.shape_dhw=96,224,224
  ctclass weights import medicalnet.pth --model resnet34_3d --labels nodule,effusion --partial -o start.safetensors`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.in = args[0]
			return runWeightsImport(cmd.Context(), app, opts)
		},
	}
	opts.config.add(cmd)
	f := cmd.Flags()
	f.StringVarP(&opts.out, "output", "o", "", "model `file` to write")
	f.StringVar(&opts.model, "model", "", "architecture `NAME`; the default is model.name of the configuration")
	f.StringVar(&opts.task, "task", "", "binary, multilabel or multiclass; the default is the configuration's where it fits the labels")
	f.StringSliceVar(&opts.labels, "labels", nil, "names of the outputs, in their order; the default is data.labels")
	f.BoolVar(&opts.partial, "partial", false, "load what fits and start the rest afresh")
	f.BoolVar(&opts.inflate, "inflate", false, "turn the kernels of a 2D network into 3D ones")
	f.BoolVar(&opts.interpolate, "interpolate", false, "interpolate a vision transformer's positions to preprocess.shape_dhw")
	f.StringVar(&opts.fromShape, "from-shape", "", "volume size `D,H,W` that the weights were trained for, for --interpolate")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func runWeightsImport(_ context.Context, app *app, opts weightsImportOptions) error {
	if err := checkOutputFile("-o", opts.out); err != nil {
		return err
	}
	if opts.model != "" {
		opts.config.sets = append(slices.Clone(opts.config.sets), "model.name="+opts.model)
	}
	cfg, err := app.loadConfig(opts.config)
	if err != nil {
		return err
	}
	fit := weights.Options{Partial: opts.partial, NewHead: opts.partial, Inflate: opts.inflate, Interpolate: opts.interpolate}
	if opts.fromShape != "" {
		if fit.FromDHW, err = parseSizes(opts.fromShape); err != nil {
			return exitcode.Errorf(exitcode.Usage, "--from-shape: %w", err)
		}
	}
	file, err := modelfile.Open(opts.in)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	labels, err := importLabels(app, cfg, file, opts)
	if err != nil {
		return err
	}
	task, err := importTask(cfg, file, opts.task, len(labels))
	if err != nil {
		return err
	}
	net, err := models.ForInput(cfg.Model, cfg.Preprocess, len(labels))
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	target := weights.Target{Network: net, Labels: labels}
	m, report, err := weights.Import(file, target, task, cfg.Preprocess, cfg.Train.Seed, fit)
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "%s: %w", opts.in, err)
	}
	if err := modelfile.Save(opts.out, m); err != nil {
		return err
	}
	if err := printImport(app.out, file, report); err != nil {
		return err
	}
	p := cfg.Preprocess
	_, err = fmt.Fprintf(app.out, "model: %s (%s, %s: %s)\npreprocessing from the configuration: %d×%d×%d voxels, spacing %s, %s\n",
		opts.out, m.Arch, m.Task, strings.Join(m.Labels, ", "), p.ShapeDHW[0], p.ShapeDHW[1], p.ShapeDHW[2], spacingText(p.SpacingMM), intensityText(p))
	return err
}

func spacingText(s config.Spacing) string {
	if s.Keep {
		return "as scanned"
	}
	return triple(s.MM) + " mm"
}

func intensityText(p config.Preprocess) string {
	if p.Intensity != "window" {
		return "stored values"
	}
	var windows []string
	for _, w := range p.Windows() {
		windows = append(windows, fmt.Sprintf("%v to %v", w[0], w[1]))
	}
	return fmt.Sprintf("%s HU as %v to %v", strings.Join(windows, ", "), p.ScaleTo[0], p.ScaleTo[1])
}

// importLabels names the outputs: by the flag, the configuration, the file, or by numbers.
func importLabels(app *app, cfg *config.Config, file *modelfile.File, opts weightsImportOptions) ([]string, error) {
	switch {
	case len(opts.labels) > 0:
		return opts.labels, nil
	case len(cfg.Data.Labels) > 0:
		return cfg.Data.Labels, nil
	case file.Model != nil:
		return file.Model.Labels, nil
	}
	family := ""
	for _, e := range models.Registry() {
		if e.Name == cfg.Model.Name {
			family = e.Family
		}
	}
	n := weights.Classes(file, family)
	if n == 0 {
		return nil, exitcode.Errorf(exitcode.Usage, "%s does not say how many outputs there are: name them with --labels", opts.in)
	}
	var labels []string
	for i := range n {
		labels = append(labels, fmt.Sprintf("label_%d", i+1))
	}
	app.log.Warn("the outputs have no names: name them with --labels", "outputs", n)
	return labels, nil
}

// importTask settles the task for a number of labels.
func importTask(cfg *config.Config, file *modelfile.File, flag string, labels int) (string, error) {
	switch {
	case flag == "binary" && labels != 1:
		return "", exitcode.Errorf(exitcode.Usage, "--task binary has one label, not %d: use multilabel or multiclass", labels)
	case flag == "multiclass" && labels < 2:
		return "", exitcode.Errorf(exitcode.Usage, "--task multiclass needs two labels or more")
	case flag == "binary", flag == "multilabel", flag == "multiclass":
		return flag, nil
	case flag != "":
		return "", exitcode.Errorf(exitcode.Usage, "--task is %q, allowed: binary, multilabel, multiclass", flag)
	case file.Model != nil && len(file.Model.Labels) == labels:
		return file.Model.Task, nil
	case labels > 1 && cfg.Data.Task == "multiclass":
		return "multiclass", nil
	case labels > 1 || cfg.Data.Task == "multilabel":
		return "multilabel", nil
	}
	return "binary", nil
}

// printImport says what became of every tensor; what went well is only counted.
func printImport(w io.Writer, file *modelfile.File, r *weights.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s file", file.Format)
	if file.StateKey != "" {
		fmt.Fprintf(&b, ", weights under %s", file.StateKey)
	}
	fmt.Fprintf(&b, ", layout %s", r.Layout)
	if r.Prefix != "" {
		fmt.Fprintf(&b, ", prefix %s taken away", r.Prefix)
	}
	fmt.Fprintf(&b, "\n%d tensors matched, %d renamed, %d left over; %d parameters start afresh\n",
		len(r.Matched), len(r.Renamed), len(r.LeftOver), len(r.New))
	for i, n := range r.Renamed {
		if i == 4 && len(r.Renamed) > 5 {
			fmt.Fprintf(&b, "  renamed: … and %d more in the same way\n", len(r.Renamed)-i)
			break
		}
		fmt.Fprintf(&b, "  renamed: %s → %s\n", n.From, n.To)
	}
	for _, part := range []struct {
		what string
		list []weights.Note
	}{{"changed", r.Changed}, {"left over", r.LeftOver}, {"afresh", r.New}} {
		for _, n := range part.list {
			fmt.Fprintf(&b, "  %s: %s: %s\n", part.what, n.Name, n.Text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

type weightsExportOptions struct {
	model, out, layout string
}

func newWeightsExportCommand(app *app) *cobra.Command {
	var opts weightsExportOptions
	cmd := &cobra.Command{
		Use:   "export MODEL -o OUT",
		Short: "Write a model's weights for PyTorch",
		Long: `Export writes the weights of a model file, or of the folder of a training run, as a plain state_dict: for
OUT.safetensors what safetensors.torch.load_file opens, for OUT.pth what torch.load(weights_only=True) opens.
load_state_dict(strict=True) takes either, num_batches_tracked included.

Layouts: original; residual_layers (ResNet3D); classifier14 (DenseNet3D).`,
		Example: `  ctclass weights export run -o weights.pth
  ctclass weights export run/best.safetensors -o weights.safetensors --layout residual_layers`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runWeightsExport(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.out, "output", "o", "", "`file` to write, OUT.pth or OUT.safetensors")
	f.StringVar(&opts.layout, "layout", weights.Original, "names of the tensors: original, residual_layers or classifier14")
	_ = cmd.MarkFlagRequired("output")
	return cmd
}

func runWeightsExport(_ context.Context, app *app, opts weightsExportOptions) error {
	if err := checkOutputFile("-o", opts.out); err != nil {
		return err
	}
	m, err := predict.Load(opts.model)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	rename, err := weights.Names(m.Network.Family, opts.layout)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	for i := range m.Tensors {
		m.Tensors[i].Name = rename(m.Tensors[i].Name)
	}
	switch ext := strings.ToLower(filepath.Ext(opts.out)); ext {
	case ".safetensors":
		err = modelfile.SaveTensors(opts.out, m.Tensors, map[string]string{"format": "pt"})
	case ".pth", ".pt":
		err = modelfile.SaveTorch(opts.out, m.Tensors)
	default:
		return exitcode.Errorf(exitcode.Usage, "-o %s: the ending %q is not known, allowed: .pth, .pt, .safetensors", opts.out, ext)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(app.out, "weights: %s (%s, %d tensors, layout %s)\n", opts.out, m.Arch, len(m.Tensors), opts.layout)
	return err
}

type weightsShowOptions struct {
	path string
	json bool
}

func newWeightsShowCommand(app *app) *cobra.Command {
	var opts weightsShowOptions
	cmd := &cobra.Command{
		Use:     "show FILE",
		Short:   "List the tensors of a file of weights",
		Example: "  ctclass weights show resnet.pth",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.path = args[0]
			return runWeightsShow(cmd.Context(), app, opts)
		},
	}
	cmd.Flags().BoolVar(&opts.json, "json", false, "print a JSON object")
	return cmd
}

func runWeightsShow(_ context.Context, app *app, opts weightsShowOptions) error {
	file, entries, err := modelfile.List(opts.path)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	if opts.json {
		return printJSON(app.out, struct {
			Path     string            `json:"path"`
			Format   string            `json:"format"`
			StateKey string            `json:"state_key,omitempty"`
			Metadata map[string]string `json:"metadata,omitempty"`
			Tensors  []modelfile.Entry `json:"tensors"`
		}{opts.path, file.Format, file.StateKey, file.Metadata, orEmpty(entries)})
	}
	t := newTable([]string{"tensor", "shape", "dtype"})
	count := 0
	for _, e := range entries {
		t.AppendRow(table.Row{e.Name, fmt.Sprint(e.Shape), e.DType})
		n := 1
		for _, s := range e.Shape {
			n *= s
		}
		count += n
	}
	if err := printTable(app.out, t); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s file, %d tensors, %s values\n", file.Format, len(entries), thousands(int64(count)))
	if file.StateKey != "" {
		fmt.Fprintf(&b, "weights under %s\n", file.StateKey)
	}
	if m := file.Model; m != nil {
		fmt.Fprintf(&b, "ctclass model: %s, %s: %s\n", m.Arch, m.Task, strings.Join(m.Labels, ", "))
	}
	keys := make([]string, 0, len(file.Metadata))
	for k := range file.Metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		fmt.Fprintf(&b, "metadata %s: %s\n", k, file.Metadata[k])
	}
	_, err = io.WriteString(app.out, b.String())
	return err
}
