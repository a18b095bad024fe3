package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/onnx"
	"github.com/ctclass/ctclass/internal/predict"
	"github.com/ctclass/ctclass/internal/runs"
)

type exportOptions struct {
	model   string
	onnx    string
	half    bool
	dynamic bool
}

func newExportCommand(app *app) *cobra.Command {
	var opts exportOptions
	cmd := &cobra.Command{
		Use:   "export MODEL --onnx OUT.onnx",
		Short: "Write a model for other runtimes (ONNX)",
		Long: `Export writes a model file, or the model of a run folder, as an ONNX file (opset 17, standard operators) with
labels, preprocessing, thresholds and origin in its metadata. Beside it lies OUT.py, a short script that runs
it in onnxruntime.

The input "volume" (N, C, D, H, W) is a preprocessed scan; the output "logits" (N, labels) has no activation.`,
		Example: `  ctclass export run --onnx model.onnx
  ctclass export run --onnx model.onnx --fp16 --dynamic-batch`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.model = args[0]
			return runExport(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.onnx, "onnx", "", "ONNX `file` to write")
	f.BoolVar(&opts.half, "fp16", false, "weights and computation in float16; input and output stay float32")
	f.BoolVar(&opts.dynamic, "dynamic-batch", false, "take any number of volumes at a time instead of one")
	_ = cmd.MarkFlagRequired("onnx")
	return cmd
}

func runExport(_ context.Context, app *app, opts exportOptions) error {
	if ext := filepath.Ext(opts.onnx); ext != ".onnx" {
		return exitcode.Errorf(exitcode.Usage, "--onnx %s: the file must end in .onnx", opts.onnx)
	}
	if err := checkOutputFile("--onnx", opts.onnx); err != nil {
		return err
	}
	m, err := predict.Load(opts.model)
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	sum, err := fileSum(m.Path)
	if err != nil {
		return err
	}
	metadata, err := onnx.Metadata(m.Model, runs.Version(), sum)
	if err != nil {
		return err
	}
	o := onnx.Options{Half: opts.half, DynamicBatch: opts.dynamic, Producer: runs.Version(), Metadata: metadata}
	if err := onnx.Write(opts.onnx, m.Network, m.Preprocess.ShapeDHW, m.Tensors, o); err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	script := strings.TrimSuffix(opts.onnx, ".onnx") + ".py"
	if err := onnx.WriteScript(script, filepath.Base(opts.onnx)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(app.out, "model: %s\nscript: %s\n", opts.onnx, script)
	return err
}

// fileSum is the SHA-256 of a file, in hexadecimal.
func fileSum(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
