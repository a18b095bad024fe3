package predict

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/ctclass/ctclass/internal/exitcode"
)

// Journal keeps the answers of a run in files that grow by a line for each answer, so that a run which is
// interrupted, or killed, can go on where it stopped.
type Journal struct {
	p     *Predictor
	files []*journalFile
	// Done are the paths whose answers the files held when they were opened; Failed counts their answers with an
	// error, Answers all of them.
	Done            map[string]bool
	Answers, Failed int
}

// journalFile is a file of answers in one format.
type journalFile struct {
	path  string
	csv   bool
	file  *os.File
	lines []journalLine // that it held when it was opened
	start int64         // where they begin
}

// journalLine is an answer in a file.
type journalLine struct {
	path   string
	failed bool
	end    int64 // offset behind it
}

// OpenJournal opens files of answers, in CSV and as JSON lines; "" is none. With resume it goes on with what they
// hold: half a line at the end, and lines that only one of the two has, are cut off, and so are, where a scan gives
// several answers (several), all of the last scan, which may be incomplete. Files of another model, or with
// anything but answers, are refused. Without resume a file with content is refused.
func (p *Predictor) OpenJournal(csvPath, jsonPath string, resume, several bool) (*Journal, error) {
	j := &Journal{p: p, Done: map[string]bool{}}
	for _, f := range []*journalFile{{path: csvPath, csv: true}, {path: jsonPath}} {
		if f.path == "" {
			continue
		}
		if err := j.open(f, resume); err != nil {
			j.Close()
			return nil, err
		}
	}
	if err := j.agree(several); err != nil {
		j.Close()
		return nil, err
	}
	return j, nil
}

func (j *Journal) open(f *journalFile, resume bool) (err error) {
	if f.file, err = os.OpenFile(f.path, os.O_RDWR|os.O_CREATE, 0o666); err != nil {
		return exitcode.Errorf(exitcode.Usage, "the answers cannot be written: %w", err)
	}
	j.files = append(j.files, f)
	info, err := f.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 && !resume {
		return exitcode.Errorf(exitcode.Usage, "%s is there already: go on with it with --resume, remove it, or name another file", f.path)
	}
	if f.csv {
		err = f.scanCSV(j.p, info.Size())
	} else {
		err = f.scanJSON(j.p)
	}
	if err != nil {
		return exitcode.Errorf(exitcode.Usage, "cannot resume with %s: %w", f.path, err)
	}
	return nil
}

// errOtherModel says that a file's answers are another model's.
var errOtherModel = errors.New("its answers are those of another model")

// scanCSV lists the complete lines of a CSV file.
func (f *journalFile) scanCSV(p *Predictor, size int64) error {
	header, err := csvText(p.csvHeader())
	if err != nil {
		return err
	}
	f.start = int64(len(header))
	begin := make([]byte, min(size, f.start))
	if _, err := io.ReadFull(f.file, begin); err != nil {
		return err
	}
	if !bytes.Equal(begin, header[:len(begin)]) {
		return errors.New("its columns are not those of this model's answers")
	}
	if size < f.start { // new, or cut within its first line
		_, err := f.file.WriteAt(header, 0)
		return err
	}
	r := csv.NewReader(f.file)
	r.FieldsPerRecord = len(p.csvHeader())
	r.ReuseRecord = true
	for {
		record, err := r.Read()
		end := f.start + r.InputOffset()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			if end >= size { // the last line, cut off
				return nil
			}
			return fmt.Errorf("line %d is no answer: %w", len(f.lines)+2, err)
		}
		last := make([]byte, 1)
		if _, err := f.file.ReadAt(last, end-1); err != nil || last[0] != '\n' {
			return err
		}
		n := len(record)
		if record[n-3] != p.ID() {
			return errOtherModel
		}
		f.lines = append(f.lines, journalLine{record[0], record[n-1] != "", end})
	}
}

// scanJSON lists the complete lines of a file of JSON lines.
func (f *journalFile) scanJSON(p *Predictor) error {
	in := bufio.NewReader(f.file)
	end := 0
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) { // what is left is cut off
			return nil
		}
		if err != nil {
			return err
		}
		end += len(line)
		var r struct {
			Path  *string `json:"path"`
			Model string  `json:"model"`
			Error *string `json:"error"`
		}
		if err := json.Unmarshal(line, &r); err != nil || r.Path == nil {
			return fmt.Errorf("line %d is no answer", len(f.lines)+1)
		}
		if r.Model != p.ID() {
			return errOtherModel
		}
		f.lines = append(f.lines, journalLine{*r.Path, r.Error != nil, int64(end)})
	}
}

// agree cuts all files to the answers that stay.
func (j *Journal) agree(several bool) error {
	if len(j.files) == 0 {
		return nil
	}
	keep := len(j.files[0].lines)
	for _, f := range j.files {
		keep = min(keep, len(f.lines))
	}
	lines := j.files[0].lines[:keep]
	for _, f := range j.files {
		if !slices.EqualFunc(lines, f.lines[:keep], func(a, b journalLine) bool { return a.path == b.path }) {
			return exitcode.Errorf(exitcode.Usage, "cannot resume: %s and %s hold answers for different scans", j.files[0].path, f.path)
		}
	}
	if several && keep > 0 {
		last := lines[keep-1].path
		for keep > 0 && lines[keep-1].path == last {
			keep--
		}
	}
	for _, l := range lines[:keep] {
		j.Done[l.path] = true
		j.Answers++
		if l.failed {
			j.Failed++
		}
	}
	for _, f := range j.files {
		end := f.start
		if keep > 0 {
			end = f.lines[keep-1].end
		}
		f.lines = nil
		if err := f.file.Truncate(end); err != nil {
			return err
		}
		if _, err := f.file.Seek(end, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// Append adds an answer to the files, as a whole line in one write each.
func (j *Journal) Append(r Result) error {
	for _, f := range j.files {
		var text []byte
		var err error
		if f.csv {
			text, err = csvText(j.p.csvLine(r))
		} else {
			var b bytes.Buffer
			err = j.p.WriteJSON(&b, r)
			text = b.Bytes()
		}
		if err != nil {
			return err
		}
		if _, err := f.file.Write(text); err != nil {
			var p *fs.PathError
			if errors.As(err, &p) {
				err = p.Err
			}
			return fmt.Errorf("cannot write %s: %w (--resume goes on from here)", f.path, err)
		}
	}
	return nil
}

// Close closes the files.
func (j *Journal) Close() error {
	var errs []error
	for _, f := range j.files {
		errs = append(errs, f.file.Close())
	}
	return errors.Join(errs...)
}
