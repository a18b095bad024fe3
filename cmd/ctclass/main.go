// Command ctclass trains, evaluates and applies classifiers of 3D CT scans.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	app := newApp(os.Stdout, os.Stderr, os.Environ())
	code := execute(ctx, app, os.Args[1:], commands(app)...)
	stop()
	os.Exit(code)
}

// execute runs one command line and returns the exit code. It is the only place where errors become codes.
func execute(ctx context.Context, app *app, args []string, list ...*cobra.Command) (code int) {
	defer func() {
		if r := recover(); r != nil {
			reportPanic(app.err, r, app.debug())
			code = exitcode.Internal
		}
	}()
	root := newRootCommand(app, list...)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !app.running {
		// The command line itself was wrong: no command has begun.
		err = exitcode.Errorf(exitcode.Usage, "%w (see %q)", err, cmd.CommandPath()+" --help")
	}
	code = exitcode.Of(err)
	switch code {
	case exitcode.Done:
	case exitcode.Interrupted:
		fmt.Fprintln(app.err, "ctclass: interrupted")
	default:
		fmt.Fprintf(app.err, "ctclass: %v\n", err)
	}
	return code
}

// reportPanic turns a fault of ctclass into one sentence; the stack is for those who ask for it.
func reportPanic(w io.Writer, fault any, withStack bool) {
	fmt.Fprintf(w, "ctclass: internal error: %v (a fault of ctclass; CTCLASS_DEBUG=1 shows where it happened)\n", fault)
	if withStack {
		fmt.Fprintf(w, "%s", debug.Stack())
	}
}
