// Package phantom makes synthetic chest CT scans with known findings, for demonstrations and tests.
//
// A phantom has the parts a network or a reader looks for: skin, fat, muscle, ribs, spine and
// sternum, lungs with branching vessels, airways, heart and great vessels, liver, spleen and
// stomach, the patient table and noise. Four findings are present or absent independently of one
// another. Size, proportions, position and densities vary between cases. Densities follow the usual
// ranges in Hounsfield units; shapes are simple solids, so a phantom looks like a chest but is no
// substitute for one: what a network learns here says nothing about patients.
//
// Everything is a function of the seed and the number of the case, whatever the number of workers.
package phantom

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/rng"
	"github.com/ctclass/ctclass/internal/volume"
)

// Finding is one of the findings a phantom may have.
type Finding int

// The findings, in the order of Labels.
const (
	Nodule        Finding = iota // two to five balls of 8 to 30 mm in the lungs, two of them at least 22 mm
	Effusion                     // fluid behind and below one lung or both
	Consolidation                // a dense patch of lung with air in its bronchi
	Calcification                // calcium in the walls of coronary arteries and aorta
	findingCount
)

// Findings returns the names of the findings, in order.
func Findings() []string {
	return []string{"nodule", "effusion", "consolidation", "calcification"}
}

// String returns the name of the finding.
func (f Finding) String() string {
	if f < 0 || f >= findingCount {
		return fmt.Sprintf("Finding(%d)", int(f))
	}
	return Findings()[f]
}

// Labels says which findings are present.
type Labels [findingCount]bool

// prevalence is the probability of each finding.
const prevalence = 0.4

// Box bounds one object of a finding in voxels: indices i with Min[axis] <= i < Max[axis] along d, h, w.
type Box struct {
	Finding  Finding
	Min, Max [3]int
}

// Options choose one phantom.
type Options struct {
	Seed uint64
	Case int // 0 or more

	Size      [3]int     // voxels along d, h, w; zero: 64, 96, 96
	SpacingMM [3]float64 // along d, h, w; zero: 5, 3.5, 3.5

	// Findings sets the findings; nil draws each with probability 0.4. Everything else about the
	// case stays the same.
	Findings *Labels
	// Nodules is how many nodules a case with nodules has; 0 draws two to five.
	Nodules int
}

// Case is a phantom with the truth about it.
type Case struct {
	// Volume is in LPS orientation; its HU are whole numbers from -1024 to 3071.
	Volume *volume.Volume
	Labels Labels
	Boxes  []Box // one for each nodule, side with an effusion, consolidation and calcium spot
}

// fieldMM is the least extent along d, h, w in which every organ that can carry a finding fits.
var fieldMM = [3]float64{240, 280, 320}

const (
	maxVoxels  = 1 << 30
	maxNodules = 20
)

// withDefaults returns the options with sizes filled in, or an error for options that cannot work.
func (o Options) withDefaults() (Options, error) {
	if o.Size == [3]int{} {
		o.Size = [3]int{64, 96, 96}
	}
	if o.SpacingMM == [3]float64{} {
		o.SpacingMM = [3]float64{5, 3.5, 3.5}
	}
	if o.Case < 0 {
		return o, fmt.Errorf("phantom: the case number is %d, expected 0 or more", o.Case)
	}
	if o.Nodules < 0 || o.Nodules > maxNodules {
		return o, fmt.Errorf("phantom: the number of nodules is %d, expected 1 to %d, or 0 to draw it", o.Nodules, maxNodules)
	}
	voxels := 1
	for _, n := range o.Size {
		if n < 1 || n > 4096 || voxels*n > maxVoxels {
			return o, fmt.Errorf("phantom: the size %v is not possible, expected 1 to 4096 voxels an axis and at most 2^30 in all", o.Size)
		}
		voxels *= n
	}
	for axis, n := range o.Size {
		s := o.SpacingMM[axis]
		if !(s > 0) || float64(n)*s < fieldMM[axis] || float64(n)*s > 10000 {
			return o, fmt.Errorf("phantom: %d voxels of %v mm along %c are no chest, expected %v mm to 10 m in all", n, s, "dhw"[axis], fieldMM[axis])
		}
		if s > 15 {
			return o, fmt.Errorf("phantom: the spacing is %v mm along %c, above 15 mm findings would vanish", s, "dhw"[axis])
		}
	}
	return o, nil
}

// streamOf returns the stream of random numbers of a case for one purpose.
func streamOf(purpose string, seed uint64, number int) *rng.Stream {
	s := rng.New(rng.Key(seed, "phantom "+purpose, uint64(number)))
	return &s
}

// drawLabels draws the findings of a case, each by itself.
func drawLabels(seed uint64, number int) Labels {
	var out Labels
	s := streamOf("labels", seed, number)
	for f := range out {
		out[f] = s.Float64() < prevalence
	}
	return out
}

// Generate makes one phantom. It fails for a size in voxels and spacing that does not cover a chest
// (240 x 280 x 320 mm along d, h, w) or is too coarse to show findings.
func Generate(opt Options) (*Case, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return nil, err
	}
	number := uint64(opt.Case)
	stream := func(purpose string) *rng.Stream { return streamOf(purpose, opt.Seed, opt.Case) }
	out := &Case{Labels: drawLabels(opt.Seed, opt.Case)}
	if opt.Findings != nil {
		out.Labels = *opt.Findings
	}

	p := newPatient(stream("patient"))
	c := newCanvas(opt.Size, opt.SpacingMM, p.centre)
	p.paintBody(c, rng.Key(opt.Seed, "phantom texture", number))
	p.paintAbdomen(c)
	p.paintMediastinum(c)
	p.paintBones(c)
	p.paintVessels(c, stream("vessels"))
	// Fluid first, then what lies in the lung that is left; each has its own stream, so that one
	// finding does not change the draws of another.
	paint := [findingCount]func(*canvas, *rng.Stream) []Box{
		Nodule: func(c *canvas, s *rng.Stream) []Box { return p.paintNodules(c, s, opt.Nodules) }, Effusion: p.paintEffusion, Consolidation: p.paintConsolidation, Calcification: p.paintCalcification,
	}
	for _, f := range []Finding{Effusion, Consolidation, Nodule, Calcification} {
		if !out.Labels[f] {
			continue
		}
		for _, b := range paint[f](c, stream(f.String())) {
			b.Finding = f
			out.Boxes = append(out.Boxes, b)
		}
	}
	p.paintTable(c)
	c.finish(rng.Key(opt.Seed, "phantom noise", number), p.noise)

	out.Volume = &volume.Volume{Size: opt.Size, HU: c.hu, Spacing: opt.SpacingMM}
	for axis, column := range [3]int{2, 1, 0} { // d, h, w move along z, y, x
		n, s := float64(opt.Size[axis]), opt.SpacingMM[axis]
		out.Volume.Affine[column][2-axis] = s
		// Whole half millimetres survive the decimal strings of DICOM unchanged.
		out.Volume.Affine[column][3] = math.Round(2*(p.isocentre[column]-(n-1)/2*s)) / 2
	}
	out.Volume.Affine[3][3] = 1
	return out, nil
}
