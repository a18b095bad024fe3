// Package exitcode holds the exit codes of ctclass, which scripts rely on, and the error that carries one from
// where a command fails to where the process ends.
package exitcode

import (
	"context"
	"errors"
	"fmt"
)

// The exit codes.
const (
	Done        = 0
	Internal    = 1   // a fault of ctclass or of the machine
	Usage       = 2   // wrong arguments or configuration
	NoInput     = 3   // no input could be used
	SomeFailed  = 4   // some inputs failed, the others are done
	Memory      = 5   // not enough memory
	Interrupted = 130 // stopped by a signal
)

// Error is an error with the exit code that it leads to.
type Error struct {
	Code int
	Err  error
}

// Error returns the text of the error inside.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error inside.
func (e *Error) Unwrap() error { return e.Err }

// Wrap gives err an exit code; nil stays nil.
func Wrap(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Code: code, Err: err}
}

// Errorf makes an error with an exit code, as fmt.Errorf does.
func Errorf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// Of returns the exit code of err: Done for nil, Interrupted for a cancelled context wherever it was noticed,
// the code of the outermost Error, and Internal for every other error.
func Of(err error) int {
	var e *Error
	switch {
	case err == nil:
		return Done
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.As(err, &e):
		return e.Code
	}
	return Internal
}
