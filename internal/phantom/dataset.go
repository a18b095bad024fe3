package phantom

import (
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/rng"
)

// Format is how the volumes of a data set are stored.
type Format string

// The formats of WriteDataset.
const (
	DICOM Format = "dicom" // a folder with a series for each case
	NIfTI Format = "nifti" // a .nii.gz file for each case
)

// DatasetOptions describe a set of phantoms.
type DatasetOptions struct {
	Seed      uint64
	Cases     int
	Format    Format
	Size      [3]int         // as in Options
	SpacingMM [3]float64     // as in Options
	Nodules   int            // as in Options
	Workers   int            // cases made at the same time; 0: as many as processors
	Progress  func(done int) // called after each case with the number done, never twice at once; may be nil
}

// WriteDataset fills the folder dir with phantoms, numbered from 0, and then writes boxes.csv, which
// says where the findings are, and labels.csv with the columns path (relative to dir), patient, split and one for each finding. Each case is a patient
// of its own; three fifths of the cases, chosen by the seed, are for training, one fifth each for
// validation and test. The files depend on the options alone, not on the number of workers. When ctx
// ends, or a case fails, the cases under way are finished and no table is written.
func WriteDataset(ctx context.Context, dir string, opt DatasetOptions) error {
	if opt.Cases < 1 || opt.Cases > 99999 {
		return fmt.Errorf("phantom: the number of cases is %d, expected 1 to 99999", opt.Cases)
	}
	if opt.Format != DICOM && opt.Format != NIfTI {
		return fmt.Errorf("phantom: the format is %q, expected %s or %s", opt.Format, DICOM, NIfTI)
	}
	if _, err := (Options{Size: opt.Size, SpacingMM: opt.SpacingMM, Nodules: opt.Nodules}).withDefaults(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("phantom: %w", err)
	}
	labels := make([]Labels, opt.Cases)
	boxes := make([][]Box, opt.Cases)
	err := eachCase(ctx, opt.Cases, opt.Workers, opt.Progress, func(number int) error {
		c, err := Generate(Options{Seed: opt.Seed, Case: number, Size: opt.Size, SpacingMM: opt.SpacingMM, Nodules: opt.Nodules})
		if err != nil {
			return err
		}
		labels[number], boxes[number] = c.Labels, c.Boxes
		path := filepath.Join(dir, casePath(number, opt.Format))
		if opt.Format == NIfTI {
			return nifti.Write(path, c.Volume, nifti.Int16)
		}
		return WriteDICOM(path, c.Volume, SeriesInfo{Seed: opt.Seed, Case: number, PatientID: patientID(number)})
	})
	if err != nil {
		return err
	}
	if err := writeBoxes(filepath.Join(dir, "boxes.csv"), boxes, opt.Format); err != nil {
		return err
	}
	split := splits(opt.Seed, opt.Cases)
	return atomicfile.Write(filepath.Join(dir, "labels.csv"), func(w io.Writer) error {
		table := csv.NewWriter(w)
		if err := table.Write(append([]string{"path", "patient", "split"}, Findings()...)); err != nil {
			return err
		}
		for number, present := range labels {
			row := []string{casePath(number, opt.Format), patientID(number), split[number]}
			for _, p := range present {
				row = append(row, map[bool]string{false: "0", true: "1"}[p])
			}
			if err := table.Write(row); err != nil {
				return err
			}
		}
		table.Flush()
		return table.Error()
	})
}

// writeBoxes writes where the findings are, a row for each box: voxels from the first to the one before the end, in
// slices, rows and columns counted from 0 from the feet, the front and the right.
func writeBoxes(path string, boxes [][]Box, format Format) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		table := csv.NewWriter(w)
		lines := [][]string{{"path", "finding", "d_from", "h_from", "w_from", "d_end", "h_end", "w_end"}}
		for number := range boxes {
			for _, b := range boxes[number] {
				line := []string{casePath(number, format), b.Finding.String()}
				for _, x := range append(b.Min[:], b.Max[:]...) {
					line = append(line, strconv.Itoa(x))
				}
				lines = append(lines, line)
			}
		}
		return table.WriteAll(lines)
	})
}

func patientID(number int) string { return fmt.Sprintf("P%05d", number) }

// casePath returns the path of a case relative to the folder of the data set.
func casePath(number int, format Format) string {
	name := fmt.Sprintf("case_%05d", number)
	if format == NIfTI {
		return name + ".nii.gz"
	}
	return name
}

// splits assigns the cases to train, val and test.
func splits(seed uint64, cases int) []string {
	order := rng.New(rng.Key(seed, "phantom split"))
	out := make([]string, cases)
	for place, number := range order.Perm(cases) {
		switch {
		case place < cases/5:
			out[number] = "test"
		case place < 2*(cases/5):
			out[number] = "val"
		default:
			out[number] = "train"
		}
	}
	return out
}

// eachCase calls do for 0..cases-1 on several goroutines and returns the error of the lowest case
// that failed, or that of ctx.
func eachCase(ctx context.Context, cases, workers int, progress func(int), do func(int) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		group  sync.WaitGroup
		lock   sync.Mutex
		next   int
		done   int
		failed = cases
		result error
	)
	// take returns the next case; numbers are given out in order.
	take := func() (int, bool) {
		lock.Lock()
		defer lock.Unlock()
		if next == cases || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	report := func(number int, err error) {
		lock.Lock()
		defer lock.Unlock()
		if err != nil {
			stop()
			if number < failed {
				failed, result = number, fmt.Errorf("case %d: %w", number, err)
			}
			return
		}
		done++
		if progress != nil {
			progress(done)
		}
	}
	for range min(workers, cases) {
		group.Go(func() {
			for {
				number, ok := take()
				if !ok {
					return
				}
				report(number, do(number))
			}
		})
	}
	group.Wait()
	if result == nil && done < cases {
		return fmt.Errorf("phantom: stopped after %d of %d cases: %w", done, cases, context.Cause(ctx))
	}
	return result
}
