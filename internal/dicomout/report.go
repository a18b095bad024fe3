package dicomout

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/suyashkumar/dicom/pkg/tag"

	"github.com/ctclass/ctclass/internal/dicomwrite"
)

// comprehensiveSR is the SOP class Comprehensive SR Storage.
const comprehensiveSR = "1.2.840.10008.5.1.4.1.1.88.33"

// reportSeries is the series number of reports.
const reportSeries = 9801

// Report is the answers of a model for one series.
type Report struct {
	Document
	Findings []Finding
}

// Finding is the answer for a label.
type Finding struct {
	Label       string
	Probability float64
	Threshold   *float64 // nil where there is none
	Present     bool
}

// codes of our own, for what no standard scheme has a code for, and for labels.
const ownScheme = "99CTCLASS"

// code is a coded concept.
type code struct{ value, scheme, meaning string }

func dcm(value, meaning string) code { return code{value, "DCM", meaning} }

// labelCode codes a label: by its name where that is short and plain, else by the digits of a hash.
func labelCode(label string) code {
	value := label
	plain := func(r rune) bool { return r > ' ' && r < 0x7F && r != '\\' }
	if len(label) > 16 || strings.ContainsFunc(label, func(r rune) bool { return !plain(r) }) {
		sum := sha256.Sum256([]byte(label))
		value = hex.EncodeToString(sum[:8])
	}
	return code{value, ownScheme, text(label, 64)[0]}
}

func (c code) items() []dicomwrite.Item {
	return []dicomwrite.Item{{
		set(tag.CodeValue, []string{c.value}), set(tag.CodingSchemeDesignator, []string{c.scheme}), set(tag.CodeMeaning, []string{c.meaning}),
	}}
}

// content is an item of the report's tree.
type content = dicomwrite.Item

// node returns a content item.
func node(relation, valueType string, name code, value ...dicomwrite.Attribute) content {
	n := content{set(tag.ValueType, []string{valueType})}
	if relation != "" {
		n = append(n, set(tag.RelationshipType, []string{relation}))
	}
	if name != (code{}) {
		n = append(n, set(tag.ConceptNameCodeSequence, name.items()))
	}
	return append(n, value...)
}

func container(relation string, name code, children ...content) content {
	return node(relation, "CONTAINER", name, set(tag.ContinuityOfContent, []string{"SEPARATE"}), set(tag.ContentSequence, children))
}

func coded(relation string, name, value code) content {
	return node(relation, "CODE", name, set(tag.ConceptCodeSequence, value.items()))
}

func written(relation string, name code, value string) content {
	return node(relation, "TEXT", name, set(tag.TextValue, text(value, 1024)))
}

func uidRef(relation string, name code, uid string) content {
	return node(relation, "UIDREF", name, set(tag.UID, []string{uid}))
}

// percent is a share as a measurement.
func percent(name code, share float64) content {
	value := strconv.FormatFloat(100*share, 'f', 4, 64)
	return node("CONTAINS", "NUM", name, set(tag.MeasuredValueSequence, []dicomwrite.Item{{
		set(tag.NumericValue, []string{value}), set(tag.MeasurementUnitsCodeSequence, code{"%", "UCUM", "Percent"}.items()),
	}}))
}

// tree returns the children of the root, after DICOM PS3.16: a measurement report (TID 1500) with language (1204),
// device observer (1004), image library (1600) and a measurement group (1501) for each label, whose certainty
// of finding is the probability.
func (r *Report) tree() []content {
	library := []content{coded("HAS ACQ CONTEXT", dcm("121139", "Modality"), dcm("CT", "Computed Tomography"))}
	for _, i := range r.Origin.Instances {
		library = append(library, node("CONTAINS", "IMAGE", code{}, set(tag.ReferencedSOPSequence, []dicomwrite.Item{reference(i)})))
	}
	var groups []content
	for _, f := range r.Findings {
		decision := code{"52101004", "SCT", "Present"}
		if !f.Present {
			decision = code{"2667000", "SCT", "Absent"}
		}
		group := []content{
			written("HAS OBS CONTEXT", dcm("112039", "Tracking Identifier"), f.Label),
			uidRef("HAS OBS CONTEXT", dcm("112040", "Tracking Unique Identifier"), r.uid("finding", f.Label)),
			written("HAS CONCEPT MOD", dcm("111001", "Algorithm Name"), manufacturer+" "+r.Model),
			written("HAS CONCEPT MOD", dcm("111003", "Algorithm Version"), r.ModelID),
			coded("CONTAINS", dcm("121071", "Finding"), labelCode(f.Label)),
			percent(dcm("111012", "Certainty of Finding"), f.Probability),
		}
		if f.Threshold != nil {
			group = append(group, percent(code{"threshold", ownScheme, "Threshold of the certainty"}, *f.Threshold))
		}
		group = append(group, coded("CONTAINS", code{"decision", ownScheme, "Decision"}, decision))
		groups = append(groups, container("CONTAINS", dcm("125007", "Measurement Group"), group...))
	}
	children := []content{
		coded("HAS CONCEPT MOD", dcm("121049", "Language of Content Item and Descendants"), code{"en", "RFC5646", "English"}),
		coded("HAS OBS CONTEXT", dcm("121005", "Observer Type"), dcm("121007", "Device")),
		uidRef("HAS OBS CONTEXT", dcm("121012", "Device Observer UID"), dicomwrite.HashUID("ctclass model", r.ModelID)),
		written("HAS OBS CONTEXT", dcm("121013", "Device Observer Name"), manufacturer),
		written("HAS OBS CONTEXT", dcm("121014", "Device Observer Manufacturer"), manufacturer),
		written("HAS OBS CONTEXT", dcm("121015", "Device Observer Model Name"), r.Model),
		written("HAS OBS CONTEXT", dcm("121016", "Device Observer Serial Number"), r.ModelID),
		coded("HAS CONCEPT MOD", dcm("121058", "Procedure reported"), code{"77477000", "SCT", "Computed tomography"}),
		container("CONTAINS", dcm("111028", "Image Library"), container("CONTAINS", dcm("126200", "Image Library Group"), library...)),
		container("CONTAINS", dcm("126010", "Imaging Measurements"), groups...),
	}
	for _, c := range append([]string{"Computed by a statistical model, not verified by a person."}, r.Comments...) {
		children = append(children, written("CONTAINS", dcm("121106", "Comment"), c))
	}
	return children
}

// File returns the report as a Comprehensive SR, complete and unverified.
func (r *Report) File() ([]byte, error) {
	var images []dicomwrite.Item
	for _, i := range r.Origin.Instances {
		images = append(images, reference(i))
	}
	evidence := []dicomwrite.Item{{
		set(tag.StudyInstanceUID, []string{r.Origin.StudyUID}),
		set(tag.ReferencedSeriesSequence, []dicomwrite.Item{{
			set(tag.SeriesInstanceUID, []string{r.Origin.SeriesUID}), set(tag.ReferencedSOPSequence, images),
		}}),
	}}
	attributes := append(r.common("SR", "sr", "ctclass "+r.Model, reportSeries, 1),
		set(tag.CompletionFlag, []string{"COMPLETE"}), set(tag.VerificationFlag, []string{"UNVERIFIED"}), set(tag.PreliminaryFlag, []string{"PRELIMINARY"}),
		set(tag.ReferencedPerformedProcedureStepSequence, []dicomwrite.Item{}),
		set(tag.PerformedProcedureCodeSequence, []dicomwrite.Item{}),
		set(tag.CurrentRequestedProcedureEvidenceSequence, evidence),
		set(tag.CodingSchemeIdentificationSequence, []dicomwrite.Item{{
			set(tag.CodingSchemeDesignator, []string{ownScheme}), set(tag.CodingSchemeName, []string{"Labels of ctclass models"}),
		}}),
		set(tag.ValueType, []string{"CONTAINER"}),
		set(tag.ConceptNameCodeSequence, dcm("126000", "Imaging Measurement Report").items()),
		set(tag.ContinuityOfContent, []string{"SEPARATE"}),
		set(tag.ContentTemplateSequence, []dicomwrite.Item{{
			set(tag.MappingResource, []string{"DCMR"}), set(tag.TemplateIdentifier, []string{"1500"}),
		}}),
		set(tag.ContentSequence, r.tree()),
	)
	return dicomwrite.File(comprehensiveSR, r.uid("sr"), implementation(), attributes)
}
