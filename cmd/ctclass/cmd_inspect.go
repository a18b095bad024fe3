package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/volume"
)

type inspectOptions struct {
	paths    []string
	json     bool
	export   string
	asStored bool
	series   string
}

func newInspectCommand(app *app) *cobra.Command {
	var opts inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect PATH...",
		Short: "Show what a scan path holds, and which volume is used and why",
		Long: `Inspect lists the volumes that a path holds (DICOM series and NIfTI files) and the files that belong to
none, says which volume predict and train would use and why, reads it, and reports its size, spacing,
orientation, range of values and everything odd about it. Sizes and spacings are in the order d, h, w:
slices, rows, columns.

--export writes the volume as NIfTI in HU, as it is before preprocessing: sorted, with missing geometry
repaired. With --as-stored it is the plain stack of slices, only rescaled to HU.`,
		Example: `  ctclass inspect scans/patient1
  ctclass inspect scans/patient1 --series 4 --export chest.nii.gz
  ctclass inspect scans --json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.paths = args
			return runInspect(cmd.Context(), app, opts)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&opts.json, "json", false, "print a JSON object a line for each scan")
	f.StringVar(&opts.export, "export", "", "write the volume to this NIfTI `file` (.nii or .nii.gz)")
	f.BoolVar(&opts.asStored, "as-stored", false, "with --export: the slices as stored, without geometric corrections")
	f.StringVar(&opts.series, "series", "", "series to take: a series `UID or number`, or \"largest\"")
	return cmd
}

func runInspect(ctx context.Context, app *app, opts inspectOptions) error {
	if err := checkExport(opts); err != nil {
		return err
	}
	var scans []inspection
	for _, path := range opts.paths {
		found, err := scan.Expand(path)
		if err != nil {
			found = []string{path} // looking into it gives the reason
		}
		for _, p := range found {
			scans = append(scans, inspection{Path: p})
		}
	}
	if opts.export != "" && len(scans) != 1 {
		return exitcode.Errorf(exitcode.Usage, "--export takes one scan, %s holds %d: name one of them", strings.Join(opts.paths, ", "), len(scans))
	}
	failed := 0
	for i := range scans {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := &scans[i]
		v := s.look(opts.series)
		if s.Error != nil {
			failed++
		}
		if opts.json {
			if err := printJSON(app.out, s); err != nil {
				return err
			}
		} else {
			if i > 0 {
				fmt.Fprintln(app.out)
			}
			if err := s.print(app.out); err != nil {
				return err
			}
		}
		if opts.export != "" && s.Error == nil {
			if err := s.write(v, opts); err != nil {
				return err
			}
			app.log.Info("volume written", "file", opts.export)
		}
	}
	return failures(failed, len(scans))
}

func checkExport(opts inspectOptions) error {
	if opts.export == "" {
		if opts.asStored {
			return exitcode.Errorf(exitcode.Usage, "--as-stored says how to export: give --export FILE too")
		}
		return nil
	}
	if name := strings.ToLower(opts.export); !strings.HasSuffix(name, ".nii") && !strings.HasSuffix(name, ".nii.gz") {
		return exitcode.Errorf(exitcode.Usage, "--export %s: the name must end in .nii or .nii.gz", opts.export)
	}
	return checkOutputFile("--export", opts.export)
}

// inspection is what is known about one scan.
type inspection struct {
	Path    string         `json:"path"`
	Volumes []foundVolume  `json:"volumes"`
	Skipped []skippedFiles `json:"skipped"`
	Chosen  *chosenVolume  `json:"chosen"` // null when there is none
	Error   *string        `json:"error"`  // why the scan cannot be used; null when it can

	candidate scan.Candidate
}

// foundVolume is one DICOM series or NIfTI file.
type foundVolume struct {
	Path             string     `json:"path"`
	Format           string     `json:"format"`
	StudyUID         string     `json:"study_uid,omitempty"`
	SeriesUID        string     `json:"series_uid"`
	SeriesNumber     *int       `json:"series_number,omitempty"`
	Acquisition      *int       `json:"acquisition,omitempty"`
	Description      string     `json:"description,omitempty"`
	Modality         string     `json:"modality,omitempty"`
	ImageType        string     `json:"image_type,omitempty"`
	Kernel           string     `json:"kernel,omitempty"`
	TransferSyntax   string     `json:"transfer_syntax,omitempty"`
	SliceThicknessMM float64    `json:"slice_thickness_mm,omitempty"`
	Derived          bool       `json:"derived,omitempty"`
	SizeDHW          [3]int     `json:"size_dhw"`
	SpacingMM        [3]float64 `json:"spacing_mm"`
	Orientation      string     `json:"orientation"`
	Chosen           bool       `json:"chosen"`
	Warnings         []string   `json:"warnings"`
	Error            *string    `json:"error"`
}

// skippedFiles are files that are part of no volume, for the same reason.
type skippedFiles struct {
	Reason  string `json:"reason"`
	Files   int    `json:"files"`
	Damaged bool   `json:"damaged"` // meant to be an image, but unreadable
	Example string `json:"example"`
}

// chosenVolume is the volume that predict and train would use, as it is read.
type chosenVolume struct {
	SeriesUID   string     `json:"series_uid"` // "" for NIfTI
	Path        string     `json:"path"`
	Why         string     `json:"why"`
	SizeDHW     [3]int     `json:"size_dhw"`
	SpacingMM   [3]float64 `json:"spacing_mm"`
	Orientation string     `json:"orientation"`
	HUMin       *float64   `json:"hu_min"` // null when the volume could not be read
	HUMax       *float64   `json:"hu_max"`
	HUMean      *float64   `json:"hu_mean"`
	Warnings    []string   `json:"warnings"`
}

// look fills the inspection and returns the chosen volume.
func (s *inspection) look(series string) *volume.Volume {
	s.Volumes, s.Skipped = []foundVolume{}, []skippedFiles{}
	candidates, skipped, err := scan.Find(s.Path)
	if err != nil {
		s.fail(err)
		return nil
	}
	s.Skipped = groupSkipped(skipped)
	if len(candidates) == 0 {
		_, _, err := scan.Load(s.Path) // it says best why there is nothing
		s.fail(err)
		return nil
	}
	c, why, err := scan.Choose(candidates, scan.Selection{Series: series})
	for i := range candidates {
		v := newFoundVolume(&candidates[i])
		v.Chosen = err == nil && sameVolume(&candidates[i], &c)
		s.Volumes = append(s.Volumes, v)
	}
	if err != nil {
		s.fail(err)
		return nil
	}
	s.candidate = c
	s.Chosen = &chosenVolume{
		SeriesUID: c.SeriesUID, Path: c.Path, Why: why, SizeDHW: c.Size, SpacingMM: roundAll(c.Spacing), Orientation: c.Orientation,
		Warnings: orEmpty(c.Warnings),
	}
	v, info, err := scan.LoadSeries(s.Path, scan.Selection{Series: series})
	if err != nil {
		s.fail(err)
		return nil
	}
	stats := volume.HUStats(v)
	s.Chosen.SizeDHW, s.Chosen.SpacingMM, s.Chosen.Orientation = v.Size, roundAll(v.Spacing), volume.OrientationOf(v.Affine)
	s.Chosen.Warnings = orEmpty(info.Warnings)
	if !math.IsNaN(stats.Mean) {
		s.Chosen.HUMin, s.Chosen.HUMax, s.Chosen.HUMean = &stats.Min, &stats.Max, &stats.Mean
	}
	return v
}

func (s *inspection) fail(err error) {
	text := strings.TrimPrefix(err.Error(), s.Path+": ")
	s.Error = &text
}

func sameVolume(a, b *scan.Candidate) bool {
	return a.Path == b.Path && a.SeriesUID == b.SeriesUID && a.Acquisition == b.Acquisition && a.Kernel == b.Kernel &&
		a.Size == b.Size && a.Orientation == b.Orientation
}

func newFoundVolume(c *scan.Candidate) foundVolume {
	v := foundVolume{
		Path: c.Path, Format: c.Format, StudyUID: c.StudyUID, SeriesUID: c.SeriesUID, Description: c.Description,
		Modality: c.Modality, ImageType: c.ImageType, Kernel: c.Kernel, TransferSyntax: c.TransferSyntax,
		SliceThicknessMM: c.SliceThickness, Derived: c.Derived, SizeDHW: c.Size, SpacingMM: roundAll(c.Spacing),
		Orientation: c.Orientation, Warnings: orEmpty(c.Warnings),
	}
	if c.Format == "dicom" {
		v.SeriesNumber, v.Acquisition = &c.SeriesNumber, &c.Acquisition
	}
	if c.Err != nil {
		text := c.Err.Error()
		v.Error = &text
	}
	return v
}

// roundAll rounds lengths in mm to what can be meant.
func roundAll(mm [3]float64) [3]float64 {
	for i, x := range mm {
		mm[i] = math.Round(x*1e5) / 1e5
	}
	return mm
}

// groupSkipped counts the skipped files by reason: damaged ones first, then the most frequent.
func groupSkipped(skipped []scan.Skipped) []skippedFiles {
	groups := []skippedFiles{}
	index := map[string]int{}
	for _, f := range skipped {
		i, ok := index[f.Reason]
		if !ok {
			i = len(groups)
			index[f.Reason] = i
			groups = append(groups, skippedFiles{Reason: f.Reason, Example: f.Path})
		}
		groups[i].Files++
		groups[i].Damaged = groups[i].Damaged || f.Damaged
	}
	slices.SortStableFunc(groups, func(a, b skippedFiles) int {
		if a.Damaged != b.Damaged {
			if a.Damaged {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Files, a.Files)
	})
	return groups
}

// print shows the inspection as text.
func (s *inspection) print(w io.Writer) error {
	var b strings.Builder
	b.WriteString(s.Path + "\n")
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	if len(s.Volumes) > 0 {
		header := []string{"", "series", "description", "type", "size d×h×w", "spacing mm", "axes", "kernel", "stored as"}
		if len(s.Volumes) > 1 {
			header = append(header, "first file in")
		}
		t := newTable(header, "series")
		for _, v := range s.Volumes {
			row := v.row()
			if len(s.Volumes) > 1 {
				row = append(row, within(s.Path, v.Path))
			}
			t.AppendRow(row)
		}
		b.WriteString("\n")
		if err := printTable(&b, t); err != nil {
			return err
		}
		b.WriteString("\n")
	}
	for _, v := range s.Volumes {
		if v.Error != nil && !v.Chosen {
			line("%s cannot be read: %s", v.name(), *v.Error)
		}
	}
	if c := s.Chosen; c != nil {
		name := s.candidate.Name()
		if c.SeriesUID == "" {
			name = filepath.Base(c.Path)
		}
		line("chosen      %s: %s", name, c.Why)
		line("volume      %s voxels of %s mm, axes %s%s", triple(c.SizeDHW), triple(shortMM(c.SpacingMM)), c.Orientation, directions(c.Orientation))
		line("extent      %s mm", triple(extent(c.SizeDHW, c.SpacingMM)))
		if c.HUMin != nil {
			line("values      %.6g to %.6g HU, mean %.0f", *c.HUMin, *c.HUMax, *c.HUMean)
		}
		for _, text := range c.Warnings {
			line("warning     %s", text)
		}
	}
	for _, g := range s.Skipped {
		what := "skipped"
		if g.Damaged {
			what = "damaged"
		}
		example := within(s.Path, g.Example)
		if g.Files > 1 {
			example = "for example " + example
		}
		line("%-11s %d: %s (%s)", what, g.Files, g.Reason, example)
	}
	if s.Error != nil {
		line("cannot be used: %s", *s.Error)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// within names a path as seen from the scan's folder.
func within(folder, path string) string {
	if rel, err := filepath.Rel(folder, path); err == nil && rel != "." {
		return rel
	}
	return filepath.Base(path)
}

// row is the volume's line of the table.
func (v foundVolume) row() table.Row {
	mark, series, description, kind := "", "", v.Description, "NIfTI"
	if v.Chosen {
		mark = "→"
	}
	if v.SeriesNumber != nil {
		series = fmt.Sprint(*v.SeriesNumber)
		kind = v.Modality
		if v.Derived {
			kind += " derived"
		}
	} else {
		description = filepath.Base(v.Path)
	}
	return table.Row{mark, series, description, kind, triple(v.SizeDHW), triple(shortMM(v.SpacingMM)), v.Orientation, v.Kernel, v.TransferSyntax}
}

func (v foundVolume) name() string {
	if v.SeriesNumber != nil {
		return fmt.Sprintf("series %d (%s)", *v.SeriesNumber, v.SeriesUID)
	}
	return filepath.Base(v.Path)
}

// shortMM rounds lengths for reading.
func shortMM(mm [3]float64) [3]float64 {
	for i, x := range mm {
		mm[i] = math.Round(x*1000) / 1000
	}
	return mm
}

// extent is the size of a volume in whole mm.
func extent(size [3]int, mm [3]float64) [3]int {
	var out [3]int
	for i := range out {
		out[i] = int(math.Round(float64(size[i]) * mm[i]))
	}
	return out
}

// directions says in words where the axes of an orientation code lead.
func directions(code string) string {
	words := map[byte]string{'L': "left", 'R': "right", 'A': "anterior", 'P': "posterior", 'S': "head", 'I': "feet"}
	if len(code) != 3 {
		return ""
	}
	return fmt.Sprintf(" (columns grow to %s, rows to %s, slices to %s)", words[code[0]], words[code[1]], words[code[2]])
}

// write exports the volume, in whole numbers where it has no others.
func (s *inspection) write(v *volume.Volume, opts inspectOptions) error {
	if opts.asStored {
		var err error
		if v, _, err = scan.Open(s.candidate, true); err != nil {
			return exitcode.Errorf(exitcode.NoInput, "%s cannot be read as stored: %w", s.Path, err)
		}
	}
	dtype := nifti.Int16
	for _, x := range v.HU {
		if x != float32(math.Trunc(float64(x))) || x < math.MinInt16 || x > math.MaxInt16 {
			dtype = nifti.Float32
			break
		}
	}
	return nifti.Write(opts.export, v, dtype)
}
