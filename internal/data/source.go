package data

import (
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/volume"
)

// OpenVolume returns the volume of a sample and warnings about it; several goroutines may call it
// at once. The sample's path may be anything that [scan.Load] reads, a folder of DICOM files as well
// as a NIfTI file. A volume of a MedMNIST archive has the stored bytes for HU and voxels of 1 mm.
func (d *Dataset) OpenVolume(s Sample) (*volume.Volume, []string, error) {
	if d.images != nil {
		v, err := d.archived(s)
		return v, nil, err
	}
	v, info, err := scan.Load(s.Path, scan.Selection{})
	return v, info.Warnings, err
}
