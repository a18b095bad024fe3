package index

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// journal keeps what is known of each folder as soon as it is known, a line of JSON each, so that an index that is
// stopped, however hard, goes on where it was. A line that was cut is dropped.
type journal struct {
	path string
	file *os.File
	done map[string]stamp // folders whose record is complete
}

// header is the first line of a journal.
type header struct {
	Format int
	Dir    string // the folder that is indexed
	Plain  bool   // plain UIDs
}

const journalFormat = 1

// stamp tells whether a folder has changed since.
type stamp struct {
	Changed time.Time
	Entries int
}

// record is what a folder holds.
type record struct {
	Folder  string
	Stamp   stamp
	Files   int
	Rows    []row     `json:",omitempty"`
	Damaged []skipped `json:",omitempty"`
	Other   int       // files that are no scans
}

// skipped is a file or folder that cannot be read.
type skipped struct{ Path, Reason string }

// openJournal opens the journal at path, or begins it.
func openJournal(path string, h header) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{path: path, file: f, done: map[string]stamp{}}
	end, err := j.each(h, func(r *record) { j.done[r.Folder] = r.Stamp })
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err == nil && end == 0 {
		err = j.line(h)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

// each calls f for every whole record and returns where the last one ends, 0 when there is not even a header.
func (j *journal) each(h header, f func(r *record)) (end int64, err error) {
	if _, err := j.file.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(j.file, 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return end, nil // what follows the last line end was cut
		}
		if err != nil {
			return 0, err
		}
		if end == 0 {
			var was header
			if err := json.Unmarshal(line, &was); err != nil || was.Format != journalFormat {
				return 0, fmt.Errorf("%s is no unfinished index of this version: remove it to begin anew", j.path)
			}
			if was != h {
				return 0, fmt.Errorf("%s is the unfinished index of %s with other options: finish that one, or remove the file to begin anew", j.path, was.Dir)
			}
		} else {
			var r record
			if err := json.Unmarshal(line, &r); err != nil {
				return end, nil // the disk lost a part of it: what follows is made again
			}
			f(&r)
		}
		end += int64(len(line))
	}
}

// line appends one line, in one write.
func (j *journal) line(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(b, '\n'))
	return err
}

// remove ends the journal.
func (j *journal) remove() error {
	return errors.Join(j.file.Close(), os.Remove(j.path))
}
