package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/data/preprocess"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/rng"
)

const (
	cropShare  = 0.02 // of the body outside the input from which a scan counts as cropped
	clipShare  = 0.99 // of the voxels beyond the window from which a scan counts as erased
	readersMax = 4    // volumes in memory at a time
)

// scanFacts is what one scan told.
type scanFacts struct {
	sample   data.Sample
	err      error
	warnings []string
	content  [sha256.Size]byte
	seconds  float64 // reading and preprocessing
	cut      cut
	body     bool
	constant bool    // all values of the input are the same
	clipped  float64 // share of the voxels beyond the window
	voxels   int     // as stored
}

// ScanTimes says how long reading takes.
type ScanTimes struct {
	Seconds   float64 // mean of a scan, reading and preprocessing by one worker
	MaxVoxels int     // of the largest scan that was read
}

// Choose returns n samples spread over the splits, or all when n is 0 or more than there are. The choice depends on
// the seed and the samples' names.
func Choose(ds *data.Dataset, n int, seed uint64) []data.Sample {
	if n <= 0 || n >= len(ds.Samples) {
		return ds.Samples
	}
	key := rng.Key(seed, "doctor")
	var queues [][]data.Sample
	for _, split := range splits() {
		if q := ds.Subset(split); len(q) > 0 {
			slices.SortFunc(q, func(a, b data.Sample) int {
				x, y := rng.At(key, a.ID), rng.At(key, b.ID)
				if x < y {
					return -1
				}
				return 1
			})
			queues = append(queues, q)
		}
	}
	var list []data.Sample
	for i := 0; len(list) < n; i++ {
		q := &queues[i%len(queues)]
		if len(*q) > 0 {
			list = append(list, (*q)[0])
			*q = (*q)[1:]
		}
	}
	return list
}

// Scans reads the given samples as training would, and judges what it sees. workers bounds how many are read at a
// time; after is called once for each.
func (r *Report) Scans(ctx context.Context, c *config.Config, ds *data.Dataset, samples []data.Sample, workers int, after func(int)) (ScanTimes, error) {
	facts := make([]scanFacts, len(samples))
	jobs := make(chan int)
	var group sync.WaitGroup
	for range max(1, min(workers, readersMax)) {
		group.Go(func() {
			for i := range jobs {
				facts[i] = look(c, ds, samples[i])
				after(1)
			}
		})
	}
	for i := range samples {
		if ctx.Err() != nil {
			break
		}
		jobs <- i
	}
	close(jobs)
	group.Wait()
	if err := ctx.Err(); err != nil {
		return ScanTimes{}, err
	}
	r.Examined = len(samples)
	return r.judgeScans(c, facts), nil
}

// look reads one scan.
func look(c *config.Config, ds *data.Dataset, s data.Sample) scanFacts {
	f := scanFacts{sample: s}
	start := time.Now()
	v, warnings, err := ds.OpenVolume(s)
	if err != nil {
		f.err = err
		return f
	}
	f.warnings, f.voxels = warnings, v.Voxels()
	hu := scan.ExpectsHU(c.Preprocess)
	if hu {
		more := scan.CheckHU(v)
		f.warnings = append(f.warnings, more...)
		hu = len(more) == 0
	}
	res, warnings, err := preprocess.Apply(v, c.Preprocess)
	f.seconds = time.Since(start).Seconds()
	if err != nil {
		f.err = err
		return f
	}
	f.warnings = append(f.warnings, warnings...)
	if c.Data.Strict && len(f.warnings) > 0 {
		f.err = fmt.Errorf("it has warnings, and data.strict is on: %s", strings.Join(f.warnings, "; "))
	}
	values := spreadOf(res.Data)
	f.constant = values.low == values.high
	if c.Preprocess.Intensity == "window" {
		beyond := 0
		windows := c.Preprocess.Windows()
		for _, x := range v.HU {
			if !slices.ContainsFunc(windows, func(w [2]float64) bool { return float64(x) >= w[0] && float64(x) <= w[1] }) {
				beyond++
			}
		}
		f.clipped = float64(beyond) / float64(len(v.HU))
	}
	if hu {
		f.cut, f.body = cropped(v, res)
	}
	f.content = contentOf(v.Size, v.HU)
	return f
}

// contentOf hashes the voxels of a volume.
func contentOf(size [3]int, hu []float32) [sha256.Size]byte {
	h := sha256.New()
	buf := make([]byte, 0, 4<<14)
	for _, n := range size {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(n))
	}
	for _, x := range hu {
		if len(buf)+4 > cap(buf) {
			h.Write(buf)
			buf = buf[:0]
		}
		buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(x))
	}
	h.Write(buf)
	return [sha256.Size]byte(h.Sum(nil))
}

// judgeScans turns facts into findings.
func (r *Report) judgeScans(c *config.Config, facts []scanFacts) ScanTimes {
	var times ScanTimes
	same := contents{}
	var failed, reasons, constant, clipped, cropped []string
	kinds := map[string][]string{} // warnings by what they have in common
	texts := map[string]string{}
	read, worst := 0, cut{}
	for _, f := range facts {
		name := f.sample.Name
		if f.err != nil {
			failed, reasons = append(failed, name), append(reasons, f.err.Error())
			continue
		}
		read++
		times.Seconds += f.seconds
		times.MaxVoxels = max(times.MaxVoxels, f.voxels)
		same[f.content] = append(same[f.content], f.sample)
		for _, w := range f.warnings {
			kind := data.WarningKind(w)
			if _, ok := texts[kind]; !ok {
				texts[kind] = w
			}
			kinds[kind] = append(kinds[kind], name)
		}
		switch {
		case f.constant:
			constant = append(constant, name)
		case f.clipped >= clipShare:
			clipped = append(clipped, name)
		}
		if f.body && f.cut.share >= cropShare {
			cropped = append(cropped, name)
			if f.cut.share > worst.share {
				worst = f.cut
			}
		}
	}
	times.Seconds /= float64(max(1, read))
	if len(failed) > 0 {
		severity := Error
		if c.Data.OnError == "skip" && read > 0 {
			severity = Warning // they will be left out
		}
		r.add(severity, CheckScans, failed, "%s of %d cannot be used (%s)", english.Plural(len(failed), "scan", ""), len(facts), reasons[0])
	}
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		r.add(Warning, CheckScans, kinds[kind], "%s: %s", english.Plural(len(kinds[kind]), "scan", ""), texts[kind])
	}
	window := fmt.Sprintf("preprocess.hu_window [%g, %g]", c.Preprocess.HUWindow[0], c.Preprocess.HUWindow[1])
	if len(c.Preprocess.HUWindows) > 0 {
		window = fmt.Sprintf("all of preprocess.hu_windows %v", c.Preprocess.HUWindows)
	}
	if len(constant) > 0 {
		severity := Warning
		if len(constant) == read {
			severity = Error
		}
		r.add(severity, CheckIntensity, constant, "%s of %d all of one value in the network's input: %s shows nothing of them", english.Plural(len(constant), "scan", ""), read, window)
	}
	if len(clipped) > 0 {
		r.add(Warning, CheckIntensity, clipped, "%s of %d with %.0f%% or more of the voxels beyond %s", english.Plural(len(clipped), "scan", ""), read, 100*clipShare, window)
	}
	if len(cropped) > 0 {
		r.add(Warning, CheckCrop, cropped, "%s of %d with parts of the body outside the network's input, up to %.0f%% of it and %.0f, %.0f, %.0f mm along d, h, w: enlarge preprocess.shape_dhw or spacing_mm, or use fit: resize",
			english.Plural(len(cropped), "scan", ""), read, 100*worst.share, worst.mm[0], worst.mm[1], worst.mm[2])
	}
	r.duplicates(same, "their voxels are the same")
	return times
}
