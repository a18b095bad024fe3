package data

import (
	"fmt"

	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/volume"
)

// OpenVolume returns the volume of a sample and warnings about it; several goroutines may call it
// at once. The sample's path may be anything that [scan.Load] reads, a folder of DICOM files as well
// as a NIfTI file; its series is chosen by the sample's Series. With data.metadata the stored values are
// rescaled by its slope and intercept. A volume of a MedMNIST archive has the stored bytes for HU and voxels of 1 mm.
func (d *Dataset) OpenVolume(s Sample) (*volume.Volume, []string, error) {
	if d.images != nil {
		v, err := d.archived(s)
		return v, nil, err
	}
	v, info, err := scan.Load(s.Path, scan.Selection{Series: s.Series})
	if f, ok := d.metadata[s.ID]; ok && err == nil {
		if info.Candidate.Format != "nifti" {
			return nil, nil, fmt.Errorf("%s: data.metadata is for NIfTI files, a DICOM series has its own slope, intercept and spacing", s.Path)
		}
		if v, err = f.apply(v); err != nil {
			err = fmt.Errorf("%s: with the spacing of data.metadata: %w", s.Path, err)
		}
	}
	return v, info.Warnings, err
}
