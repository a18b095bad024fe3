package train

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/weights"
)

// freeze returns which parameters train.freeze names; nil without patterns.
func freeze(c *config.Config, net *models.Network) (func(param string) bool, error) {
	if len(c.Train.Freeze) == 0 {
		return nil, nil
	}
	params, err := weights.Target{Network: net, ShapeDHW: c.Preprocess.ShapeDHW}.Params()
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Usage, err)
	}
	frozen, err := weights.Frozen(c.Train.Freeze, params)
	return func(param string) bool { return frozen[param] }, exitcode.Wrap(exitcode.Usage, err)
}

// pretrainedBytes bounds the memory that reading a file of weights takes. A file that cannot be read takes
// none: loading it says why.
func pretrainedBytes(path string) int64 {
	if path == "" {
		return 0
	}
	file, entries, err := modelfile.List(path)
	if err != nil {
		return 0
	}
	var values int64
	for _, e := range entries {
		n := int64(1)
		for _, s := range e.Shape {
			n *= int64(s)
		}
		values += n
	}
	if file.Format == "torch" { // tensors that lie in memory in another order are copied
		return 8 * values
	}
	return 4 * values
}

// loadPretrained puts the weights of model.pretrained in place of first values. A run that goes on has its
// own weights already.
func (r *run) loadPretrained() error {
	c := r.cfg
	if c.Model.Pretrained == "" {
		return nil
	}
	if _, err := os.Stat(filepath.Join(r.Dir, stateFile)); r.Resume && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	file, err := modelfile.Open(c.Model.Pretrained)
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "model.pretrained: %w", err)
	}
	target := weights.Target{Network: r.net, ShapeDHW: c.Preprocess.ShapeDHW, Labels: r.ds.Labels}
	tensors, report, err := weights.Fit(file, target, weights.Options{
		NewHead: true, Inflate: c.Model.PretrainedInflate, Interpolate: c.Model.PretrainedInterpolate, FromDHW: c.Model.PretrainedShapeDHW,
	})
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "model.pretrained %s: %w", c.Model.Pretrained, err)
	}
	var batches int64
	for _, t := range tensors {
		if t.DType() == modelfile.I64 {
			batches = max(batches, t.I64[0])
			continue
		}
		if err := r.sess.State().Set(t.Name, t.F32); err != nil {
			return fmt.Errorf("model.pretrained %s: %w", c.Model.Pretrained, err)
		}
	}
	r.sess.SetBatchesTracked(batches)
	r.Log.Info("pretrained weights loaded", "file", c.Model.Pretrained, "layout", report.Layout,
		"matched", len(report.Matched), "renamed", len(report.Renamed), "start afresh", len(report.New))
	for _, part := range []struct {
		what string
		list []weights.Note
	}{{"changed", report.Changed}, {"left over", report.LeftOver}, {"starts afresh", report.New}} {
		for _, n := range part.list {
			r.Log.Info("pretrained: "+part.what, "tensor", n.Name, "why", n.Text)
		}
	}
	if m := file.Model; m != nil {
		theirs, ours := m.Preprocess, c.Preprocess
		theirs.ShapeDHW = ours.ShapeDHW
		if !reflect.DeepEqual(theirs, ours) {
			r.Log.Warn("the pretrained model was trained with other preprocessing", "its", fmt.Sprintf("%+v", theirs), "here", fmt.Sprintf("%+v", ours))
		}
	}
	debug.FreeOSMemory() // the file's copy is not needed any more, and its memory is promised to others
	return nil
}
