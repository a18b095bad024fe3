// Package index walks an archive of scans and writes a table of what it holds, one row a series. Of every file only
// the header is read. What is known of a folder is kept in a journal beside the table at once, so that an index that
// was stopped goes on where it was.
package index

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/gofrs/flock"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/data/scan"
)

// Options set an index.
type Options struct {
	Dir       string // what is indexed
	Table     string // the CSV to write
	PlainUIDs bool   // UIDs as they are, not their hashes
	Jobs      int    // files that are read at a time; 0: twice as many as processors, at least 8

	// Found is called with the number of files that were found, Done with that of files looked at; of folders that
	// the journal knows neither is. Both may be called by several goroutines at once. Nil: not called.
	Found, Done func(files int)
}

// Summary is what an index found.
type Summary struct {
	Table    string `json:"table"`
	Series   int    `json:"series"`
	Studies  int    `json:"studies"`
	Patients int    `json:"patients"`
	Files    int    `json:"files"`
	Other    int    `json:"other_files"`       // neither DICOM nor NIfTI, or no slices of a volume
	Failed   int    `json:"unusable_series"`   // listed with the reason
	Damaged  int    `json:"damaged_files"`     // listed in Skipped
	Skipped  string `json:"skipped,omitempty"` // the table of the damaged files and unreadable folders
	Resumed  int    `json:"resumed_folders"`   // that an interrupted run had looked at
}

// JournalOf is where the index that becomes table keeps what it knows so far.
func JournalOf(table string) string { return table + ".partial" }

// skippedOf is the table of files that cannot be read.
func skippedOf(table string) string {
	return strings.TrimSuffix(table, filepath.Ext(table)) + ".skipped.csv"
}

// job is a folder to look at.
type job struct {
	dir   string
	stamp stamp
}

// Build makes the index. When ctx ends it stops and keeps what it has; the same call goes on from there.
//
// Rows are sorted by path. Paths are relative to the table's folder where they lie in it, else absolute. Patients are
// numbered in the order of the rows; nothing else about them is kept. A series is a row in each folder that holds
// files of it, with a warning where there are several.
func Build(ctx context.Context, o Options) (*Summary, error) {
	if o.Jobs <= 0 {
		o.Jobs = max(8, 2*runtime.GOMAXPROCS(0))
	}
	for _, f := range []*func(int){&o.Found, &o.Done} {
		if *f == nil {
			*f = func(int) {}
		}
	}
	b, err := newBuilder(o)
	if err != nil {
		return nil, err
	}
	lock := flock.New(JournalOf(o.Table) + ".lock")
	if ok, err := lock.TryLock(); err != nil {
		return nil, fmt.Errorf("cannot lock the index %s: %w", o.Table, err)
	} else if !ok {
		return nil, fmt.Errorf("another process is writing the index %s: wait for it, or choose another table", o.Table)
	}
	defer func() {
		os.Remove(lock.Path()) // before it is given up: another process then makes its own
		lock.Unlock()
	}()
	if b.j, err = openJournal(JournalOf(o.Table), b.header); err != nil {
		return nil, fmt.Errorf("the index cannot be written: %w", err)
	}
	defer b.j.file.Close()
	folders, err := b.walk(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.finish(folders); err != nil {
		return nil, err
	}
	return &b.s, b.j.remove()
}

// builder is an index in the making.
type builder struct {
	o      Options
	header header
	own    []string // the index's own files, which are none of the archive's
	base   string   // the folder that relative paths of the table start from
	j      *journal
	s      Summary
}

func newBuilder(o Options) (*builder, error) {
	root, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	table, err := filepath.Abs(o.Table)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(root); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a folder", o.Dir)
	}
	return &builder{
		o: o, header: header{journalFormat, root, o.PlainUIDs}, base: filepath.Dir(table), s: Summary{Table: o.Table},
		own: []string{table, JournalOf(table), JournalOf(table) + ".lock", skippedOf(table)},
	}, nil
}

// walk looks at every folder that the journal does not know and returns the stamps of all there are.
func (b *builder) walk(ctx context.Context) (map[string]stamp, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		queue   = newQueue()
		group   sync.WaitGroup
		writing sync.Mutex
		slots   = make(chan struct{}, b.o.Jobs)
	)
	for range b.o.Jobs {
		group.Go(func() {
			for {
				next, ok := queue.take()
				if !ok || ctx.Err() != nil {
					return
				}
				r := b.look(ctx, next, slots)
				if ctx.Err() != nil {
					return // r may be incomplete
				}
				writing.Lock()
				err := b.j.line(r)
				writing.Unlock()
				if err != nil {
					cancel(fmt.Errorf("the index cannot be written: %w", err))
				}
			}
		})
	}
	folders, err := b.list(ctx, queue)
	queue.close()
	group.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	return folders, err
}

// list puts the folders below root into the queue, but for those that the journal knows as they are.
func (b *builder) list(ctx context.Context, queue *queue) (map[string]stamp, error) {
	var tree scan.Tree
	folders := map[string]stamp{}
	dirs := []string{b.header.Dir}
	for len(dirs) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		dir := dirs[0]
		var at stamp
		if info, err := os.Stat(dir); err == nil {
			at.Changed = info.ModTime().UTC()
		}
		paths, below, err := tree.List(dir)
		if err != nil && dir == b.header.Dir {
			return nil, err
		}
		dirs = append(dirs[1:], below...)
		at.Entries = len(paths) + len(below)
		folders[dir] = at
		if was, ok := b.j.done[dir]; ok && was == at {
			b.s.Resumed++
			continue
		}
		b.o.Found(len(paths))
		queue.put(job{dir, at})
	}
	return folders, nil
}

// look reads the headers of the files directly in a folder. slots bounds how many are read at a time.
func (b *builder) look(ctx context.Context, next job, slots chan struct{}) *record {
	r := &record{Folder: next.dir, Stamp: next.stamp}
	var tree scan.Tree
	paths, _, err := tree.List(next.dir)
	if err != nil {
		r.Damaged = append(r.Damaged, skipped{next.dir, err.Error()})
		return r
	}
	paths = slices.DeleteFunc(paths, func(p string) bool { return slices.Contains(b.own, p) })
	r.Files = len(paths)
	run := func(n int, f func(i int)) {
		var group sync.WaitGroup
		const share = 32 // files a goroutine is worth
		each := make(chan int)
		for range min(b.o.Jobs, (n+share-1)/share) {
			group.Go(func() {
				for i := range each {
					slots <- struct{}{}
					f(i)
					<-slots
					b.o.Done(1)
				}
			})
		}
		for i := range n {
			if ctx.Err() != nil {
				break
			}
			each <- i
		}
		close(each)
		group.Wait()
	}
	c := scan.FindFiles(next.dir, paths, run)
	r.take(c, b.o.PlainUIDs)
	for _, f := range c.Skipped {
		switch {
		case f.Damaged:
			r.Damaged = append(r.Damaged, skipped{f.Path, f.Reason})
		case !f.Archive:
			r.Other++
		case ctx.Err() == nil:
			r.open(f.Path, b.o.PlainUIDs)
		}
	}
	return r
}

// open looks into an archive.
func (r *record) open(path string, plain bool) {
	c, err := scan.Find(path)
	if err != nil {
		r.Damaged = append(r.Damaged, skipped{path, err.Error()})
		return
	}
	defer c.Close()
	from := len(r.Rows)
	r.take(c, plain)
	for i := range r.Rows[from:] {
		r.Rows[from+i].Path = path // a member cannot be named alone
	}
	for _, f := range c.Skipped {
		if f.Damaged {
			r.Damaged = append(r.Damaged, skipped{f.Path, f.Reason})
		} else {
			r.Other++
		}
	}
}

// take adds the rows of what a folder or an archive holds.
func (r *record) take(c *scan.Contents, plain bool) {
	rows := rowsOf(c, plain)
	damaged := 0
	for _, f := range c.Skipped {
		if f.Damaged {
			damaged++
		}
	}
	for i := range rows {
		if damaged > 0 && rows[i].Format == "dicom" {
			rows[i].Warnings = append(rows[i].Warnings, fmt.Sprintf("damaged files in the same folder (%d): slices may be missing", damaged))
		}
	}
	r.Rows = append(r.Rows, rows...)
}

// finish writes the table from the journal's last record of each folder that is there.
func (b *builder) finish(folders map[string]stamp) error {
	s := &b.s
	last := map[string]*record{}
	if _, err := b.j.each(b.header, func(r *record) {
		if at, ok := folders[r.Folder]; ok && at == r.Stamp {
			last[r.Folder] = r
		}
	}); err != nil {
		return err
	}
	var rows []row
	var bad []skipped
	for _, r := range last {
		s.Files += r.Files
		s.Other += r.Other
		rows = append(rows, r.Rows...)
		bad = append(bad, r.Damaged...)
	}
	for i := range rows {
		rows[i].Path = below(b.base, rows[i].Path)
	}
	slices.SortFunc(rows, compareRows)
	slices.SortFunc(bad, func(a, b skipped) int { return strings.Compare(a.Path, b.Path) })
	warnOfSpread(rows)
	s.Series, s.Damaged = len(rows), len(bad)
	if len(bad) > 0 {
		s.Skipped = skippedOf(b.o.Table)
		if err := writeCSV(s.Skipped, []string{"path", "reason"}, len(bad), func(i int) []string { return []string{bad[i].Path, bad[i].Reason} }); err != nil {
			return err
		}
	} else if err := os.Remove(skippedOf(b.o.Table)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // one of an earlier index would mislead
	}
	patients, studies := map[uint64]string{}, map[string]bool{}
	for i := range rows {
		r := &rows[i]
		if r.Study != "" {
			studies[r.Study] = true
		}
		if r.Err != "" {
			s.Failed++
		}
		if _, ok := patients[r.Patient]; !ok && r.Patient != 0 {
			patients[r.Patient] = fmt.Sprintf("p%06d", len(patients)+1)
		}
	}
	s.Studies, s.Patients = len(studies), len(patients)
	var head []string
	cols := columns()
	for _, c := range cols {
		head = append(head, c.name)
	}
	return writeCSV(b.o.Table, head, len(rows), func(i int) []string {
		cells := make([]string, len(cols))
		for k, c := range cols {
			cells[k] = c.value(&rows[i], patients[rows[i].Patient])
		}
		return cells
	})
}

// warnOfSpread notes in the rows of a series that it lies in several folders. rows are sorted.
func warnOfSpread(rows []row) {
	of := map[string][]int{}
	for i := range rows {
		if rows[i].Series != "" {
			of[rows[i].Series] = append(of[rows[i].Series], i)
		}
	}
	for _, list := range of {
		for k, i := range list {
			if len(list) > 1 {
				other := list[0]
				if k == 0 {
					other = list[1]
				}
				rows[i].Warnings = append(rows[i].Warnings, fmt.Sprintf("files of the series also lie in %s: a copy, or slices are missing here", filepath.ToSlash(rows[other].Path)))
			}
		}
	}
}

// below returns path relative to base when it lies in it.
func below(base, path string) string {
	if rel, err := filepath.Rel(base, path); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return rel
	}
	return path
}

func writeCSV(path string, head []string, n int, cells func(i int) []string) error {
	return atomicfile.Write(path, func(w io.Writer) error {
		table := csv.NewWriter(w)
		if err := table.Write(head); err != nil {
			return err
		}
		for i := range n {
			if err := table.Write(cells(i)); err != nil {
				return err
			}
		}
		table.Flush()
		return table.Error()
	})
}
