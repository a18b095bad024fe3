package config

import "strings"

// Problem is one fault of a configuration.
type Problem struct {
	Where string // "FILE:LINE", "--set", or the environment variable; empty when it is not one place
	Key   string // dotted key; empty when the fault is not that of one key
	Text  string // what is wrong, what is allowed
}

// String returns the problem on one line.
func (p Problem) String() string {
	var parts []string
	for _, s := range []string{p.Where, p.Key, p.Text} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Problems is the error of a configuration that cannot be used: every fault that was found.
type Problems []Problem

// Error returns one line a problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// err returns the problems as an error: nil when there are none.
func (ps Problems) err() error {
	if len(ps) == 0 {
		return nil
	}
	return ps
}
