// Package preview shows what a training run would make of its scans: each as preprocessing leaves it and as
// augmentation changes it in the first epochs.
package preview

import (
	"context"
	"fmt"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/data/augment"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/report"
)

// Options choose what is shown.
type Options struct {
	Split   string
	Samples int    // at most, spread evenly over the split
	Epochs  int    // of augmentation, from the first on
	Scan    string // only samples whose name contains it
}

// Result says what a page holds.
type Result struct {
	Shown  int
	Failed []string // the scans that cannot be used, with the reason
}

// Make prepares samples as training would and puts them on a page.
func Make(ctx context.Context, c *config.Config, opt Options, bar *progress.Reporter) (*report.SamplePage, *Result, error) {
	ds, err := data.Open(c.Data, c.Train.Seed)
	if err != nil {
		return nil, nil, exitcode.Wrap(exitcode.Usage, err)
	}
	samples, err := choose(ds, opt)
	if err != nil {
		return nil, nil, err
	}
	settings := c.Data.Augmentation()
	shape := augment.For(c.Preprocess, c.Train.Seed)
	a, err := augment.New(settings, shape)
	if err != nil {
		return nil, nil, exitcode.Wrap(exitcode.Usage, err)
	}
	epochs := opt.Epochs
	page := &report.SamplePage{Title: "Samples as the network sees them", Facts: facts(c, ds, opt)}
	if !settings.On() {
		epochs = 0
		page.Facts = append(page.Facts, "no augmentation: data.augment and data.flip change nothing")
	}
	p := &maker{c: c, ds: ds, a: a, epochs: epochs, array: report.Array{
		Channels: shape.Channels, Shape: shape.Shape, MM: shape.VoxelMM, Lo: shape.Lo, Hi: shape.Hi, Reversed: shape.Reversed,
	}}
	if p.array.MM == [3]float64{} {
		p.array.MM = [3]float64{1, 1, 1}
	}
	steps := bar.Start("preparing", int64(len(samples)))
	defer steps.Done()
	res := &Result{}
	for _, s := range samples {
		if err := ctx.Err(); err != nil {
			return nil, nil, err
		}
		shown, err := p.sample(s)
		if err != nil {
			return nil, nil, err
		}
		if len(shown.Views) == 0 {
			res.Failed = append(res.Failed, s.Name+": "+shown.Warnings[0])
		} else {
			res.Shown++
		}
		page.Samples = append(page.Samples, shown)
		steps.Add(1)
	}
	return page, res, nil
}

// choose returns the samples to show.
func choose(ds *data.Dataset, opt Options) ([]data.Sample, error) {
	all := ds.Subset(opt.Split)
	if len(all) == 0 {
		return nil, exitcode.Errorf(exitcode.NoInput, "there are no samples in the split %q", opt.Split)
	}
	var named []data.Sample
	for _, s := range all {
		if strings.Contains(s.Name, opt.Scan) {
			named = append(named, s)
		}
	}
	if len(named) == 0 {
		return nil, exitcode.Errorf(exitcode.NoInput, "none of the %d samples of the split %s has a name with %q", len(all), opt.Split, opt.Scan)
	}
	n := min(max(1, opt.Samples), len(named))
	var chosen []data.Sample
	for i := range n {
		chosen = append(chosen, named[i*len(named)/n])
	}
	return chosen, nil
}

func facts(c *config.Config, ds *data.Dataset, opt Options) []string {
	p := c.Preprocess
	list := []string{
		fmt.Sprintf("%d samples in the split %s of %s", len(ds.Subset(opt.Split)), opt.Split, c.Data.Table),
		fmt.Sprintf("input %d×%d×%d voxels, fit %s, spacing %s", p.ShapeDHW[0], p.ShapeDHW[1], p.ShapeDHW[2], p.Fit, spacing(p.SpacingMM)),
	}
	if p.Intensity == "window" {
		var windows []string
		for _, w := range p.Windows() {
			windows = append(windows, fmt.Sprintf("%g to %g HU", w[0], w[1]))
		}
		list = append(list, fmt.Sprintf("%s as %g to %g; a row of pictures for each window", strings.Join(windows, ", "), p.ScaleTo[0], p.ScaleTo[1]))
	}
	return append(list, "axial, coronal and sagittal slice through the middle; head on top, the patient's left on the right",
		fmt.Sprintf("the changes of an epoch are those that training with seed %d makes", c.Train.Seed))
}

func spacing(s config.Spacing) string {
	if s.Keep {
		return "as scanned"
	}
	return fmt.Sprintf("%g×%g×%g mm", s.MM[0], s.MM[1], s.MM[2])
}

// maker makes the samples of a page.
type maker struct {
	c      *config.Config
	ds     *data.Dataset
	a      *augment.Augmenter
	epochs int
	array  report.Array // but for its voxels
	space  augment.Workspace
}

func (p *maker) sample(s data.Sample) (report.Sample, error) {
	shown := report.Sample{Name: s.Name, Labels: labels(p.ds, s)}
	v, warnings, err := p.ds.OpenVolume(s)
	shown.Warnings = warnings
	var r preprocess.Result
	if err == nil {
		shown.Facts = []string{fmt.Sprintf("scan %d×%d×%d voxels of %.3g×%.3g×%.3g mm", v.Size[0], v.Size[1], v.Size[2], v.Spacing[0], v.Spacing[1], v.Spacing[2])}
		r, warnings, err = preprocess.Apply(v, p.c.Preprocess)
		shown.Warnings = append(shown.Warnings, warnings...)
	}
	if err != nil {
		shown.Warnings = append([]string{err.Error()}, shown.Warnings...)
		return shown, nil
	}
	add := func(caption string, changes []string, x []float32) error {
		array := p.array
		array.Voxels = x
		if array.Lo == array.Hi { // intensity raw
			array.Lo, array.Hi = extremes(r.Data)
		}
		view, err := report.NewView(caption, changes, array)
		shown.Views = append(shown.Views, view)
		return err
	}
	if err := add("prepared", nil, r.Data); err != nil {
		return shown, err
	}
	changed := make([]float32, len(r.Data))
	for epoch := range p.epochs {
		p.a.Apply(changed, r.Data, epoch, s.ID, &p.space)
		if err := add(fmt.Sprintf("epoch %d", epoch+1), p.a.Draw(epoch, s.ID).Describe(), changed); err != nil {
			return shown, err
		}
	}
	return shown, nil
}

func extremes(x []float32) (lo, hi float32) {
	lo, hi = x[0], x[0]
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}

// labels names what a sample has.
func labels(ds *data.Dataset, s data.Sample) []string {
	if ds.Task == data.Multiclass {
		if k := s.Target[0]; k >= 0 && int(k) < len(ds.Labels) {
			return []string{ds.Labels[int(k)]}
		}
		return nil
	}
	var list []string
	for i, v := range s.Target {
		if v == 1 {
			list = append(list, ds.Labels[i])
		}
	}
	return list
}
