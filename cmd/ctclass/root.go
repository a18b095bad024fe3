package main

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/losses"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/progress"
)

// commands lists all commands, in the order of the help. Each lives in its own file, cmd_NAME.go, in three parts:
//
//   - type nameOptions struct: its flags and arguments;
//   - func newNameCommand(app *app) *cobra.Command: fills the options, sets Args, and its RunE only calls
//   - func runName(ctx context.Context, app *app, opts nameOptions) error: the work. Results go to app.out,
//     messages to app.log, progress to app.progress.
//
// An error that is not a fault of ctclass carries its exit code (exitcode.Wrap, exitcode.Errorf). Work stops when
// ctx is cancelled and returns ctx.Err(), wrapped or not. Only main.go ends the process.
func commands(app *app) []*cobra.Command {
	return []*cobra.Command{
		newTrainCommand(app),
		newDoctorCommand(app),
		newTuneCommand(app),
		newEvalCommand(app),
		newCalibrateCommand(app),
		newDemoCommand(app),
		newRunsCommand(app),
		newPlanCommand(app),
		newBenchCommand(app),
		newTuneKernelsCommand(app),
		newPredictCommand(app),
		newInspectCommand(app),
		newIndexCommand(app),
		newSplitCommand(app),
		newCacheCommand(app),
		newPreviewCommand(app),
		newWeightsCommand(app),
		newExportCommand(app),
		newModelsCommand(app),
		newPhantomCommand(app),
		newConfigCommand(app),
		newVersionCommand(app),
	}
}

// app is what commands share.
type app struct {
	out, err io.Writer // standard output and standard error
	environ  []string
	log      *slog.Logger       // to standard error
	progress *progress.Reporter // to standard error
	running  bool               // the command line was right and its command has begun

	logLevel string
	quiet    bool
}

func newApp(out, errw io.Writer, environ []string) *app {
	a := &app{out: out, err: errw, environ: environ, logLevel: "info"}
	a.setLogging(slog.LevelInfo)
	return a
}

// setLogging makes the logger and the progress reporter, which share standard error.
func (a *app) setLogging(level slog.Level) {
	a.progress = progress.New(a.err, progress.ModeFor(a.err, a.quiet))
	a.log = slog.New(tint.NewTextHandler(a.progress.Writer(), &tint.Options{
		Level:      level,
		TimeFormat: "15:04:05",
		NoColor:    !progress.IsTerminal(a.err) || a.getenv("NO_COLOR") != "",
	}))
}

func (a *app) getenv(name string) string {
	for _, e := range slices.Backward(a.environ) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

func (a *app) debug() bool { return a.getenv("CTCLASS_DEBUG") == "1" }

// names are the models and losses that a configuration may name.
func (a *app) names() config.Names {
	return config.Names{Models: models.Names(), Losses: losses.Names(), Metrics: append(eval.MetricNames(), "loss")}
}

// configFlags are the flags of every command that reads a configuration.
type configFlags struct {
	path string
	sets []string
}

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&f.path, "config", "c", "", "configuration `FILE` (YAML)")
	f.addSets(cmd)
}

func (f *configFlags) addSets(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "set `key=value` over the configuration; may be repeated")
}

// loadConfig reads and checks the configuration that the flags and the environment describe.
func (a *app) loadConfig(f configFlags) (*config.Config, error) {
	c, err := config.Source{Path: f.path, Sets: f.sets, Environ: a.environ, Known: a.names()}.Load()
	if err != nil {
		return nil, exitcode.Errorf(exitcode.Usage, "the configuration cannot be used:\n%w", err)
	}
	return c, nil
}

const rootLong = `ctclass trains, evaluates and applies classifiers of 3D CT scans.

Exit codes: 0 done, 1 internal error, 2 usage or configuration, 3 no input could be used,
4 some inputs failed, 5 not enough memory, 130 interrupted.`

func newRootCommand(a *app, list ...*cobra.Command) *cobra.Command {
	root := &cobra.Command{
		Use:           "ctclass",
		Short:         "Train, evaluate and apply classifiers of 3D CT scans",
		Long:          rootLong,
		Example:       examples(list),
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
			level, ok := levels[a.logLevel]
			if !ok {
				return fmt.Errorf("--log-level %q is not known, allowed: debug, info, warn, error", a.logLevel)
			}
			if a.quiet {
				level = max(level, slog.LevelError)
			}
			a.setLogging(level)
			return nil
		},
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.logLevel, "log-level", a.logLevel, "lowest level of messages that is shown: debug, info, warn, error")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "show errors only, and no progress")
	root.AddCommand(list...)
	group(root)
	for _, c := range list {
		a.track(c)
	}
	return root
}

// examples gathers the first example of each command for the root's help.
func examples(list []*cobra.Command) string {
	var lines []string
	for _, c := range list {
		first, _, _ := strings.Cut(c.Example, "\n")
		if first != "" {
			lines = append(lines, first)
		}
	}
	return strings.Join(lines, "\n")
}

// group makes a command out of one that only holds others: without arguments it shows its help, with an unknown
// one it says so.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.SuggestionsMinimumDistance = 2
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("; did you mean %q?", near[0])
		}
		return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	return cmd
}

// track notes when a command begins: what fails before that is wrong usage.
func (a *app) track(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			a.running = true
			return run(cmd, args)
		}
	}
	for _, c := range cmd.Commands() {
		a.track(c)
	}
}
