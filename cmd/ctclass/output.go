package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/ctclass/ctclass/internal/exitcode"
)

// newTable returns a table of plain columns that prints as it is given; columns named in right are aligned
// to the right.
func newTable(header []string, right ...string) table.Writer {
	t := table.NewWriter()
	style := table.StyleLight
	style.Format.Header = text.FormatDefault
	style.Options.DrawBorder, style.Options.SeparateColumns = false, false
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	row := make(table.Row, len(header))
	for i, h := range header {
		row[i] = h
	}
	t.AppendHeader(row)
	var columns []table.ColumnConfig
	for _, name := range right {
		columns = append(columns, table.ColumnConfig{Name: name, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}

// printTable writes a table without the blanks that end its lines.
func printTable(w io.Writer, t table.Writer) error {
	var b strings.Builder
	for line := range strings.Lines(t.Render() + "\n") {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printJSON writes one object on one line, names as they are.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// checkOutputFile says before the work whether a result can be written to path.
func checkOutputFile(flag, path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return exitcode.Errorf(exitcode.Usage, "%s %s is a folder: name a file", flag, path)
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || !info.IsDir() {
		return exitcode.Errorf(exitcode.Usage, "%s %s cannot be written: there is no folder %s", flag, path, filepath.Dir(path))
	}
	return nil
}

// failures turns the number of inputs that could not be used into the command's error.
func failures(failed, all int) error {
	switch failed {
	case 0:
		return nil
	case all:
		if all == 1 {
			return exitcode.Errorf(exitcode.NoInput, "the scan could not be used")
		}
		return exitcode.Errorf(exitcode.NoInput, "none of the %d scans could be used", all)
	}
	return exitcode.Errorf(exitcode.SomeFailed, "%d of %d scans could not be used", failed, all)
}

// triple shows sizes or spacings of d, h, w.
func triple[T any](v [3]T) string { return fmt.Sprintf("%v×%v×%v", v[0], v[1], v[2]) }

// orEmpty makes nil an empty list, so that JSON has [] and not null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
