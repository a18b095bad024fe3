package data

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
)

// table is a delimited text file with a header line, several with the same columns, or what stands for them.
type table struct {
	file    string // for messages: the file, or the pattern that names several
	columns []string
	rows    [][]string // cells without surrounding spaces
	origin  []origin   // of each row
	joined  *joined    // nil: every column is the file's own
}

// origin is where a row was written.
type origin struct {
	file string
	line int // from 1; 0: nowhere in the file
}

func (o origin) String() string {
	if o.line == 0 {
		return o.file
	}
	return fmt.Sprintf("%s: line %d", o.file, o.line)
}

// both names two rows.
func (t *table) both(i, j int) string {
	a, b := t.origin[i], t.origin[j]
	if a.file == b.file && a.line > 0 {
		return fmt.Sprintf("%s: lines %d and %d", a.file, a.line, b.line)
	}
	return fmt.Sprintf("%v and %v", a, b)
}

// readTables reads the CSV or TSV file of that name, or, where there is none, all files that the name is a pattern
// of (with *, ? or [...]), one below the other; they must have the same columns.
func readTables(name string) (*table, error) {
	if _, err := os.Stat(name); err == nil || !strings.ContainsAny(name, "*?[") {
		return readTable(name)
	}
	names, err := filepath.Glob(name)
	if err != nil {
		return nil, fmt.Errorf("the pattern %s is malformed: %w", name, err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no table is named by the pattern %s", name)
	}
	all := &table{file: name}
	for i, file := range names {
		t, err := readTable(file)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			all.columns = t.columns
		}
		if !slices.Equal(t.columns, all.columns) {
			return nil, fmt.Errorf("%s and %s do not have the same columns: %s and %s", names[0], file,
				strings.Join(quoteAll(all.columns), ", "), strings.Join(quoteAll(t.columns), ", "))
		}
		all.rows = append(all.rows, t.rows...)
		all.origin = append(all.origin, t.origin...)
	}
	return all, nil
}

// readTable reads a CSV or TSV file: cells separated by commas, tabs or semicolons, quoted where
// needed, UTF-8 with or without byte order mark. Rows without any content are left out.
func readTable(file string) (*table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("opening the data set table: %w", err)
	}
	defer f.Close()
	br := bufio.NewReaderSize(f, 1<<16)
	head, err := br.Peek(1 << 14)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("reading the data set table %s: %w", file, err)
	}
	if bytes.HasPrefix(head, []byte("\xff\xfe")) || bytes.HasPrefix(head, []byte("\xfe\xff")) || bytes.IndexByte(head, 0) >= 0 {
		return nil, fmt.Errorf("%s is not UTF-8 text: save the table as CSV in UTF-8", file)
	}
	if bom := []byte("\ufeff"); bytes.HasPrefix(head, bom) {
		head = head[len(bom):]
		br.Discard(len(bom))
	}
	r := csv.NewReader(br)
	r.Comma = separator(head)
	t := &table{file: file}
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if t.columns == nil {
			t.columns = cells
			continue
		}
		if slices.IndexFunc(cells, func(c string) bool { return c != "" }) < 0 {
			continue
		}
		line, _ := r.FieldPos(0)
		t.rows = append(t.rows, cells)
		t.origin = append(t.origin, origin{file, line})
	}
	if len(t.rows) == 0 {
		return nil, fmt.Errorf("%s holds no samples: want a header line and one line a scan", file)
	}
	return t, nil
}

// separator returns the most frequent of comma, tab and semicolon in the first line of text,
// outside quotes.
func separator(text []byte) rune {
	counts := map[rune]int{}
	quoted, seen := false, false
	for _, c := range string(text) {
		if c == '"' {
			quoted = !quoted
		}
		if (c == '\n' || c == '\r') && !quoted && seen {
			break
		}
		if c != '\n' && c != '\r' {
			seen = true
		}
		if !quoted {
			counts[c]++
		}
	}
	best := ','
	for _, c := range "\t;" {
		if counts[c] > counts[best] {
			best = c
		}
	}
	return best
}

func (t *table) has(column string) bool { return slices.Contains(t.columns, column) }

// column returns the index of a column; key is the configuration key that asks for it.
func (t *table) column(name, key string) (int, error) {
	i := slices.Index(t.columns, name)
	if i < 0 {
		return 0, fmt.Errorf("%s has no column %q (%s)%s; its columns are %s", t.file, name, key,
			config.DidYouMean(name, t.columns), strings.Join(quoteAll(t.columns), ", "))
	}
	if slices.Contains(t.columns[i+1:], name) {
		return 0, fmt.Errorf("%s has two columns %q (%s): rename one", t.file, name, key)
	}
	return i, nil
}

// cellError describes a cell that cannot be used.
func (t *table) cellError(row, col int, want string) error {
	at := t.origin[row]
	if j := t.joined; j != nil && col >= j.from {
		at = j.index.origin[j.row[row]]
	}
	return fmt.Errorf("%v, column %q: value %q is not %s", at, t.columns[col], t.rows[row][col], want)
}

func quoteAll(names []string) []string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = strconv.Quote(n)
	}
	return q
}
