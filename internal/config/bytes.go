package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const byteSizeText = "a size such as 8GiB, 512MB or 1.5GiB (units B, kB, MB, GB, TB, KiB, MiB, GiB, TiB)"

// ParseBytes reads a memory size: a positive number and a unit, as in "8GiB", "512MB" or "1.5 GiB". kB, MB,
// GB and TB are powers of 1000; KiB, MiB, GiB and TiB are powers of 1024. A fraction of a byte is cut off.
func ParseBytes(s string) (int64, error) {
	text := strings.TrimSpace(s)
	cut := len(text)
	for cut > 0 && (text[cut-1] < '0' || text[cut-1] > '9') && text[cut-1] != '.' {
		cut--
	}
	digits, unit := text[:cut], strings.TrimSpace(text[cut:])
	factor, known := map[string]float64{
		"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[strings.ToLower(unit)]
	// ParseFloat also reads signs, exponents, hexadecimal and underscores, none of which belong in a size.
	if !known || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q is not a memory size; allowed: %s", s, byteSizeText)
	}
	x, err := strconv.ParseFloat(digits, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a memory size; allowed: %s", s, byteSizeText)
	}
	n := math.Floor(x * factor)
	if n < 1 || n >= math.MaxInt64 {
		return 0, fmt.Errorf("%q is out of range; allowed: %s, at least 1 byte and below 8 EiB", s, byteSizeText)
	}
	return int64(n), nil
}
