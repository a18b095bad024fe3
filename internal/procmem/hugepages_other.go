//go:build !linux

package procmem

// AdviseHugePages does nothing here.
func AdviseHugePages([]byte) {}
