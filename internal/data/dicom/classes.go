package dicom

import (
	"fmt"
	"slices"
	"strings"
)

// SOP classes of images that can make a volume.
const (
	classCT             = "1.2.840.10008.5.1.4.1.1.2"
	classEnhancedCT     = "1.2.840.10008.5.1.4.1.1.2.1"
	classLegacyCT       = "1.2.840.10008.5.1.4.1.1.2.2"
	classMR             = "1.2.840.10008.5.1.4.1.1.4"
	classPET            = "1.2.840.10008.5.1.4.1.1.128"
	classCapture        = "1.2.840.10008.5.1.4.1.1.7"
	classSegmentation   = "1.2.840.10008.5.1.4.1.1.66.4"
	classDirectory      = "1.2.840.10008.1.3.10"
	classRTDose         = "1.2.840.10008.5.1.4.1.1.481.2"
	classRTStructures   = "1.2.840.10008.5.1.4.1.1.481.3"
	prefixStructuredRep = "1.2.840.10008.5.1.4.1.1.88."
	prefixPresentation  = "1.2.840.10008.5.1.4.1.1.11."
)

// className returns the plain name of a SOP class, or its UID.
func className(uid string) string {
	switch uid {
	case classCT:
		return "CT image"
	case classEnhancedCT:
		return "Enhanced CT"
	case classLegacyCT:
		return "Legacy Converted Enhanced CT"
	case classMR:
		return "MR image"
	case classPET:
		return "PET image"
	case classSegmentation:
		return "segmentation"
	case classDirectory:
		return "DICOMDIR"
	case classRTDose:
		return "RT dose"
	case classRTStructures:
		return "RT structure set"
	case "":
		return "unknown SOP class"
	}
	switch {
	case captureClass(uid):
		return "secondary capture"
	case strings.HasPrefix(uid, prefixStructuredRep):
		return "structured report"
	case strings.HasPrefix(uid, prefixPresentation):
		return "presentation state"
	}
	return "SOP class " + uid
}

// enhancedClass reports whether the geometry of a class lies in functional groups, frame by frame.
func enhancedClass(uid string) bool { return uid == classEnhancedCT || uid == classLegacyCT }

func captureClass(uid string) bool {
	return uid == classCapture || strings.HasPrefix(uid, classCapture+".")
}

// rejection says why a file is no slice of a volume, "" when it may be one.
func (h *Header) rejection() string {
	if captureClass(h.SOPClassUID) {
		return "secondary capture (a screen or dose page), not a CT slice"
	}
	switch h.SOPClassUID {
	case classCT, classEnhancedCT, classLegacyCT, classMR, classPET, "":
	default:
		return "not an image of a volume: " + className(h.SOPClassUID)
	}
	switch h.Modality {
	case "CT", "MR", "PT", "":
	default:
		return "modality " + h.Modality + ", not a CT slice"
	}
	for _, kind := range []string{"LOCALIZER", "SCOUT", "TOPOGRAM", "REF_SURVIEW"} {
		if slices.Contains(h.ImageType, kind) {
			return "localizer (image type " + strings.Join(h.ImageType, `\`) + ")"
		}
	}
	for _, kind := range []string{"SCREEN SAVE", "DOSE", "DOSE_INFO", "PROT", "CSA REPORT", "CT_SOM5 PROT"} {
		if slices.Contains(h.ImageType, kind) {
			return "dose page or screen save (image type " + strings.Join(h.ImageType, `\`) + ")"
		}
	}
	switch {
	case h.layout.pixelTag == 0 || h.Rows < 1 || h.Columns < 1:
		return "holds no image"
	case h.SamplesPerPixel != 1:
		return "colour image, not a CT slice"
	}
	return ""
}

// slices returns the slices that the file holds, each frame one, and why what is left out is none.
func (h *Header) slices() (found []Header, why []string) {
	if len(h.frames) == 0 {
		if reason := h.rejection(); reason != "" {
			return nil, []string{reason}
		}
		return []Header{*h}, nil
	}
	left := make(map[string]int)
	found = make([]Header, 0, len(h.frames))
	for i := range h.frames {
		reason := h.frames[i].rejection()
		if reason == "" {
			found = append(found, h.frames[i])
			continue
		}
		if left[reason]++; left[reason] == 1 {
			why = append(why, reason)
		}
	}
	for i, reason := range why {
		if n := left[reason]; n < len(h.frames) {
			why[i] = fmt.Sprintf("%d of %d frames: %s", n, len(h.frames), reason)
		}
	}
	return found, why
}

// unit says by which attribute the values of a CT image are something else than HU, "" when they may be HU.
func (h *Header) unit() string {
	for _, kind := range h.ImageType {
		switch kind {
		case "PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "TMAX", // perfusion maps
			"STD_DEVIATION", "SUBTRACTION", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MAT_SPECIFIC", "MAT_FRACTIONAL":
			return "image type " + strings.Join(h.ImageType, `\`)
		}
	}
	switch h.RescaleType {
	case "", "HU", "HU_MOD":
		return ""
	case "US": // unspecified: some scanners call HU so, but a table without a unit can hold anything
		if h.lut == nil {
			return ""
		}
	}
	return "rescale type " + h.RescaleType
}

// Derived reports whether the image type says that the image is not an original, primary one.
func (h *Header) Derived() bool {
	return slices.Contains(h.ImageType, "DERIVED") || slices.Contains(h.ImageType, "SECONDARY")
}
