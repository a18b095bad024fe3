package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/exitcode"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"ctclass": main})
}

// TestScripts runs the real program as testdata/script describes. exits N CMD runs a command and wants its exit
// code to be N; TESTFILES is a folder with files of PyTorch.
func TestScripts(t *testing.T) {
	testFiles, err := filepath.Abs("../../internal/weights/testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("TESTFILES", testFiles)
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
				}
				got := "0"
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var exit interface{ ExitCode() int }
					if !errors.As(err, &exit) {
						ts.Fatalf("%v", err)
					}
					got = fmt.Sprint(exit.ExitCode())
				}
				if got != args[0] {
					ts.Fatalf("exit code %s, want %s", got, args[0])
				}
			},
		},
	})
}

// TestExecute checks how the ends of a command become an exit code and a message.
func TestExecute(t *testing.T) {
	for _, tt := range []struct {
		name    string
		run     func(ctx context.Context) error
		environ []string
		code    int
		want    string // of standard error, exactly unless environ is set
	}{
		{"done", func(context.Context) error { return nil }, nil, 0, ""},
		{"plain error", func(context.Context) error { return errors.New("disk full") }, nil, 1, "ctclass: disk full\n"},
		{"no input", func(context.Context) error { return exitcode.Errorf(exitcode.NoInput, "nothing here") }, nil, 3, "ctclass: nothing here\n"},
		{"memory", func(context.Context) error {
			return fmt.Errorf("train: %w", exitcode.Errorf(exitcode.Memory, "needs 9 GiB"))
		}, nil, 5, "ctclass: train: needs 9 GiB\n"},
		{"interrupted", func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("step 3: %w", ctx.Err()) }, nil, 130, "ctclass: interrupted\n"},
		{"panic", func(context.Context) error { panic("index out of range") }, nil, 1, "ctclass: internal error: index out of range (a fault of ctclass; CTCLASS_DEBUG=1 shows where it happened)\n"},
		{"panic with stack", func(context.Context) error { panic("boom") }, []string{"CTCLASS_DEBUG=1"}, 1, "main_test.go"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			var out, errw bytes.Buffer
			cmd := &cobra.Command{Use: "try", RunE: func(cmd *cobra.Command, _ []string) error { return tt.run(cmd.Context()) }}
			code := execute(ctx, newApp(&out, &errw, tt.environ), []string{"try"}, cmd)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if got := errw.String(); tt.environ == nil && got != tt.want || !strings.Contains(got, tt.want) {
				t.Errorf("standard error %q, want %q", got, tt.want)
			}
			if out.Len() > 0 {
				t.Errorf("standard output %q", out.String())
			}
		})
	}
}

func TestLogging(t *testing.T) {
	for flags, want := range map[string]string{
		"":                  "info warn error",
		"--log-level=debug": "debug info warn error",
		"--log-level=error": "error",
		"--quiet":           "error",
	} {
		var errw bytes.Buffer
		app := newApp(&errw, &errw, nil)
		cmd := &cobra.Command{Use: "try", RunE: func(*cobra.Command, []string) error {
			app.log.Debug("debug")
			app.log.Info("info")
			app.log.Warn("warn")
			app.log.Error("error")
			return nil
		}}
		if code := execute(t.Context(), app, strings.Fields("try "+flags), cmd); code != 0 {
			t.Fatal(errw.String())
		}
		var got []string
		for _, line := range strings.Split(strings.TrimSpace(errw.String()), "\n") {
			got = append(got, line[strings.LastIndexByte(line, ' ')+1:])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q shows %q, want %q", flags, got, want)
		}
	}
}

// TestCommandsAreComplete holds every command to the house pattern.
func TestCommandsAreComplete(t *testing.T) {
	var errw bytes.Buffer
	var check func(cmds []*cobra.Command)
	check = func(cmds []*cobra.Command) {
		for _, c := range cmds {
			if c.Short == "" || c.RunE == nil || c.Args == nil || c.Run != nil {
				t.Errorf("%q: wants Short, Args and RunE, and no Run", c.CommandPath())
			}
			check(c.Commands())
		}
	}
	check(commands(newApp(&errw, &errw, nil)))
}

// TestReadyConfigurations checks every file of configs as ctclass config check does: a change of one that others include
// must fit those too.
func TestReadyConfigurations(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("%d configurations, %v", len(files), err)
	}
	for _, file := range files {
		var out, errw bytes.Buffer
		app := newApp(&out, &errw, nil)
		if code := execute(t.Context(), app, []string{"config", "check", file}, commands(app)...); code != 0 {
			t.Errorf("%s: exit code %d: %s", filepath.Base(file), code, errw.String())
		}
	}
}

// TestPredictDefaults: what the demo predicts with is what the command accepts.
func TestPredictDefaults(t *testing.T) {
	if err := predictDefaults().check(); err != nil {
		t.Error(err)
	}
}
