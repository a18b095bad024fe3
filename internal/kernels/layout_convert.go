package kernels

// FromPlain copies src [N][C][D][H][W], C = ch.Count(), into the blocked map dst and zeroes the lanes that
// hold no logical channel.
func (m *Machine) FromPlain(src []float32, ch Channels, dst Map) {
	voxels := dst.D * dst.H * dst.W
	count := ch.Count()
	logical := ewLogical(ch, dst.CB)
	m.ewBlocks(dst, func(_, n, cb, lo, hi int) {
		os := ewBlock(dst, n, cb)
		for ; lo < hi; lo += ewChunk * Block {
			piece := os[lo:min(hi, lo+ewChunk*Block)]
			clear(piece)
			for l, c := range logical[cb*Block:][:Block] {
				if c < 0 {
					continue
				}
				for i, v := range src[(n*count+c)*voxels+lo/Block:][:len(piece)/Block] {
					piece[i*Block+l] = v
				}
			}
		}
	})
}

// ToPlain copies the logical channels of the blocked map src into dst [N][C][D][H][W], C = ch.Count().
func (m *Machine) ToPlain(src Map, ch Channels, dst []float32) {
	voxels := src.D * src.H * src.W
	count := ch.Count()
	logical := ewLogical(ch, src.CB)
	m.ewBlocks(src, func(_, n, cb, lo, hi int) {
		xs := ewBlock(src, n, cb)
		for ; lo < hi; lo += ewChunk * Block {
			piece := xs[lo:min(hi, lo+ewChunk*Block)]
			for l, c := range logical[cb*Block:][:Block] {
				if c < 0 {
					continue
				}
				out := dst[(n*count+c)*voxels+lo/Block:][:len(piece)/Block]
				for i := range out {
					out[i] = piece[i*Block+l]
				}
			}
		}
	})
}
