package data

import (
	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/volume"
)

// OpenVolume returns the volume of a sample and warnings about it; several goroutines may call it
// at once. A volume of a MedMNIST archive has the stored bytes for HU and voxels of 1 mm.
func (d *Dataset) OpenVolume(s Sample) (*volume.Volume, []string, error) {
	if d.images != nil {
		v, err := d.archived(s)
		return v, nil, err
	}
	return nifti.Read(s.Path)
}
