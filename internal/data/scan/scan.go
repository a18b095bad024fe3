// Package scan turns any path into CT volumes: a NIfTI file, a DICOM file, a folder tree that holds DICOM
// series or NIfTI files among other things, a zip or tar archive of such a tree, or a DICOMDIR.
//
// Find lists what a path holds, Contents.Select picks volumes and says why, Contents.Load reads one; Load does
// all three for one volume. Expand says which scans a path given to a command consists of.
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
	"github.com/ctclass/ctclass/internal/data/files"
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
	Phase               int // temporal position, 0 when not given
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
	Patient             uint64     // tells patients apart, see dicom.Header; 0 when the files name none
	Err                 error      // why it cannot be read; nil when it can
	series              *dicom.Series
	files               files.Files // where a NIfTI file lies
	axial               bool
}

// Skipped is a file that is part of no candidate.
type Skipped struct {
	Path   string
	Reason string
	// Damaged is set when the file is meant to be DICOM or NIfTI but cannot be read: a slice may be missing.
	Damaged bool
	// Archive is set for an archive among the files of a folder, which is not looked into.
	Archive bool
}

// Contents is what a path holds. Close it when no more volumes are read from it.
type Contents struct {
	Path       string
	Candidates []Candidate
	Skipped    []Skipped
	// Warnings say what about the path as a whole may have led to an incomplete or wrong volume.
	Warnings []string

	archive *files.Archive // nil for a path that is none
}

// Close closes the archive that the volumes lie in, if they do.
func (c *Contents) Close() error {
	if c.archive == nil {
		return nil
	}
	return c.archive.Close()
}

// Find lists the volumes below path and the files that are part of none, each with the reason. Links are
// followed, each folder is visited once. Of a DICOMDIR it lists the files that this names, and when none of
// them is there all files of its folder; a folder that holds a DICOMDIR is listed as any other, with a warning
// about files that the DICOMDIR names and that are not there. The error is only for a path that cannot be
// looked at; one that holds nothing gives no candidates.
func Find(path string) (*Contents, error) {
	c := &Contents{Path: path}
	in, paths, err := c.list()
	if err != nil {
		c.Close()
		return nil, err
	}
	for _, d := range c.gather(in, paths, each) {
		c.checkDirectory(in, d, paths)
	}
	c.warnOfStudies()
	c.warnOfDamage()
	return c, nil
}

// FindFiles is Find for some files of the disk, which are taken for all that path holds. Neither other folders nor
// what a DICOMDIR names are looked at, and nothing is said about the files as a whole. run calls a function for 0 to
// n-1, in any order and any number at a time.
func FindFiles(path string, paths []string, run func(n int, f func(i int))) *Contents {
	c := &Contents{Path: path}
	c.gather(files.Disk{}, paths, run)
	return c
}

// gather sorts files into candidates and skipped ones, and returns the DICOMDIRs among them.
func (c *Contents) gather(in files.Files, paths []string, run func(n int, f func(i int))) (directories []string) {
	found := make([]finding, len(paths))
	run(len(paths), func(i int) { found[i] = inspect(in, paths[i]) })

	var headers []dicom.Header
	for i := range found {
		f := &found[i]
		switch {
		case f.header != nil && f.header.SOPClassUID == classDirectory:
			directories = append(directories, paths[i])
			c.skip(Skipped{Path: paths[i], Reason: "a DICOMDIR, the index of its folder"})
		case f.header != nil:
			headers = append(headers, *f.header)
		case f.nifti != nil:
			c.Candidates = append(c.Candidates, niftiCandidate(in, paths[i], f.nifti))
		case f.skip.Reason != "":
			f.skip.Path = paths[i]
			c.skip(f.skip)
		}
	}
	series, rejected := dicom.Group(headers)
	for _, r := range rejected {
		c.skip(Skipped{Path: r.Path, Reason: r.Reason})
	}
	for i := range series {
		c.Candidates = append(c.Candidates, dicomCandidate(&series[i]))
	}
	return directories
}

func (c *Contents) skip(s Skipped) { c.Skipped = append(c.Skipped, s) }

func (c *Contents) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}

// list returns the files that the path consists of and what opens them.
func (c *Contents) list() (files.Files, []string, error) {
	info, err := stat(c.Path)
	if err != nil {
		return nil, nil, err
	}
	disk := files.Disk{}
	if info.IsDir() {
		paths, skipped, err := walk(c.Path)
		c.Skipped = skipped
		return disk, paths, err
	}
	switch k, err := sniff(disk, c.Path); {
	case err != nil:
	case k == kindArchive:
		if c.archive, err = files.OpenArchive(c.Path); err != nil {
			return nil, nil, err
		}
		for _, l := range c.archive.Left() {
			c.skip(Skipped{Path: l.Path, Reason: l.Reason, Damaged: true})
		}
		return c.archive, c.archive.Paths(), nil
	case k == kindDICOM:
		h, err := dicom.ReadHeader(c.Path)
		if h.SOPClassUID == classDirectory || err != nil && strings.EqualFold(filepath.Base(c.Path), "DICOMDIR") {
			paths, err := c.listed()
			return disk, paths, err
		}
	}
	return disk, []string{c.Path}, nil
}

// finding is what one file is: a DICOM header, a NIfTI header, or neither with the reason. A file that
// belongs to another one (the .img of a pair) is nothing at all.
type finding struct {
	header *dicom.Header
	nifti  *nifti.Info
	skip   Skipped
}

// guard makes an error of a fault of ctclass in reading path: it costs this file or volume only. It is to be deferred.
func guard(path string, err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%s: internal error while reading: %v", path, p)
	}
}

// inspect finds out what a file is, by its content first.
func inspect(in files.Files, path string) (f finding) {
	var fault error
	defer func() {
		if fault != nil {
			f = damaged(path, fault)
		}
	}()
	defer guard(path, &fault)

	k, err := sniff(in, path)
	if err != nil {
		return damaged(path, err)
	}
	switch k {
	case kindPart:
		return finding{}
	case kindArchive:
		return finding{skip: Skipped{Reason: "an archive is only looked into when it is the path itself", Archive: true}}
	case kindNIfTI:
		info, err := nifti.HeaderIn(in, path)
		if err != nil {
			return damaged(path, err)
		}
		return finding{nifti: &info}
	}
	h, err := dicom.ReadHeaderIn(in, path)
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

func niftiCandidate(in files.Files, path string, info *nifti.Info) Candidate {
	c := Candidate{
		Path: path, Format: "nifti", files: in, Size: info.Shape, Spacing: info.Spacing, Orientation: info.Orientation,
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
		SeriesNumber: h.SeriesNumber, Acquisition: h.AcquisitionNumber, Phase: h.TemporalPosition, Description: h.SeriesDescription,
		Modality: h.Modality, ImageType: strings.Join(h.ImageType, `\`), Kernel: h.Kernel,
		TransferSyntax: dicom.SyntaxName(s.TransferSyntax()), SliceThickness: h.SliceThickness, Derived: h.Derived(),
		Size: s.Size(), Spacing: volume.SpacingOf(s.Affine()), Orientation: volume.OrientationOf(s.Affine()),
		Patient: h.Patient, Warnings: s.Warnings, Err: s.Err, series: s, axial: s.Axial(),
	}
	if !s.OneFile() {
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
// asStored it is the plain rescaled stack without geometric corrections and padding. The Contents that the
// candidate comes from must not be closed.
func Open(c Candidate, asStored bool) (v *volume.Volume, warnings []string, err error) {
	defer guard(c.Path, &err)
	if c.Err != nil {
		return nil, nil, c.Err
	}
	if c.Format == "nifti" {
		return nifti.ReadIn(c.files, c.Path)
	}
	return c.series.Read(asStored)
}

// Origin returns what a DICOM document about the volume repeats of its series; a NIfTI file has none. The Contents
// must not be closed.
func (c *Candidate) Origin() (dicom.Origin, error) {
	if c.series == nil {
		return dicom.Origin{}, errors.New("a NIfTI file belongs to no patient and study that a DICOM document could join")
	}
	return c.series.Origin()
}

// Info says what was read and why.
type Info struct {
	SeriesUID   string // "" for NIfTI
	Description string
	Why         string
	Warnings    []string
	Candidate   Candidate // the chosen one
}

// Load reads the selected volume at path; sel must not select all. Every error names the path. Whether the
// values are plausible HU is not looked at, see CheckHU.
func Load(path string, sel Selection) (*volume.Volume, Info, error) {
	c, err := Find(path)
	if err != nil {
		return nil, Info{}, err
	}
	defer c.Close()
	choices, err := c.Select(sel)
	if err != nil {
		return nil, Info{}, err
	}
	return c.Load(choices[0])
}

// Load reads a chosen volume. Every error names the path of the contents.
func (c *Contents) Load(choice Choice) (*volume.Volume, Info, error) {
	chosen := c.Candidates[choice.Index]
	info := Info{SeriesUID: chosen.SeriesUID, Description: chosen.Description, Why: choice.Why, Candidate: chosen}
	v, warnings, err := Open(chosen, false)
	if err != nil {
		if len(c.Candidates) > 1 {
			err = fmt.Errorf("the chosen %s: %w", chosen.Name(), err)
		}
		return nil, info, fmt.Errorf("%s: %w", c.Path, err)
	}
	info.Warnings = append(warnings, c.Warnings...)
	return v, info, nil
}

// warnOfStudies says that a volume of one study is taken out of several.
func (c *Contents) warnOfStudies() {
	studies := make(map[string]bool)
	for i := range c.Candidates {
		if uid := c.Candidates[i].StudyUID; uid != "" {
			studies[uid] = true
		}
	}
	if len(studies) > 1 {
		c.warn("the path holds %d studies; one series of one of them is used", len(studies))
	}
}

// warnOfDamage says that slices may be missing because files are damaged.
func (c *Contents) warnOfDamage() {
	count, first := 0, ""
	for _, s := range c.Skipped {
		if s.Damaged {
			if count == 0 {
				first = filepath.Base(s.Path) + ": " + s.Reason
			}
			count++
		}
	}
	if count > 0 {
		c.warn("damaged files are left out (%d); the first is %s", count, first)
	}
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
