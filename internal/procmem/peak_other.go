//go:build !linux && !darwin

package procmem

func peak() (int64, bool) { return 0, false }
