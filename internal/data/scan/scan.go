// Package scan turns any path into CT volumes: a NIfTI file, a DICOM file, or a folder tree that holds
// DICOM series or NIfTI files among other things.
//
// Find lists what a path holds, Choose picks one candidate and says why, Open reads it; Load does all three.
// Expand says which scans a path given to a command consists of.
package scan

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ctclass/ctclass/internal/data/dicom"
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// Candidate is one volume that a path holds: a NIfTI file or a DICOM series.
type Candidate struct {
	// Path is the NIfTI file, or the folder of the series' first slice (the file itself if that is all).
	Path   string
	Format string // "dicom" or "nifti"

	// Facts of a DICOM series; empty for NIfTI.
	StudyUID, SeriesUID string
	SeriesNumber        int
	Acquisition         int // acquisition number of the first slice
	Description         string
	Modality            string
	ImageType           string // values joined by \
	Kernel              string // convolution kernel
	TransferSyntax      string // plain name
	SliceThickness      float64
	Derived             bool // not an original, primary image
	Size                [3]int
	Spacing             [3]float64 // mm along d, h, w, as stored
	Orientation         string     // see package volume
	Warnings            []string   // known before the voxels are read
	Err                 error      // why it cannot be read; nil when it can
	series              *dicom.Series
	axial               bool
}

// Skipped is a file that is part of no candidate.
type Skipped struct {
	Path   string
	Reason string
	// Damaged is set when the file is meant to be DICOM or NIfTI but cannot be read: a slice may be missing.
	Damaged bool
}

// Find lists the volumes below path and the files that are part of none, each with the reason. Links are
// followed, each folder is visited once. The error is only for a path that cannot be looked at; one that
// holds nothing gives no candidates.
func Find(path string) ([]Candidate, []Skipped, error) {
	info, err := stat(path)
	if err != nil {
		return nil, nil, err
	}
	var files []string
	var skipped []Skipped
	if info.IsDir() {
		files, skipped, err = walk(path)
		if err != nil {
			return nil, nil, err
		}
	} else {
		files = []string{path}
	}
	found := make([]finding, len(files))
	each(len(files), func(i int) { found[i] = inspect(files[i]) })

	var candidates []Candidate
	var headers []dicom.Header
	for i := range found {
		f := &found[i]
		switch {
		case f.header != nil:
			headers = append(headers, *f.header)
		case f.nifti != nil:
			candidates = append(candidates, niftiCandidate(files[i], f.nifti))
		case f.skip.Reason != "":
			f.skip.Path = files[i]
			skipped = append(skipped, f.skip)
		}
	}
	series, rejected := dicom.Group(headers)
	for _, r := range rejected {
		skipped = append(skipped, Skipped{Path: r.Path, Reason: r.Reason})
	}
	for i := range series {
		candidates = append(candidates, dicomCandidate(&series[i]))
	}
	return candidates, skipped, nil
}

// finding is what one file is: a DICOM header, a NIfTI header, or neither with the reason. A file that
// belongs to another one (the .img of a pair) is nothing at all.
type finding struct {
	header *dicom.Header
	nifti  *nifti.Info
	skip   Skipped
}

// inspect finds out what a file is, by its content first.
func inspect(path string) finding {
	k, err := sniff(path)
	if err != nil {
		return damaged(path, err)
	}
	switch k {
	case kindPart:
		return finding{}
	case kindArchive:
		return finding{skip: Skipped{Reason: "an archive is not looked into: unpack it"}}
	case kindNIfTI:
		info, err := nifti.Header(path)
		if err != nil {
			return damaged(path, err)
		}
		return finding{nifti: &info}
	}
	h, err := dicom.ReadHeader(path)
	if errors.Is(err, dicom.ErrNotDICOM) {
		return finding{skip: Skipped{Reason: "neither DICOM nor NIfTI"}}
	}
	if err != nil {
		return damaged(path, err)
	}
	return finding{header: &h}
}

// damaged is the finding for a file that cannot be read. Skipped names the file, the reason need not.
func damaged(path string, err error) finding {
	_, reason, found := strings.Cut(err.Error(), path+": ")
	if !found {
		reason = err.Error()
	}
	return finding{skip: Skipped{Reason: reason, Damaged: true}}
}

func niftiCandidate(path string, info *nifti.Info) Candidate {
	c := Candidate{
		Path: path, Format: "nifti", Size: info.Shape, Spacing: info.Spacing, Orientation: info.Orientation,
		Warnings: info.Warnings, axial: len(info.Orientation) == 3 && strings.Contains("SI", info.Orientation[2:]),
	}
	if info.Volumes != 1 {
		c.Err = fmt.Errorf("%s: %d volumes in one file (4D) are not supported: split it into single volumes", path, info.Volumes)
	}
	return c
}

func dicomCandidate(s *dicom.Series) Candidate {
	h := &s.Slices[0]
	c := Candidate{
		Path: h.Path, Format: "dicom", StudyUID: h.StudyUID, SeriesUID: h.SeriesUID,
		SeriesNumber: h.SeriesNumber, Acquisition: h.AcquisitionNumber, Description: h.SeriesDescription,
		Modality: h.Modality, ImageType: strings.Join(h.ImageType, `\`), Kernel: h.Kernel,
		TransferSyntax: dicom.SyntaxName(s.TransferSyntax()), SliceThickness: h.SliceThickness, Derived: h.Derived(),
		Size: s.Size(), Spacing: volume.SpacingOf(s.Affine()), Orientation: volume.OrientationOf(s.Affine()),
		Warnings: s.Warnings, Err: s.Err, series: s, axial: s.Axial(),
	}
	if len(s.Slices) > 1 {
		c.Path = filepath.Dir(h.Path)
	}
	return c
}

// Name names a candidate in messages: by path, or by series number and UID.
func (c *Candidate) Name() string {
	if c.Format == "nifti" {
		return c.Path
	}
	return fmt.Sprintf("series %d (%s)", c.SeriesNumber, c.SeriesUID)
}

// Open reads a candidate's volume and returns it with all warnings, those of Candidate included. With
// asStored it is the plain rescaled stack without geometric corrections, padding and plausibility checks.
func Open(c Candidate, asStored bool) (*volume.Volume, []string, error) {
	if c.Err != nil {
		return nil, nil, c.Err
	}
	var v *volume.Volume
	var warnings []string
	var err error
	if c.Format == "nifti" {
		v, warnings, err = nifti.Read(c.Path)
	} else {
		v, warnings, err = c.series.Read(asStored)
	}
	if err != nil {
		return nil, nil, err
	}
	if !asStored && (c.Format == "nifti" || c.Modality == "CT") {
		warnings = append(warnings, CheckHU(v)...)
	}
	return v, warnings, nil
}

// Info says what Load read and why.
type Info struct {
	SeriesUID   string // "" for NIfTI
	Description string
	Why         string
	Warnings    []string
	Candidate   Candidate // the chosen one
}

// Load reads the scan at path: the volume that the default rule of Choose picks.
func Load(path string) (*volume.Volume, Info, error) { return LoadSeries(path, Selection{}) }

// LoadSeries reads the selected volume at path. Every error names the path.
func LoadSeries(path string, sel Selection) (*volume.Volume, Info, error) {
	candidates, skipped, err := Find(path)
	if err != nil {
		return nil, Info{}, err
	}
	if len(candidates) == 0 {
		return nil, Info{}, nothingFound(path, skipped)
	}
	c, why, err := Choose(candidates, sel)
	if err != nil {
		return nil, Info{}, fmt.Errorf("%s: %w", path, err)
	}
	info := Info{SeriesUID: c.SeriesUID, Description: c.Description, Why: why, Candidate: c}
	v, warnings, err := Open(c, false)
	if err != nil {
		if len(candidates) > 1 {
			err = fmt.Errorf("the chosen %s: %w", c.Name(), err)
		}
		return nil, info, fmt.Errorf("%s: %w", path, err)
	}
	info.Warnings = append(warnings, pathWarnings(candidates, skipped)...)
	return v, info, nil
}

// pathWarnings says what about the whole path may have led to a wrong or incomplete choice.
func pathWarnings(candidates []Candidate, skipped []Skipped) []string {
	var warnings []string
	studies := make(map[string]bool)
	for i := range candidates {
		if candidates[i].StudyUID != "" {
			studies[candidates[i].StudyUID] = true
		}
	}
	if len(studies) > 1 {
		warnings = append(warnings, fmt.Sprintf("the path holds %d studies; one series of one of them is used", len(studies)))
	}
	count, first := 0, ""
	for _, s := range skipped {
		if s.Damaged {
			if count == 0 {
				first = filepath.Base(s.Path) + ": " + s.Reason
			}
			count++
		}
	}
	if count > 0 {
		warnings = append(warnings, fmt.Sprintf("damaged files are left out (%d); the first is %s", count, first))
	}
	return warnings
}

// nothingFound is the error for a path without candidates; it gives the reason that most files share.
func nothingFound(path string, skipped []Skipped) error {
	if len(skipped) == 0 {
		return fmt.Errorf("%s: holds no files", path)
	}
	if len(skipped) == 1 {
		return fmt.Errorf("%s: no CT volume found: %s: %s", path, filepath.Base(skipped[0].Path), skipped[0].Reason)
	}
	count := make(map[string]int)
	best := skipped[0].Reason
	for _, s := range skipped {
		if count[s.Reason]++; count[s.Reason] > count[best] {
			best = s.Reason
		}
	}
	return fmt.Errorf("%s: no CT volume found in %d files (%d of them: %s)", path, len(skipped), count[best], best)
}

// each calls f for 0..n-1 on GOMAXPROCS goroutines.
func each(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}
