package kernels

// FromPlain copies src [N][C][D][H][W], C = ch.Count(), into the blocked map dst and zeroes the lanes that
// hold no logical channel.
func (m *Machine) FromPlain(src []float32, ch Channels, dst Map) {
	voxels := dst.D * dst.H * dst.W
	count := ch.Count()
	logical := ewLogical(ch, dst.CB)
	m.ewBlocks(dst, func(s *stage, _, n, cb, lo, hi int) {
		os := dst.block(n, cb)
		for ; lo < hi; lo += ewChunk * Block {
			piece := s.write(os, lo, min(hi, lo+ewChunk*Block))
			clear(piece)
			for l, c := range logical[cb*Block:][:Block] {
				if c < 0 {
					continue
				}
				for i, v := range src[(n*count+c)*voxels+lo/Block:][:len(piece)/Block] {
					piece[i*Block+l] = v
				}
			}
			s.done()
		}
	})
}

// ToPlain copies the logical channels of the blocked map src into dst [N][C][D][H][W], C = ch.Count().
func (m *Machine) ToPlain(src Map, ch Channels, dst []float32) {
	voxels := src.D * src.H * src.W
	count := ch.Count()
	logical := ewLogical(ch, src.CB)
	m.ewBlocks(src, func(s *stage, _, n, cb, lo, hi int) {
		xs := src.block(n, cb)
		for ; lo < hi; lo += ewChunk * Block {
			piece := s.read(xs, lo, min(hi, lo+ewChunk*Block))
			for l, c := range logical[cb*Block:][:Block] {
				if c < 0 {
					continue
				}
				out := dst[(n*count+c)*voxels+lo/Block:][:len(piece)/Block]
				for i := range out {
					out[i] = piece[i*Block+l]
				}
			}
			s.done()
		}
	})
}
