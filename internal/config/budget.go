package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Budget is a limit of the memory of the whole process: a number of bytes, a share of what is available, or,
// as the zero value, none.
type Budget struct {
	Bytes int64
	Share float64 // of the available memory, above 0 and at most 1
}

// autoShare is the share of the available memory that the budget auto takes: the rest is for what the system
// needs meanwhile.
const autoShare = 0.9

const budgetText = byteSizeText + "; a share of what is available such as 50%; auto; or none"

// ParseBudget reads a memory budget: a size as in ParseBytes, a percentage of what is available, auto for
// most of it, or none (also empty) for no limit.
func ParseBudget(s string) (Budget, error) {
	text := strings.TrimSpace(s)
	switch strings.ToLower(text) {
	case "", "none":
		return Budget{}, nil
	case "auto":
		return Budget{Share: autoShare}, nil
	}
	if digits, ok := strings.CutSuffix(text, "%"); ok {
		x, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || strings.Trim(digits, " 0123456789.") != "" || !(x > 0 && x <= 100) {
			return Budget{}, fmt.Errorf("%q is not a share of the memory; allowed: more than 0%% and at most 100%%", s)
		}
		return Budget{Share: x / 100}, nil
	}
	n, err := ParseBytes(text)
	if err != nil {
		return Budget{}, fmt.Errorf("%q is not a memory budget; allowed: %s", s, budgetText)
	}
	return Budget{Bytes: n}, nil
}

// Limit returns the budget in bytes where available bytes can be had, 0 for no limit.
func (b Budget) Limit(available int64) int64 {
	if b.Share > 0 {
		return max(1, int64(b.Share*float64(available)))
	}
	return b.Bytes
}
