package kerneltable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/kernels"
)

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "table.json")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a table that is not there: %v", err)
	}
	table := New(kernels.Best())
	empty := table.ID()
	table.Convolutions["a shape"] = kernels.ConvChoice{kernels.Direct, kernels.Winograd2, kernels.Winograd4}
	if err := table.Write(path); err != nil {
		t.Fatal(err)
	}
	read, err := Open(path, kernels.Best())
	if err != nil || !reflect.DeepEqual(read, table) {
		t.Errorf("read %+v, want %+v (%v)", read, table, err)
	}
	if read.ID() != table.ID() || table.ID() == empty || (*Table)(nil).ID() != Default {
		t.Errorf("IDs %s, %s, %s", read.ID(), table.ID(), empty)
	}
	if none, err := Open(Default, kernels.Best()); err != nil || none.Tuning() != nil {
		t.Errorf("the usual choices: %v, %v", none, err)
	}
}

func TestBrokenFiles(t *testing.T) {
	for _, content := range []string{"", "[]", `{"version": 2}`, `{"version": 1, "more": 0}`, `{"version": 1, "convolutions": {"x": ["fast"]}}`} {
		path := filepath.Join(t.TempDir(), "table.json")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, kernels.Best()); exitcode.Of(err) != exitcode.Usage {
			t.Errorf("%q: %v", content, err)
		}
	}
}
