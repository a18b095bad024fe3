package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/ctclass/ctclass/internal/data/nifti"
	"github.com/ctclass/ctclass/internal/data/scan"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/report"
	"github.com/ctclass/ctclass/internal/volume"
)

type inspectOptions struct {
	paths    []string
	json     bool
	export   string
	asStored bool
	png      string
	series   string
	strict   bool
}

func newInspectCommand(app *app) *cobra.Command {
	var opts inspectOptions
	cmd := &cobra.Command{
		Use:   "inspect PATH...",
		Short: "Show what a scan path holds, and which volume is used and why",
		Long: `Inspect lists the volumes that a path holds (DICOM series and NIfTI files) and the files that belong to
none, says which volume predict and train would use and why, reads it, and reports its size, spacing,
orientation, range of values and everything odd about it. Sizes and spacings are in the order d, h, w:
slices, rows, columns. A path is a folder, a file, a zip or tar archive, or a DICOMDIR.

Without --series the most plausible original axial CT volume is chosen. What counts, in this order: CT (a NIfTI
file is taken for CT); 10 slices or more, then 2 to 9, then a single image; axial slices; an original image;
more slices; more voxels; the lower series number; then UID, acquisition, phase, kernel and path. With
--series all every CT volume of two slices or more is read, and --json prints an object for each.

With --strict a volume with a warning counts as one that cannot be used: the exit code is then 3, or 4 when
others could be.

--png writes a picture of each volume: axial slices, a coronal and a sagittal one in windows for lung, soft
tissue and bone. --export writes the volume as NIfTI in HU, as it is before preprocessing: sorted, with missing geometry
repaired. With --as-stored it is the plain stack of slices, only rescaled to HU.`,
		Example: `  ctclass inspect scans/patient1
  ctclass inspect scans/patient1 --series 4 --export chest.nii.gz
  ctclass inspect scans --json
  ctclass inspect export.zip --series all --png pictures`,
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
	f.StringVar(&opts.png, "png", "", "write a picture of each volume into this `folder`")
	f.StringVar(&opts.series, "series", "", "series to take: a series `UID or number`, \"largest\" or \"all\"")
	f.BoolVar(&opts.strict, "strict", false, "treat a volume with a warning as one that cannot be used")
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
	pictures := pictureNames{}
	failed, all := 0, 0
	for i := range scans {
		if err := ctx.Err(); err != nil {
			return err
		}
		if i > 0 && !opts.json {
			fmt.Fprintln(app.out)
		}
		f, n, err := scans[i].run(app, opts, pictures)
		if err != nil {
			return err
		}
		failed, all = failed+f, all+n
	}
	return failures(failed, all)
}

// run inspects one scan, prints what it finds, and writes what is asked for. It returns how many volumes could
// not be used, and of how many.
func (s *inspection) run(app *app, opts inspectOptions, pictures pictureNames) (failed, all int, err error) {
	contents, choices := s.look(scan.Selection{Series: opts.series})
	if contents == nil {
		return 1, 1, s.show(app, opts, true)
	}
	defer contents.Close()
	for i, choice := range choices {
		v := s.read(contents, choice, opts.strict)
		if err := s.show(app, opts, i == 0); err != nil {
			return failed, all, err
		}
		all++
		if s.Error != nil {
			failed++
			continue
		}
		if opts.export != "" {
			if err := s.write(v, &contents.Candidates[choice.Index], opts); err != nil {
				return failed, all, err
			}
			app.log.Info("volume written", "file", opts.export)
		}
		if opts.png != "" {
			file := pictures.next(opts.png, s.Path, &contents.Candidates[choice.Index])
			if err := report.WritePreview(file, v); err != nil {
				return failed, all, err
			}
			app.log.Info("picture written", "file", file)
		}
	}
	if !opts.json {
		_, err = io.WriteString(app.out, s.skippedText())
	}
	return failed, all, err
}

// show prints the inspection as it stands: as JSON, or the chosen volume as text, the first time below the
// table of all.
func (s *inspection) show(app *app, opts inspectOptions, first bool) error {
	if opts.json {
		return printJSON(app.out, s)
	}
	text := s.chosenText()
	if first {
		table, err := s.tableText()
		if err != nil {
			return err
		}
		text = table + text
	} else {
		text = "\n" + text
	}
	if s.Chosen == nil {
		text += s.skippedText()
	}
	_, err := io.WriteString(app.out, text)
	return err
}

func checkExport(opts inspectOptions) error {
	if opts.png != "" {
		if err := os.MkdirAll(opts.png, 0o755); err != nil {
			return exitcode.Errorf(exitcode.Usage, "--png: %w", err)
		}
	}
	if opts.export == "" {
		if opts.asStored {
			return exitcode.Errorf(exitcode.Usage, "--as-stored says how to export: give --export FILE too")
		}
		return nil
	}
	if opts.series == scan.All {
		return exitcode.Errorf(exitcode.Usage, "--export takes one volume: name a series with --series")
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

	name string // of the chosen volume
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
	// Paths are all of them where they are damaged.
	Paths []string `json:"paths,omitempty"`
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

// look lists what the scan holds and chooses the volumes to read. Without any the inspection has its error and
// the result is nil.
func (s *inspection) look(sel scan.Selection) (*scan.Contents, []scan.Choice) {
	s.Volumes, s.Skipped = []foundVolume{}, []skippedFiles{}
	contents, err := scan.Find(s.Path)
	if err != nil {
		s.fail(err)
		return nil, nil
	}
	s.Skipped = groupSkipped(contents.Skipped)
	for i := range contents.Candidates {
		s.Volumes = append(s.Volumes, newFoundVolume(&contents.Candidates[i]))
	}
	choices, err := contents.Select(sel)
	if err != nil {
		contents.Close()
		s.fail(err)
		return nil, nil
	}
	for _, c := range choices {
		s.Volumes[c.Index].Chosen = true
	}
	return contents, choices
}

// read reads a chosen volume and describes it in the inspection.
func (s *inspection) read(contents *scan.Contents, choice scan.Choice, strict bool) *volume.Volume {
	c := &contents.Candidates[choice.Index]
	s.Error = nil
	s.name = c.Name()
	if c.Format == "nifti" {
		s.name = filepath.Base(c.Path)
	}
	s.Chosen = &chosenVolume{
		SeriesUID: c.SeriesUID, Path: c.Path, Why: choice.Why, SizeDHW: c.Size, SpacingMM: roundAll(c.Spacing), Orientation: c.Orientation,
		Warnings: orEmpty(c.Warnings),
	}
	v, info, err := contents.Load(choice)
	if err != nil {
		s.fail(err)
		return nil
	}
	if c.IsCT() {
		info.Warnings = append(info.Warnings, scan.CheckHU(v)...)
	}
	stats := volume.HUStats(v)
	s.Chosen.SizeDHW, s.Chosen.SpacingMM, s.Chosen.Orientation = v.Size, roundAll(v.Spacing), volume.OrientationOf(v.Affine)
	s.Chosen.Warnings = orEmpty(info.Warnings)
	if !math.IsNaN(stats.Mean) {
		s.Chosen.HUMin, s.Chosen.HUMax, s.Chosen.HUMean = &stats.Min, &stats.Max, &stats.Mean
	}
	if strict && len(info.Warnings) > 0 {
		s.fail(fmt.Errorf("it has %d warnings, and --strict is on", len(info.Warnings)))
	}
	return v
}

func (s *inspection) fail(err error) {
	text := strings.TrimPrefix(err.Error(), s.Path+": ")
	s.Error = &text
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
		if f.Damaged {
			groups[i].Damaged = true
			groups[i].Paths = append(groups[i].Paths, f.Path)
		}
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

// tableText shows the volumes that the scan holds.
func (s *inspection) tableText() (string, error) {
	var b strings.Builder
	b.WriteString(s.Path + "\n")
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
			return "", err
		}
		b.WriteString("\n")
	}
	for _, v := range s.Volumes {
		if v.Error != nil && !v.Chosen {
			fmt.Fprintf(&b, "  %s cannot be read: %s\n", v.name(), *v.Error)
		}
	}
	return b.String(), nil
}

// chosenText describes the chosen volume, or says why there is none.
func (s *inspection) chosenText() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	if c := s.Chosen; c != nil {
		line("chosen      %s: %s", s.name, c.Why)
		line("volume      %s voxels of %s mm, axes %s%s", triple(c.SizeDHW), triple(shortMM(c.SpacingMM)), c.Orientation, directions(c.Orientation))
		line("extent      %s mm", triple(extent(c.SizeDHW, c.SpacingMM)))
		if c.HUMin != nil {
			line("values      %.6g to %.6g HU, mean %.0f", *c.HUMin, *c.HUMax, *c.HUMean)
		}
		for _, text := range c.Warnings {
			line("warning     %s", text)
		}
	}
	if s.Error != nil {
		line("cannot be used: %s", *s.Error)
	}
	return b.String()
}

// skippedText says which files are part of no volume.
func (s *inspection) skippedText() string {
	var b strings.Builder
	for _, g := range s.Skipped {
		what := "skipped"
		if g.Damaged {
			what = "damaged"
		}
		example := within(s.Path, g.Example)
		if g.Files > 1 {
			example = "for example " + example
		}
		fmt.Fprintf(&b, "  %-11s %d: %s (%s)\n", what, g.Files, g.Reason, example)
	}
	return b.String()
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
func (s *inspection) write(v *volume.Volume, c *scan.Candidate, opts inspectOptions) error {
	if opts.asStored {
		var err error
		if v, _, err = scan.Open(*c, true); err != nil {
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

// pictureNames gives each picture a name of its own in its folder.
type pictureNames map[string]int

// next returns the file for the picture of a volume: named after the scan, and its series where it has one.
func (n pictureNames) next(dir, path string, c *scan.Candidate) string {
	name := filepath.Base(filepath.Clean(path))
	if abs, err := filepath.Abs(path); err == nil {
		name = filepath.Base(abs)
	}
	if c.Format == "dicom" {
		name += fmt.Sprintf("_series%d", c.SeriesNumber)
	}
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`<>:"/\|?*`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
	n[name]++
	if n[name] > 1 {
		name += fmt.Sprintf("_%d", n[name])
	}
	return filepath.Join(dir, name+".png")
}
