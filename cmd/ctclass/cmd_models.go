package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// usualShape is the shape that parameters are counted for where none is asked for. It matters for vision
// transformers only, whose position embeddings grow with the volume.
func usualShape() [3]int { return [3]int{96, 224, 224} }

type modelsOptions struct {
	json    bool
	shape   string
	batch   int
	classes int
}

func newModelsCommand(app *app) *cobra.Command {
	var opts modelsOptions
	cmd := &cobra.Command{
		Use:   "models",
		Short: "List the architectures, their options, size and cost",
		Long: `Models lists the architectures that model.name may name, with their families, numbers of parameters and
options (model.options of a configuration) with their defaults.

With --shape it also says what a model of that input shape takes: the peak memory of the whole process, for
inference and for a training step with AdamW, as planned without taking it, and the operations of one
sample's forward pass. Scans that are being read come on top of the memory.`,
		Example: `  ctclass models
  ctclass models --shape 96,224,224 --batch 2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runModels(cmd.Context(), app, opts) },
	}
	f := cmd.Flags()
	f.BoolVar(&opts.json, "json", false, "print a JSON array")
	f.StringVar(&opts.shape, "shape", "", "input shape `D,H,W` in voxels, to tell memory and operations")
	f.IntVar(&opts.batch, "batch", 1, "samples in a batch, for --shape")
	f.IntVar(&opts.classes, "classes", 18, "number of outputs")
	return cmd
}

// modelInfo is one architecture as --json prints it.
type modelInfo struct {
	Name       string          `json:"name"`
	Family     string          `json:"family"`
	Parameters int64           `json:"parameters"`
	Options    json.RawMessage `json:"options"` // with the defaults
	// The memory savers' defaults, model.use_checkpointing and model.memory_efficient.
	UseCheckpointing bool `json:"use_checkpointing"`
	MemoryEfficient  bool `json:"memory_efficient"`

	// With --shape only.
	ShapeDHW       *[3]int  `json:"shape_dhw,omitempty"`
	Batch          int      `json:"batch,omitempty"`
	InferPeakBytes int64    `json:"infer_peak_bytes,omitempty"`
	TrainPeakBytes int64    `json:"train_peak_bytes,omitempty"`
	GFLOP          *float64 `json:"gflop,omitempty"` // of one sample's forward pass
	Error          string   `json:"error,omitempty"` // why the architecture cannot take the shape
}

func runModels(ctx context.Context, app *app, opts modelsOptions) error {
	if opts.batch < 1 || opts.classes < 1 {
		return exitcode.Errorf(exitcode.Usage, "--batch and --classes must be at least 1, got %d and %d", opts.batch, opts.classes)
	}
	shape := usualShape()
	if opts.shape != "" {
		var err error
		if shape, err = parseSizes(opts.shape); err != nil {
			return exitcode.Errorf(exitcode.Usage, "--shape: %w", err)
		}
	}
	dev := cpu.New(runtime.GOMAXPROCS(0))
	defer dev.Close()
	var list []modelInfo
	for _, e := range models.Registry() {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := describeModel(dev, e, shape, opts)
		if err != nil {
			return err
		}
		list = append(list, info)
	}
	if opts.json {
		return printJSON(app.out, list)
	}
	return printModels(app.out, list, shape, opts)
}

// describeModel tells about one architecture; that it cannot take the shape is part of the answer.
func describeModel(dev *cpu.Device, e models.Entry, shape [3]int, opts modelsOptions) (modelInfo, error) {
	net, err := models.New(config.Model{Name: e.Name}, opts.classes)
	if err != nil {
		return modelInfo{}, err
	}
	info := modelInfo{Name: net.Name, Family: net.Family, UseCheckpointing: net.UseCheckpointing, MemoryEfficient: net.MemoryEfficient}
	if info.Options, err = json.Marshal(net.Options); err != nil {
		return info, err
	}
	usual, err := net.Cost(usualShape())
	if err != nil {
		return info, err
	}
	info.Parameters = usual.Parameters
	if opts.shape == "" {
		return info, nil
	}
	info.ShapeDHW, info.Batch = &shape, opts.batch
	cost, err := net.Cost(shape)
	if err != nil {
		info.Error = err.Error()
		return info, nil
	}
	gflop := float64(cost.FLOP) / 1e9
	info.Parameters, info.GFLOP = cost.Parameters, &gflop
	peak := func(o session.Options) int64 {
		o.Network, o.ShapeDHW = net, shape
		plan, err := session.Compile(dev, o)
		if err != nil {
			info.Error = err.Error()
			return 0
		}
		input := int64(4*opts.batch*net.InChannels) * int64(shape[0]) * int64(shape[1]) * int64(shape[2])
		return plan.ProcessBytes() + input
	}
	info.InferPeakBytes = peak(session.Options{EvalBatch: opts.batch})
	loss, err := losses.New(config.Default().Loss, "multilabel", opts.classes)
	if err != nil {
		return info, err
	}
	adam := session.Optimizer{Rule: session.AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}}
	info.TrainPeakBytes = peak(session.Options{Training: &session.Training{Loss: loss, BatchSizes: []int{opts.batch}, Optimizer: adam}})
	return info, nil
}

func printModels(w io.Writer, list []modelInfo, shape [3]int, opts modelsOptions) error {
	header := []string{"model", "family", "parameters"}
	if opts.shape != "" {
		header = append(header, "GFLOP", "inference MiB", "training MiB")
	}
	t := newTable(header, header[2:]...)
	for _, m := range list {
		row := table.Row{m.Name, m.Family, thousands(m.Parameters)}
		if m.GFLOP != nil {
			row = append(row, fmt.Sprintf("%.1f", *m.GFLOP), mebibytes(m.InferPeakBytes), mebibytes(m.TrainPeakBytes))
		}
		t.AppendRow(row)
	}
	if err := printTable(w, t); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\nParameters are for %d outputs and volumes of %s voxels (d×h×w).\n", opts.classes, triple(shape))
	if opts.shape != "" {
		fmt.Fprintf(&b, "GFLOP are of one sample's forward pass; memory is the peak of the whole process for a batch of %d.\n", opts.batch)
	} else {
		fmt.Fprintf(&b, "With --shape D,H,W memory and operations are told, too.\n")
	}
	for _, m := range list {
		if m.Error != "" {
			fmt.Fprintf(&b, "%s\n", m.Error)
		}
	}
	// Options are a family's; where its variants differ in a default, they do so by design of the variant.
	seen := map[string]bool{}
	for _, m := range list {
		if seen[m.Family] {
			continue
		}
		seen[m.Family] = true
		fmt.Fprintf(&b, "\n%s, model.options with the defaults of %s:\n  %s\n", m.Family, m.Name, m.Options)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func mebibytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return strconv.FormatInt((n+1<<20-1)>>20, 10)
}

// thousands groups the digits of a number by commas.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// parseSizes reads "D,H,W", three whole numbers above 0.
func parseSizes(text string) ([3]int, error) {
	var out [3]int
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return out, fmt.Errorf("%q is not three sizes D,H,W", text)
	}
	voxels := 1
	for i, p := range parts {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || n < 1 || n > 1<<31/voxels {
			return out, fmt.Errorf("%q is not three sizes D,H,W above 0, with at most 2^31 voxels in all", text)
		}
		out[i] = n
		voxels *= n
	}
	return out, nil
}

// parseLengths reads "d,h,w", three lengths in mm above 0.
func parseLengths(text string) ([3]float64, error) {
	var out [3]float64
	parts := strings.Split(text, ",")
	if len(parts) != 3 {
		return out, fmt.Errorf("%q is not three lengths d,h,w in mm", text)
	}
	for i, p := range parts {
		x, err := strconv.ParseFloat(strings.TrimSpace(p), 64)
		if err != nil || !(x > 0 && x < 1e6) {
			return out, fmt.Errorf("%q is not three lengths d,h,w in mm above 0", text)
		}
		out[i] = x
	}
	return out, nil
}
