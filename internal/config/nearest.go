package config

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// nearest returns the name closest to word by edit distance, or "" when none is close enough to suggest.
// A name that contains the word is close enough too. Upper and lower case count as equal; the names are tried
// in order, so ties go to the first.
func nearest(word string, names []string) string {
	limit := max(1, utf8.RuneCountInString(word)/3)
	best, at := "", limit+1
	for _, n := range names {
		if d := editDistance(strings.ToLower(word), strings.ToLower(n)); d < at {
			best, at = n, d
		}
	}
	if best == "" && utf8.RuneCountInString(word) >= 3 {
		for _, n := range names {
			if strings.Contains(strings.ToLower(n), strings.ToLower(word)) {
				return n
			}
		}
	}
	return best
}

// editDistance counts the insertions, deletions, substitutions and swaps of neighbours that turn a into b
// (optimal string alignment). Words above 64 letters count as unlike everything.
func editDistance(a, b string) int {
	s, t := []rune(a), []rune(b)
	if len(s) > 64 || len(t) > 64 {
		return max(len(s), len(t))
	}
	var before, last []int
	row := make([]int, len(t)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(s); i++ {
		before, last, row = last, row, make([]int, len(t)+1)
		row[0] = i
		for j := 1; j <= len(t); j++ {
			cost := 1
			if s[i-1] == t[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && s[i-1] == t[j-2] && s[i-2] == t[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(t)]
}

// DidYouMean returns `; did you mean "x"?` with the nearest name, or nothing when none is near.
func DidYouMean(word string, names []string) string {
	if n := nearest(word, names); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}
