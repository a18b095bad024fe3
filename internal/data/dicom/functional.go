package dicom

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	sdicom "github.com/suyashkumar/dicom"
)

// Multi-frame images say in functional groups (PS3.3, C.7.6.16) what single-frame ones say in plain
// elements: in one item for all frames, and in one item for each frame.
const (
	tagShared   tagID = 0x52009229
	tagPerFrame tagID = 0x52009230

	tagStack tagID = 0x00209056
	tagPhase tagID = 0x00209241

	maxFrames = 1 << 14 // 8 GiB of 512 x 512 pixels
)

// frameValues are the wanted elements of one item of functional groups.
type frameValues map[tagID]sdicom.Value

// functionalMacro reports whether the sequence t of a functional group holds wanted elements.
func functionalMacro(t tagID) bool {
	switch t {
	case 0x00189118, // cardiac synchronisation
		0x00189314,             // CT reconstruction
		0x00189329,             // CT image frame type
		0x00209111,             // frame content
		0x00209113, 0x00209116, // plane position, plane orientation
		0x00209170, 0x00209171, // what a legacy conversion found no other place for
		0x00289110, // pixel measures
		0x00289145: // pixel value transformation
		return true
	}
	return false
}

// frameElement returns which element of a single-frame header the element t of a functional group stands
// for, and the value representation of t, "" when it is not wanted.
func frameElement(t tagID) (as tagID, vr string) {
	switch t {
	case 0x00089007: // FrameType
		return 0x00080008, "CS"
	case 0x00209057: // InStackPositionNumber
		return 0x00200013, "UL"
	case 0x00209128: // TemporalPositionIndex
		return 0x00200100, "UL"
	case 0x00209156: // FrameAcquisitionNumber
		return 0x00200012, "US"
	case tagPhase: // NominalPercentageOfCardiacPhase
		return t, "FL"
	case tagStack: // StackID
		return t, "SH"
	case 0x00200032, 0x00200037, 0x00280030, 0x00180050, 0x00180088, 0x00201041, // the plane
		0x00281052, 0x00281053, 0x00281054, // rescale
		0x00200013, 0x00181210: // InstanceNumber, ConvolutionKernel
		return t, wantedVR(t)
	}
	return 0, ""
}

// functionalGroups reads the items of the shared or the per-frame functional groups.
func (w *walker) functionalGroups(of element) ([]frameValues, error) {
	var items []frameValues
	begin := func() error {
		if len(items) == maxFrames {
			return fmt.Errorf("element %v holds more than %d frames", of.tag, maxFrames)
		}
		items = append(items, nil)
		return nil
	}
	err := w.items(of, 1, begin, func(macro element) error {
		if !functionalMacro(macro.tag) {
			return w.skipValue(macro, 2)
		}
		return w.items(macro, 2, nil, func(e element) error {
			as, vr := frameElement(e.tag)
			if vr == "" || e.length > 1024 {
				return w.skipValue(e, 3)
			}
			raw, err := w.value(e)
			if err != nil {
				return err
			}
			value, err := w.decoded(vr, raw)
			if err != nil {
				return fmt.Errorf("element %v: %w", e.tag, err)
			}
			values := &items[len(items)-1]
			if *values == nil {
				*values = make(frameValues)
			}
			(*values)[as] = value
			return nil
		})
	})
	return items, err
}

// decoded turns the value of a functional group's element into the texts that the single-frame element
// would hold.
func (w *walker) decoded(vr string, raw []byte) (sdicom.Value, error) {
	text := "" // a number that is cut is as if it were absent
	switch {
	case vr == "US" && len(raw) >= 2:
		text = strconv.Itoa(int(w.order.Uint16(raw)))
	case vr == "UL" && len(raw) >= 4:
		text = strconv.Itoa(int(w.order.Uint32(raw)))
	case vr == "FL" && len(raw) >= 4:
		text = strconv.FormatFloat(float64(math.Float32frombits(w.order.Uint32(raw))), 'g', -1, 32)
	case vr != "US" && vr != "UL" && vr != "FL":
		text = strings.TrimRight(string(raw), " \x00")
	}
	return sdicom.NewValue(strings.Split(text, `\`))
}

// describeFrames makes a header for each frame out of the values of the whole file's header and those of
// the functional groups. Without a group for each frame there are none.
func (h *Header) describeFrames(values map[tagID]sdicom.Value, s *structure) error {
	perFrame := s.perFrame
	if len(perFrame) == 0 && h.Frames == 1 && len(s.shared) > 0 {
		perFrame = []frameValues{nil}
	}
	h.describedFrames = len(perFrame)
	if len(perFrame) == 0 || len(perFrame) != h.Frames {
		return nil
	}
	common := maps.Clone(values)
	for _, item := range s.shared {
		maps.Copy(common, item)
	}
	frames := make([]Header, len(perFrame))
	for i := range frames {
		f := &frames[i]
		*f = *h
		f.Frame, f.ImageType = i+1, nil
		all := maps.Clone(common)
		maps.Copy(all, perFrame[i])
		if err := f.fill(all, s); err != nil {
			return fmt.Errorf("frame %d: %w", f.Frame, err)
		}
	}
	h.frames = frames
	return nil
}

// object is what tells the multi-frame images of a series apart: the UID of the image, or of the
// concatenation that it is a part of; "" for single-frame images.
func (h *Header) object() string {
	switch {
	case h.Frame == 0:
		return ""
	case h.concatenation != "":
		return h.concatenation
	}
	return h.SOPInstanceUID
}

// framesUnknown reports whether the file may hold several frames whose places are not known.
func (h *Header) framesUnknown() bool {
	return h.Frame == 0 && (h.Frames != 1 || enhancedClass(h.SOPClassUID))
}

// Name names the slice in messages: the file, and the frame in a file of several.
func (h *Header) Name() string {
	if h.Frame > 0 && h.Frames > 1 {
		return fmt.Sprintf("%s, frame %d", h.Path, h.Frame)
	}
	return h.Path
}
