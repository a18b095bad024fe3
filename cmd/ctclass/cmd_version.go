package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/runs"
)

func newVersionCommand(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of ctclass",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVersion(cmd.Context(), app)
		},
	}
}

func runVersion(_ context.Context, app *app) error {
	_, err := fmt.Fprintf(app.out, "ctclass %s %s %s/%s\n", runs.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
