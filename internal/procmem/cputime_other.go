//go:build !unix

package procmem

import "time"

// ProcessorTime is not known here.
func ProcessorTime() (time.Duration, bool) { return 0, false }
