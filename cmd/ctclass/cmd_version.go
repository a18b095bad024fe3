package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
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
	_, err := fmt.Fprintf(app.out, "ctclass %s %s %s/%s\n", ctclassVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

// ctclassVersion is the version that the program was built from.
func ctclassVersion() string {
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && version == "(devel)" {
				version = "devel " + s.Value
			}
		}
	}
	return version
}
