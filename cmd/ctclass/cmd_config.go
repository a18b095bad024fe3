package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/train"
)

func newConfigCommand(app *app) *cobra.Command {
	cmd := group(&cobra.Command{
		Use:     "config",
		Short:   "Check and explain configuration files",
		Example: "  ctclass config explain preprocess",
	})
	cmd.AddCommand(newConfigCheckCommand(app), newConfigSchemaCommand(app), newConfigExplainCommand(app))
	return cmd
}

type configCheckOptions struct {
	configFlags
	print bool
}

func newConfigCheckCommand(app *app) *cobra.Command {
	var opts configCheckOptions
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Say whether a configuration can be used, and every problem if not",
		Example: `  ctclass config check configs/quickstart.yaml
  ctclass config check configs/quickstart.yaml --set train.epochs=20 --print`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.path = args[0]
			return runConfigCheck(cmd.Context(), app, opts)
		},
	}
	opts.addSets(cmd)
	cmd.Flags().BoolVar(&opts.print, "print", false, "print the whole configuration as it is resolved, with defaults, includes and overrides")
	return cmd
}

func runConfigCheck(_ context.Context, app *app, opts configCheckOptions) error {
	c, err := app.loadConfig(opts.configFlags)
	if err != nil {
		return err
	}
	if err := train.Check(c); err != nil {
		return err
	}
	if !opts.print {
		_, err = fmt.Fprintf(app.out, "%s: ok\n", opts.path)
		return err
	}
	text, err := config.Marshal(c)
	if err != nil {
		return err
	}
	_, err = app.out.Write(text)
	return err
}

func newConfigSchemaCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:     "schema",
		Short:   "Print the JSON schema of a configuration, for editors",
		Example: "  ctclass config schema > ctclass.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runConfigSchema(cmd.Context(), app)
		},
	}
}

func runConfigSchema(_ context.Context, app *app) error {
	text, err := config.Schema(app.names())
	if err != nil {
		return err
	}
	_, err = app.out.Write(text)
	return err
}

type configExplainOptions struct {
	key string // empty: everything
}

func newConfigExplainCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain [KEY]",
		Short: "Explain a key, a section, or every key",
		Example: `  ctclass config explain train.schedule
  ctclass config explain preprocess.hu_window`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var opts configExplainOptions
			if len(args) == 1 {
				opts.key = args[0]
			}
			return runConfigExplain(cmd.Context(), app, opts)
		},
	}
}

func runConfigExplain(_ context.Context, app *app, opts configExplainOptions) error {
	text, err := config.Explain(opts.key, app.names())
	if err != nil {
		return exitcode.Wrap(exitcode.Usage, err)
	}
	_, err = io.WriteString(app.out, text)
	return err
}
