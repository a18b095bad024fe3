package doctor

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/ctclass/ctclass/internal/data"
)

// contents groups samples by what they contain.
type contents map[[sha256.Size]byte][]data.Sample

// duplicates judges samples with the same content, each group once. how says what was compared.
func (r *Report) duplicates(groups contents, how string) {
	var across, within, contrary []string
	for _, same := range groups {
		if len(same) < 2 {
			continue
		}
		var names []string
		crosses, disagree := false, false
		for _, s := range same {
			names = append(names, fmt.Sprintf("%s (%s)", s.Name, s.Split))
			crosses = crosses || s.Split != same[0].Split
			disagree = disagree || !slices.EqualFunc(s.Target, same[0].Target, func(a, b float64) bool { return a == b || a != a || b != b })
		}
		text := strings.Join(names, " = ")
		if r.told[text] {
			continue
		}
		if r.told == nil {
			r.told = map[string]bool{}
		}
		r.told[text] = true
		if crosses {
			across = append(across, text)
		} else {
			within = append(within, text)
		}
		if disagree {
			contrary = append(contrary, text)
		}
	}
	for _, list := range [][]string{across, within, contrary} {
		slices.Sort(list)
	}
	if len(across) > 0 {
		r.add(Error, CheckLeakage, across, "%s in more than one split (%s)", english.Plural(len(across), "volume", ""), how)
	}
	if len(within) > 0 {
		r.add(Warning, CheckDuplicates, within, "%s more than once in a split (%s)", english.Plural(len(within), "volume", ""), how)
	}
	if len(contrary) > 0 {
		r.add(Warning, CheckDuplicates, contrary, "%s more than once with different labels (%s)", english.Plural(len(contrary), "volume", ""), how)
	}
}

// Files looks for scans whose files are copies of each other, until the time is up. Files of one size are compared
// by some blocks, and those that agree in them as a whole.
func (r *Report) Files(ds *data.Dataset, limit time.Duration) {
	end := time.Now().Add(limit)
	bySize := map[int64][]data.Sample{}
	archived := map[string]bool{}
	for _, s := range ds.Samples {
		if archived[s.Path] {
			continue
		}
		paths, size, err := filesOf(s.Path)
		if err != nil || len(paths) == 0 {
			continue // reading the scan says what is wrong
		}
		if len(bySize[size]) > 0 && bySize[size][0].Path == s.Path { // many samples in one archive
			archived[s.Path] = true
			delete(bySize, size)
			continue
		}
		bySize[size] = append(bySize[size], s)
		if time.Now().After(end) {
			break
		}
	}
	groups := contents{}
	for _, full := range []bool{false, true} {
		next := map[int64][]data.Sample{}
		groups = contents{}
		for _, same := range bySize {
			if len(same) < 2 {
				continue
			}
			for _, s := range same {
				if time.Now().After(end) {
					r.Add(Note, CheckDuplicates, "not all files were compared in %s: --full reads every volume", limit)
					return
				}
				if d, err := digest(s.Path, full); err == nil {
					groups[d] = append(groups[d], s)
				}
			}
		}
		for d, same := range groups {
			next[int64(binary.LittleEndian.Uint64(d[:]))] = same
		}
		bySize = next
	}
	r.duplicates(groups, "their files are the same")
}

// filesOf returns the files of a scan and their size.
func filesOf(path string) (paths []string, size int64, err error) {
	err = filepath.WalkDir(path, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(p) // of what a link leads to
		if err != nil || !info.Mode().IsRegular() {
			return err
		}
		paths, size = append(paths, p), size+info.Size()
		return nil
	})
	return paths, size, err
}

// digest hashes the files of a scan: some blocks of some of them, or all.
func digest(path string, full bool) (d [sha256.Size]byte, err error) {
	const fewFiles, fewBlocks, blockBytes = 8, 4, 4 << 10
	paths, _, err := filesOf(path)
	if err != nil {
		return d, err
	}
	step := 1
	if !full {
		step = max(1, len(paths)/fewFiles)
	}
	h := sha256.New()
	block := make([]byte, blockBytes)
	for i := 0; i < len(paths); i += step {
		f, err := os.Open(paths[i])
		if err != nil {
			return d, err
		}
		if full {
			_, err = io.Copy(h, f)
		} else if info, serr := f.Stat(); serr == nil {
			for k := range int64(fewBlocks) {
				n, rerr := f.ReadAt(block, max(0, info.Size()-blockBytes)*k/(fewBlocks-1))
				if rerr != nil && !errors.Is(rerr, io.EOF) {
					err = rerr
				}
				h.Write(block[:n])
			}
		} else {
			err = serr
		}
		f.Close()
		if err != nil {
			return d, err
		}
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
