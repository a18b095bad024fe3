package preprocess

import (
	"fmt"
	"math"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

// setRecipe plans the preprocessing of the public CT-RATE_classifier weights (github.com/Joacodef/CT-RATE_classifier,
// state of June and July 2025), as MONAI carries it out there:
//
//  1. orientation LPS;
//  2. Spacing, linear: n voxels become round((n-1)·spacing/target)+1, of which number o lies at the stored
//     index o·target/spacing; the first voxel keeps its place, edge voxels repeat;
//  3. the window, clipped;
//  4. Resize with mode area: each output voxel is the mean of the voxels that it touches.
//
// Its shape was named D, H, W but applied to MONAI's axes X, Y, Z. So the output's first axis runs along w, the
// second along h and the last along d: shape_dhw 96, 224, 224 makes 96 voxels from right to left. Unlike there the
// shear of a tilted stack stays as it is.
func (pl *plan) setRecipe(v *volume.Volume, p config.Preprocess) error {
	if p.Orientation != "LPS" || p.Intensity != "window" || len(p.Windows()) != 1 || p.SpacingMM.Keep || p.SpacingMM.MM == [3]float64{} {
		return fmt.Errorf("preprocess.recipe ct_rate_classifier needs orientation LPS, intensity window with one hu_window, and a spacing_mm")
	}
	pl.recipe = true
	for i := range pl.axes {
		a := &pl.axes[i]
		step := p.SpacingMM.MM[i] / v.Spacing[a.stored]
		grid := math.RoundToEven(float64(a.n-1)/step + 1)
		if !(step > 0) || !(grid >= 1 && grid <= maxVoxels) {
			return fmt.Errorf("preprocess.spacing_mm of %g mm along %c would make %.0f voxels of the volume's %d with %.3g mm", p.SpacingMM.MM[i], "dhw"[i], grid, a.n, v.Spacing[a.stored])
		}
		a.grid = int(grid)
		a.out = p.ShapeDHW[2-i]
		a.kept = a.out
		before := a.triangle(a.grid, 1, func(o int) float64 { return float64(o) * step })
		a.before = &before
		a.taps = line{n: a.grid}.area(a.kept)
		a.pitch = float64(a.grid) / float64(a.out) * step
		a.origin = (float64(a.grid)/float64(a.out)/2 - 0.5) * step
	}
	return nil
}
