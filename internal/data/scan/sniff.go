package scan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/ctclass/ctclass/internal/data/files"
)

// kind is what a file seems to be.
type kind int

const (
	kindDICOM   kind = iota // DICOM, or anything that only its DICOM reader can tell
	kindNIfTI               // NIfTI by content or name
	kindPart                // the .img of a pair, read through its .hdr
	kindArchive             // zip, tar
)

// sniffBytes is how much of a file decides what it is: the headers of NIfTI-1 and NIfTI-2 fit in.
const sniffBytes = 540

// sniff tells files apart by content and, where that is not clear, by name.
func sniff(in files.Files, path string) (kind, error) {
	f, err := in.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	head, err := readHead(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if len(head) >= 132 && string(head[128:132]) == "DICM" {
		return kindDICOM, nil
	}
	name := strings.ToLower(path)
	unzipped := head
	if bytes.HasPrefix(head, []byte{0x1F, 0x8B}) {
		name = strings.TrimSuffix(name, ".gz")
		unzipped = nil
		// A damaged gzip file is told by its name: the NIfTI reader then says what is wrong with it.
		if z, err := gzip.NewReader(io.MultiReader(bytes.NewReader(head), f)); err == nil {
			unzipped, _ = readHead(z)
		}
	} else {
		name = strings.TrimSuffix(name, ".gz")
	}
	switch ext := filepath.Ext(name); {
	case ext == ".img" && hasHeader(in, path):
		return kindPart, nil
	case isNIfTI(unzipped), ext == ".nii", ext == ".hdr":
		return kindNIfTI, nil
	case files.IsZip(head), files.IsTar(unzipped), ext == ".zip", ext == ".tar", ext == ".tgz":
		return kindArchive, nil
	}
	return kindDICOM, nil
}

// readHead reads up to sniffBytes.
func readHead(r io.Reader) ([]byte, error) {
	head := make([]byte, sniffBytes)
	n, err := io.ReadFull(r, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// isNIfTI looks for the magic words of NIfTI-1 (byte 344) and NIfTI-2 (byte 4).
func isNIfTI(head []byte) bool {
	at := func(offset int, words ...string) bool {
		for _, w := range words {
			if len(head) >= offset+4 && string(head[offset:offset+4]) == w {
				return true
			}
		}
		return false
	}
	return at(344, "n+1\x00", "ni1\x00") || at(4, "n+2\x00", "ni2\x00")
}

// hasHeader reports whether the .hdr of an .img file lies beside it.
func hasHeader(in files.Files, path string) bool {
	stem := path
	if strings.EqualFold(filepath.Ext(stem), ".gz") {
		stem = strings.TrimSuffix(stem, filepath.Ext(stem))
	}
	stem = strings.TrimSuffix(stem, filepath.Ext(stem))
	for _, ext := range []string{".hdr", ".hdr.gz", ".HDR"} {
		if in.Has(stem + ext) {
			return true
		}
	}
	return false
}
