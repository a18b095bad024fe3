package dicom

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Rejected is a DICOM file that is no slice of any volume.
type Rejected struct {
	Path   string
	Reason string
}

// Series is a stack of slices that belong together: same series, orientation, size, pixel spacing, frame of
// reference, kernel, temporal position, of multi-frame images same stack, cardiac phase and image type, and,
// where several acquisitions or multi-frame images cover the same region, same acquisition and image.
type Series struct {
	// Slices holds one header (of a file, or of a frame in one) for each position in stacking order: along the slice normal, or by instance
	// number where positions are missing. It is never empty.
	Slices []Header
	// Warnings says, one sentence each, what is unusual and what Read does about it.
	Warnings []string
	// Err is the reason why the series cannot be read, nil when it can.
	Err error

	storedWarnings []string // Warnings as they read for the stack as stored
	duplicates     []duplicate
	geometry       geometry
}

// duplicate is a further file at the position of Slices[of].
type duplicate struct {
	header Header
	of     int
}

// Group sorts files into series; each frame of a multi-frame file is a slice. Files that are no slices (localizers, dose pages, secondary captures,
// segmentations, reports, ...) are returned with the reason. The result does not depend on the order of
// headers; series are ordered by series number, then UID, then as they were split.
func Group(headers []Header) ([]Series, []Rejected) {
	sorted := slices.Clone(headers)
	slices.SortFunc(sorted, func(a, b Header) int { return cmp.Compare(a.Path, b.Path) })
	var rejected []Rejected
	var groups [][]Header
	ofUID := make(map[string][]int) // the groups of a series, so that a long list of series takes no long search
	for i := range sorted {
		found, why := sorted[i].slices()
		for _, reason := range why {
			rejected = append(rejected, Rejected{sorted[i].Path, reason})
		}
		for _, h := range found {
			known := ofUID[h.SeriesUID]
			at := slices.IndexFunc(known, func(g int) bool { return sameStack(&groups[g][0], &h) })
			if at < 0 {
				ofUID[h.SeriesUID] = append(known, len(groups))
				groups = append(groups, []Header{h})
			} else {
				groups[known[at]] = append(groups[known[at]], h)
			}
		}
	}
	var series []Series
	for _, g := range groups {
		for _, part := range splitAcquisitions(g) {
			series = append(series, newSeries(part))
		}
	}
	slices.SortStableFunc(series, func(a, b Series) int {
		x, y := &a.Slices[0], &b.Slices[0]
		return cmp.Or(cmp.Compare(x.SeriesNumber, y.SeriesNumber), cmp.Compare(x.SeriesUID, y.SeriesUID),
			cmp.Compare(x.AcquisitionNumber, y.AcquisitionNumber), cmp.Compare(x.TemporalPosition, y.TemporalPosition),
			cmp.Compare(x.CardiacPhase, y.CardiacPhase), cmp.Compare(x.Stack, y.Stack), cmp.Compare(x.object(), y.object()))
	})
	return series, rejected
}

// sameStack reports whether b can lie in one stack with a.
func sameStack(a, b *Header) bool {
	if a.SeriesUID != b.SeriesUID || a.Rows != b.Rows || a.Columns != b.Columns || a.Modality != b.Modality ||
		a.FrameOfReferenceUID != b.FrameOfReferenceUID || a.Kernel != b.Kernel ||
		a.TemporalPosition != b.TemporalPosition || a.HasPosition != b.HasPosition ||
		a.HasOrientation != b.HasOrientation || enhancedClass(a.SOPClassUID) != enhancedClass(b.SOPClassUID) ||
		a.Stack != b.Stack || a.CardiacPhase != b.CardiacPhase ||
		a.Frame > 0 && b.Frame > 0 && !slices.Equal(a.ImageType, b.ImageType) {
		return false
	}
	for i := range a.Orientation {
		if math.Abs(a.Orientation[i]-b.Orientation[i]) > 1e-3 {
			return false
		}
	}
	for i := range a.PixelSpacing {
		if math.Abs(a.PixelSpacing[i]-b.PixelSpacing[i]) > 1e-3*a.PixelSpacing[i] {
			return false
		}
	}
	return true
}

// splitAcquisitions divides a group by acquisition number and by multi-frame image when two of them cover
// the same region, so that repeated scans are not interleaved. Acquisitions side by side (step and shoot)
// stay one stack.
func splitAcquisitions(group []Header) [][]Header {
	if !group[0].HasPosition || !group[0].HasOrientation {
		return [][]Header{group}
	}
	type scan struct {
		acquisition int
		object      string
	}
	type span struct {
		scan
		low, high float64
		headers   []Header
	}
	normal := group[0].normal()
	byScan := make(map[scan]*span)
	for _, h := range group {
		z := dot(h.Position, normal)
		of := scan{h.AcquisitionNumber, h.object()}
		s := byScan[of]
		if s == nil {
			s = &span{scan: of, low: z, high: z}
			byScan[of] = s
		}
		s.low, s.high = min(s.low, z), max(s.high, z)
		s.headers = append(s.headers, h)
	}
	spans := make([]*span, 0, len(byScan))
	for _, s := range byScan {
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.low, b.low), cmp.Compare(a.acquisition, b.acquisition), cmp.Compare(a.object, b.object))
	})
	overlap := false
	for i := 1; i < len(spans); i++ {
		overlap = overlap || spans[i].low <= spans[i-1].high+samePosition
	}
	if !overlap {
		return [][]Header{group}
	}
	parts := make([][]Header, len(spans))
	for i, s := range spans {
		parts[i] = s.headers
	}
	return parts
}

// newSeries orders a stack and works out its geometry.
func newSeries(headers []Header) Series {
	s := Series{Slices: headers}
	s.sort()
	first := &s.Slices[0]
	if first.Modality != "CT" {
		s.warn("modality %q is not CT: the values are not Hounsfield units", first.Modality)
	}
	if unit := first.unit(); unit != "" {
		s.warn("%s: the values are not Hounsfield units", unit)
	}
	if s.Err = s.readable(); s.Err != nil && first.framesUnknown() {
		s.geometry = singleFrames(first)
		return s
	}
	if err := s.place(); err != nil && s.Err == nil {
		s.Err = fmt.Errorf("series %s: %w", first.SeriesUID, err)
	}
	if !first.HasRescale && first.Modality == "CT" {
		s.warn("no rescale slope and intercept: stored values are taken as HU")
	}
	return s
}

// readable returns the first reason why a slice cannot be read.
func (s *Series) readable() error {
	for i := range s.Slices {
		if err := s.Slices[i].CheckPixels(); err != nil {
			return err
		}
	}
	return nil
}

// sort orders the slices along the normal; without positions by instance number, turned so that slice
// locations grow. Copies of one object (same SOP instance at one position) are reduced to one, a readable
// one if there is any; other files at the same position become duplicates.
func (s *Series) sort() {
	first := &s.Slices[0]
	placed := first.HasPosition && first.HasOrientation
	if normal := first.normal(); placed {
		slices.SortStableFunc(s.Slices, func(a, b Header) int {
			return cmp.Compare(dot(a.Position, normal), dot(b.Position, normal))
		})
	} else {
		slices.SortStableFunc(s.Slices, func(a, b Header) int { return cmp.Compare(a.InstanceNumber, b.InstanceNumber) })
		a, b := &s.Slices[0], &s.Slices[len(s.Slices)-1]
		if a.HasSliceLocation && b.HasSliceLocation && a.SliceLocation > b.SliceLocation {
			slices.Reverse(s.Slices)
		}
	}
	kept := make([]Header, 0, len(s.Slices))
	copies := 0
	for _, h := range s.Slices {
		of := len(kept) - 1
		if of < 0 || !samePlace(&kept[of], &h, placed) {
			kept = append(kept, h)
			continue
		}
		if !sameObject(&h, &kept[of]) {
			s.duplicates = append(s.duplicates, duplicate{h, of})
			continue
		}
		copies++
		if kept[of].checkPixels() != nil && h.checkPixels() == nil {
			kept[of] = h
		}
	}
	s.Slices = kept
	if copies > 0 {
		s.warn("%d copies of slices (same SOP instance) are left out", copies)
	}
}

// samePlace reports whether two neighbours in stacking order lie at the same place.
func samePlace(a, b *Header, placed bool) bool {
	if !placed {
		return a.InstanceNumber == b.InstanceNumber && sameObject(a, b)
	}
	return norm(added(a.Position, b.Position, -1)) <= samePosition
}

// sameObject reports whether a and b are copies of one image, by its UID.
func sameObject(a, b *Header) bool {
	return a.SOPInstanceUID != "" && a.SOPInstanceUID == b.SOPInstanceUID && a.Frame == b.Frame
}

func (s *Series) warn(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.Warnings = append(s.Warnings, text)
	s.storedWarnings = append(s.storedWarnings, text)
}

// warnCorrected adds a warning about something that Read corrects unless the stack is wanted as stored.
func (s *Series) warnCorrected(fact, correction string) {
	s.Warnings = append(s.Warnings, fact+": "+correction)
	s.storedWarnings = append(s.storedWarnings, fact+": left as stored")
}

// Size returns the number of slices, rows and columns as stored.
func (s *Series) Size() [3]int {
	n := len(s.Slices)
	if s.Slices[0].framesUnknown() {
		n = max(s.Slices[0].Frames, 1)
	}
	return [3]int{n, s.Slices[0].Rows, s.Slices[0].Columns}
}

// OneFile reports whether all slices are in one file.
func (s *Series) OneFile() bool {
	return !slices.ContainsFunc(s.Slices, func(h Header) bool { return h.Path != s.Slices[0].Path })
}

// Affine returns the map from (column, row, slice, 1) of the stored stack to patient coordinates in mm, LPS.
// Its third column is (last - first position) / (n - 1).
func (s *Series) Affine() [4][4]float64 { return s.geometry.affine }

// Axial reports whether the slices are axial, tilted by at most 45 degrees.
func (s *Series) Axial() bool { return math.Abs(s.geometry.normal[2]) > math.Sqrt2/2 }

// TransferSyntax returns the transfer syntax UID of the slices; of mixed ones the first that differs from
// explicit VR little endian.
func (s *Series) TransferSyntax() string {
	for i := range s.Slices {
		if ts := s.Slices[i].TransferSyntax; ts != syntaxExplicit {
			return ts
		}
	}
	return syntaxExplicit
}

// normal is the direction in which slices are counted: row direction x column direction.
func (h *Header) normal() [3]float64 {
	return cross(vec(h.Orientation[:3]), vec(h.Orientation[3:]))
}
