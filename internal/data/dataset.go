package data

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data/cache"
	"github.com/ctclass/ctclass/internal/rng"
)

// The splits a sample can belong to.
const (
	Train = "train"
	Val   = "val"
	Test  = "test"
)

// The tasks a data set can pose.
const (
	Binary     = "binary"     // one label, 0 or 1
	Multilabel = "multilabel" // several labels, each 0 or 1
	Multiclass = "multiclass" // one of several classes
)

// Sample is one labelled scan.
type Sample struct {
	// ID names the sample in random streams: a hash of Name.
	ID uint64
	// Name is the identity of the sample, independent of where the data set lies: the path as
	// the table has it, with slashes, or the array and row of a MedMNIST archive.
	Name string
	// Path is the scan's file or folder, or the .npz archive that holds it.
	Path string
	// Series is the series of the path to read, a UID (or its hash, see scan.HashUID) or a number; empty: the one that
	// is chosen by default.
	Series string
	// Index is the row in the archive's image array; 0 for files.
	Index int
	// Group is what must stay within one split, normally the patient; Name where the table has no groups.
	Group string
	// Split is train, val or test.
	Split string
	// Target holds one value a label, 0 or 1 (binary: one label), or for multiclass the class
	// index alone; NaN where the value is missing.
	Target []float64

	array string // MedMNIST: the split whose image array holds the sample; Split may have become another one
}

// Dataset is the content of one data set table.
type Dataset struct {
	Task    string   // binary, multilabel or multiclass
	Labels  []string // label names; multiclass: class names
	Samples []Sample // in the order of the table
	Missing []Sample // left out because their file is gone (on_error: skip)
	// Unmatched lists the rows of labels that data.index has no scan for (on_error: skip).
	Unmatched []Unmatched
	Warnings  []string // what the reader should know but can live with

	images   map[string]images // MedMNIST volumes by array
	metadata map[uint64]facts  // by sample ID; nil without data.metadata
	store    *cache.Store      // nil without a cache on disk
	table    *table            // nil for MedMNIST
	row      map[uint64]int    // of the table, by sample ID
}

// Unmatched is a row that no sample was made of.
type Unmatched struct{ Row, Reason string }

// Subset returns the samples of a split in the order of the table.
func (d *Dataset) Subset(split string) []Sample {
	var s []Sample
	for i := range d.Samples {
		if d.Samples[i].Split == split {
			s = append(s, d.Samples[i])
		}
	}
	return s
}

// Column returns the cells of a column of the table for the given samples, and all different ones of the table.
func (d *Dataset) Column(name string, samples []Sample) (cells, all []string, err error) {
	if d.table == nil {
		return nil, nil, fmt.Errorf("a MedMNIST archive has no columns, so none named %q", name)
	}
	k, err := d.table.column(name, "eval.subgroups")
	if err != nil {
		return nil, nil, err
	}
	for _, s := range samples {
		cells = append(cells, d.table.rows[d.row[s.ID]][k])
	}
	for _, row := range d.table.rows {
		all = append(all, row[k])
	}
	slices.Sort(all)
	return cells, slices.Compact(all), nil
}

// Fingerprint returns the SHA-256, in hex, over the task, the label names and every sample's
// name, split and target, and what a metadata table says about it, in the order of the table. Two data sets with the same fingerprint pose
// the same problem; where the files lie and what they contain does not enter.
func (d *Dataset) Fingerprint() string {
	h := sha256.New()
	text := func(s string) {
		// The length in front keeps neighbouring texts apart.
		h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	count := func(n int) { h.Write(binary.LittleEndian.AppendUint64(nil, uint64(n))) }
	text(d.Task)
	count(len(d.Labels))
	for _, l := range d.Labels {
		text(l)
	}
	count(len(d.Samples))
	for _, s := range d.Samples {
		text(s.Name)
		text(s.Split)
		count(len(s.Target))
		for _, t := range s.Target {
			if math.IsNaN(t) {
				t = math.NaN() // one bit pattern for every NaN
			}
			h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(t)))
		}
		if f, ok := d.metadata[s.ID]; ok {
			for _, x := range []float64{f.slope, f.intercept, f.spacing[0], f.spacing[1], f.spacing[2]} {
				h.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(x)))
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Open reads the data set that c describes. Where the table has no split column, c.ValFraction of
// the samples become the validation split, chosen group by group from seed.
//
// The errors name the file and, where there is one, the line, the column and the value. A file
// that is gone is an error, or with c.OnError "skip" a warning and one in Dataset.Missing.
func Open(c config.Data, seed uint64) (*Dataset, error) {
	d, err := open(c, seed, nil)
	if err != nil {
		return nil, err
	}
	return d, d.keepFraction(c.Fraction, seed)
}

// Fault is something about a data set that Open refuses.
type Fault struct {
	Kind    FaultKind
	Subject string // the path of the missing scan, or the patient and its samples
}

// FaultKind says what a fault is.
type FaultKind int

// The kinds of faults.
const (
	FaultMissing FaultKind = iota // a scan that is not there; the sample is left out
	FaultLeak                     // a patient in two splits
)

// Examine is Open for those who want to know all that is wrong: missing scans and patients in two splits are no
// errors, but listed.
func Examine(c config.Data, seed uint64) (*Dataset, []Fault, error) {
	faults := []Fault{}
	d, err := open(c, seed, &faults)
	if err != nil {
		return nil, nil, err
	}
	return d, faults, d.keepFraction(c.Fraction, seed)
}

// open collects what it can in faults, unless that is nil.
func open(c config.Data, seed uint64, faults *[]Fault) (*Dataset, error) {
	if c.Table == "" {
		return nil, errors.New("data.table is empty: name a CSV or TSV table or a .npz archive")
	}
	if err := checkTask(c); err != nil {
		return nil, err
	}
	format := cmp.Or(c.Format, "auto")
	if format == "auto" && strings.EqualFold(filepath.Ext(c.Table), ".npz") {
		format = "medmnist"
	}
	if format == "medmnist" {
		if c.Metadata != "" {
			return nil, errors.New("data.metadata is set, but a MedMNIST archive has no use for it: leave it empty")
		}
		if c.GroupPattern != "" {
			return nil, errors.New("data.group_pattern is set, but the scans of a MedMNIST archive have no paths: leave it empty")
		}
		if c.Index != "" {
			return nil, errors.New("data.index is set, but a MedMNIST archive holds its scans itself: leave it empty")
		}
		d, err := openMedMNIST(c)
		if err != nil || c.SplitFile == "" {
			return d, err
		}
		return d, d.readSplits(c.SplitFile, c.Fold, faults)
	}
	var t *table
	var warnings []string
	var err error
	if format == "folder" {
		t, c, warnings, err = folderTable(c)
	} else if info, statErr := os.Stat(c.Table); statErr == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder: set data.format to folder when it holds a folder for each class, or name a table", c.Table)
	} else {
		t, err = readTables(c.Table)
	}
	if err == nil && c.Index != "" {
		t, err = t.join(c)
	}
	if err != nil {
		return nil, err
	}
	if format == "auto" {
		format = "table"
		if t.has(ctrateColumn) && (c.PathColumn == ctrateColumn || !t.has(pathColumn(c))) {
			format = "ctrate"
		}
	}
	var lay layout
	switch format {
	case "table", "folder":
		lay = tableLayout{}
	case "ctrate":
		lay = &ctrateLayout{}
	default:
		return nil, fmt.Errorf("data.format is %q: want auto, table, folder, medmnist or ctrate", c.Format)
	}
	d, err := openTable(c, t, seed, lay, faults)
	if err != nil {
		return nil, err
	}
	d.Warnings = append(d.Warnings, warnings...)
	return d, nil
}

// checkTask reports a task that is unknown or does not go with the number of labels given.
func checkTask(c config.Data) error {
	switch c.Task {
	case Binary:
		if len(c.Labels) > 1 {
			return fmt.Errorf("data.labels has %d names, but data.task is binary: give one label, or set data.task to multilabel", len(c.Labels))
		}
	case Multiclass:
		if len(c.Labels) == 1 {
			return errors.New("data.labels has one class name, but data.task is multiclass: give all classes, or none to take them from the data")
		}
	case Multilabel:
	default:
		return fmt.Errorf("data.task is %q: want binary, multilabel or multiclass", c.Task)
	}
	if c.ValFraction < 0 || c.ValFraction >= 1 || math.IsNaN(c.ValFraction) {
		return fmt.Errorf("data.val_fraction is %v: want a share of at least 0 and below 1", c.ValFraction)
	}
	for i, l := range c.Labels {
		if slices.Contains(c.Labels[:i], l) {
			return fmt.Errorf("data.labels names %q twice", l)
		}
	}
	return nil
}

// sampleID returns the ID of the sample with the given name.
func sampleID(name string) uint64 { return rng.Hash(name) }

// checkGroups reports a group that has samples in two splits, or adds each such group to faults.
func checkGroups(file string, samples []Sample, faults *[]Fault) error {
	first := make(map[string]int, len(samples))
	told := map[string]bool{}
	for i, s := range samples {
		j, ok := first[s.Group]
		if !ok {
			first[s.Group] = i
			continue
		}
		if o := samples[j]; o.Split != s.Split {
			if faults != nil {
				if !told[s.Group] {
					told[s.Group] = true
					*faults = append(*faults, Fault{FaultLeak, fmt.Sprintf("%s (%s %s, %s %s)", s.Group, o.Split, o.Name, s.Split, s.Name)})
				}
				continue
			}
			return fmt.Errorf("%s: patient %q is in two splits, %s (%s) and %s (%s): every patient must be in one split only",
				file, s.Group, o.Split, o.Name, s.Split, s.Name)
		}
	}
	return nil
}

// dropMissing takes the samples whose file is gone out of d, or returns an error that lists the
// first of them; with faults it adds them there.
func (d *Dataset) dropMissing(file string, skip bool, faults *[]Fault) error {
	var gone []string
	var missing []Sample
	kept := d.Samples[:0]
	for _, s := range d.Samples {
		_, err := os.Stat(s.Path)
		if err == nil {
			kept = append(kept, s)
			continue
		}
		missing = append(missing, s)
		if errors.Is(err, fs.ErrNotExist) {
			gone = append(gone, s.Path)
		} else {
			gone = append(gone, fmt.Sprintf("%s (%v)", s.Path, err))
		}
	}
	d.Samples = kept
	if len(gone) == 0 {
		return nil
	}
	if faults != nil && len(kept) > 0 {
		for _, path := range gone {
			*faults = append(*faults, Fault{FaultMissing, path})
		}
		return nil
	}
	list := shortList(gone)
	if total := len(kept) + len(gone); !skip {
		return fmt.Errorf("%s: %d of %d scans are not there: %s; correct data.root or the table, or set data.on_error to skip",
			file, len(gone), total, list)
	} else if len(kept) == 0 {
		return fmt.Errorf("%s: none of its %d scans is there: %s; correct data.root or the table", file, total, list)
	}
	d.Missing = missing
	d.Warnings = append(d.Warnings, fmt.Sprintf("%s: %d scans are not there and were left out: %s", file, len(gone), list))
	return nil
}
