package train

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine/cpu"
	"github.com/ctclass/ctclass/internal/kernels"
	"github.com/ctclass/ctclass/internal/kerneltable"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/session"
)

// KernelsFile is the table of kernels in the folder of a run that has one.
const KernelsFile = "kernels.json"

// OpenDevice returns the device with the kernels that train.kernels names, in the precision of train.precision.
func OpenDevice(c *config.Config, threads int) (*cpu.Device, error) {
	t, err := kerneltable.Open(c.Train.Kernels, kernels.Best())
	if err != nil {
		return nil, err
	}
	return device(c, threads, t), nil
}

// openDevice is OpenDevice, and takes for a run that goes on the kernels that it began with.
func (r *run) openDevice() (*cpu.Device, error) {
	table, err := r.kernelTable()
	if err != nil {
		return nil, err
	}
	r.kernels = table
	return device(r.cfg, r.threads(), table), nil
}

func device(c *config.Config, threads int, t *kerneltable.Table) *cpu.Device {
	return cpu.NewWith(threads, cpu.Options{Tuning: t.Tuning(), Half: c.Train.Precision == config.BF16})
}

func (r *run) kernelTable() (*kerneltable.Table, error) {
	_, err := os.Stat(filepath.Join(r.Dir, stateFile))
	if !r.Resume || err != nil {
		return kerneltable.Open(r.cfg.Train.Kernels, kernels.Best())
	}
	table, err := kerneltable.Read(filepath.Join(r.Dir, KernelsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return table, err
}

// recordKernels puts the table of kernels into the run folder.
func (r *run) recordKernels() error {
	path := filepath.Join(r.Dir, KernelsFile)
	if r.kernels != nil {
		return r.kernels.Write(path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// KernelTimes are the measured times of a pass of a convolution in milliseconds, by algorithm.
type KernelTimes struct {
	Convolution string                        `json:"convolution"`
	Pass        string                        `json:"pass"`
	Usual       kernels.Algorithm             `json:"default"`
	Chosen      kernels.Algorithm             `json:"chosen"`
	MS          map[kernels.Algorithm]float64 `json:"ms"`
}

// measuredBytes is about how much memory the maps of a measured convolution may take: of large ones fewer samples
// are measured than a batch has.
const measuredBytes = 256 << 20

// TuneKernels measures for every convolution of the training that c describes which of the numerically close
// algorithms is the fastest, and puts them into the table. What has one algorithm only is not measured.
func TuneKernels(ctx context.Context, c *config.Config, rounds int, table *kerneltable.Table, report *progress.Reporter) ([]KernelTimes, error) {
	net, loss, err := parts(c)
	if err != nil {
		return nil, err
	}
	dev := cpu.New(Threads(c.Train.Threads))
	defer dev.Close()
	plan, err := session.Compile(dev, session.Options{
		Network: net, ShapeDHW: c.Preprocess.ShapeDHW, EvalBatch: EvalBatch(c),
		Training: &session.Training{Loss: loss, BatchSizes: []int{c.Train.BatchSize}, Optimizer: optimizer(c.Train, net)},
	})
	if err != nil {
		return nil, err
	}
	uses := cpu.Convolutions(plan.Programs()...)
	bar := report.Start("measuring", int64(len(uses)))
	defer bar.Done()
	m := dev.Machine()
	var times []KernelTimes
	for _, u := range uses {
		choice := kernels.DefaultChoice(u.Spec, m.ISA)
		n := max(1, min(u.Samples, measuredBytes/u.Spec.MapBytes(1)))
		measured := false
		for pass, made := range u.Passes {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if !made || len(kernels.Candidates(u.Spec, pass)) < 2 {
				continue
			}
			t := m.MeasureConv(u.Spec, n, pass, rounds)
			row := KernelTimes{
				Convolution: u.Spec.Key(), Pass: kernels.PassName(pass), Usual: choice[pass], Chosen: t.Best(choice[pass]),
				MS: map[kernels.Algorithm]float64{},
			}
			for i, a := range t.Candidates {
				row.MS[a] = float64(t.Took[i].Nanoseconds()) / 1e6
			}
			choice[pass] = row.Chosen
			measured = true
			times = append(times, row)
		}
		if measured {
			table.Convolutions[u.Spec.Key()] = choice
		}
		bar.Add(1)
	}
	return times, nil
}
