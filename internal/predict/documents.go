package predict

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/dicomout"
	"github.com/ctclass/ctclass/internal/exitcode"
)

// Documents says which DICOM documents are written about DICOM series. They repeat name, ID, birth date and sex of
// the patient and the study's attributes from the series, to join its study.
type Documents struct {
	Reports  string // folder of structured reports; "": none
	Captures string // folder of secondary captures of the heat maps; "": none
	Version  string // of ctclass
	Now      func() time.Time
}

// makeFolders makes the folders that have a name.
func makeFolders(dirs ...string) error {
	for _, dir := range dirs {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return exitcode.Errorf(exitcode.Usage, "a folder for the results cannot be made: %w", err)
		}
	}
	return nil
}

// document writes the documents about an answer.
func (p *Predictor) document(r *Result, src source, pictures []picture) error {
	opt := p.opt.Documents
	if src.origin == nil {
		return nil
	}
	d := dicomout.Document{
		Origin: *src.origin, Model: p.models[0].Arch, ModelID: p.ID(), Version: opt.Version, Created: opt.Now(), Comments: r.Warnings,
	}
	write := func(path string, file []byte, err error) (string, error) {
		if err != nil {
			return "", fmt.Errorf("%s: no DICOM document can be made: %w", r.Path, err)
		}
		return path, atomicfile.WriteBytes(path, file)
	}
	if opt.Reports != "" {
		report := dicomout.Report{Document: d}
		for i, l := range r.Labels {
			f := dicomout.Finding{Label: l.Name, Probability: l.Probability, Present: l.Present}
			if !p.Multiclass() {
				f.Threshold = &p.thresholds[i].Value
			}
			report.Findings = append(report.Findings, f)
		}
		file, err := report.File()
		if r.Report, err = write(filepath.Join(opt.Reports, fileName(r)+".sr.dcm"), file, err); err != nil {
			return err
		}
	}
	if opt.Captures == "" {
		return nil
	}
	for i, picture := range pictures {
		l := r.Labels[picture.label]
		c := dicomout.Capture{
			Document: d, Number: i + 1, Picture: picture.image, Title: "ctclass " + p.explainer.Method(),
			Description: fmt.Sprintf("Where the probability of %.1f %% for %s comes from, by %s of the model %s: slices through the peak, above without and below with the heat",
				100*l.Probability, l.Name, p.explainer.Method(), p.ID()),
		}
		file, err := c.File()
		path, err := write(filepath.Join(opt.Captures, fileName(r)+"."+cleanName(l.Name, picture.label)+".sc.dcm"), file, err)
		if err != nil {
			return err
		}
		r.Captures = append(r.Captures, path)
	}
	return nil
}
