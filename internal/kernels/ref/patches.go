package ref

// Patches cuts a volume into patches of size patch (D, H, W) and writes each as a row:
//
//	tokens[n][t][((c*pd+i)*ph+j)*pw+k] = x[n][c][a*pd+i][b*ph+j][e*pw+k],  t = (a*(H/ph)+b)*(W/pw)+e
//
// x has shape in; tokens is [N][(D/pd)*(H/ph)*(W/pw)][C*pd*ph*pw]. A convolution with kernel = stride =
// patch is Linear on these rows. Voxels behind the last whole patch are left out.
func Patches[T Float](tokens, x []T, in Shape, patch [3]int) {
	forPatchRows(in, patch, func(token, voxel int) {
		copy(tokens[token:][:patch[2]], x[voxel:][:patch[2]])
	})
}

// PatchesBackward is the transpose of Patches: it writes the rows of dtokens back to their places in dx.
// Voxels behind the last whole patch get zero.
func PatchesBackward[T Float](dx, dtokens []T, in Shape, patch [3]int) {
	clear(dx[:in.Len()])
	forPatchRows(in, patch, func(token, voxel int) {
		copy(dx[voxel:][:patch[2]], dtokens[token:][:patch[2]])
	})
}

// forPatchRows calls f with the offsets, in the tokens and in the volume, of every row of pw voxels.
func forPatchRows(in Shape, patch [3]int, f func(token, voxel int)) {
	pd, ph, pw := patch[0], patch[1], patch[2]
	token := 0
	for n := range in.N {
		for a := range in.D / pd {
			for b := range in.H / ph {
				for e := range in.W / pw {
					for c := range in.C {
						for i := range pd {
							for j := range ph {
								f(token, (((n*in.C+c)*in.D+a*pd+i)*in.H+b*ph+j)*in.W+e*pw)
								token += pw
							}
						}
					}
				}
			}
		}
	}
}
