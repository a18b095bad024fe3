package jpegdct

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ctclass/ctclass/internal/data/dicom/jpegmark"
)

// The vectors hold one image, 45 rows x 61 columns, written by dcmcjpeg (dcmtk 3.6.7) and, where restart
// intervals or 16-bit quantisation tables are wanted, cjpeg (libjpeg-turbo 2.1.5).
const height, width = 45, 61

// source is the image before compression.
func source(precision int) []uint16 {
	top := 1<<precision - 1
	var out []uint16
	seed := 1
	for y := range height {
		for x := range width {
			seed = (seed*1103515245 + 12345) & 0x7FFFFFFF
			noise := (seed >> 16) % (top/64 + 1)
			v := top/8 + (top*(x*x+3*y*y)/(61*61+3*45*45))*5/8
			switch {
			case (x-40)*(x-40)+(y-20)*(y-20) < 120:
				v = top - noise
			case x < 9:
				v = noise / 2
			default:
				v += noise
			}
			out = append(out, uint16(min(max(v, 0), top)))
		}
	}
	return out
}

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name+".jpg"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var vectors = []struct {
	name      string
	precision int
	sha       string // of the samples as dcmdjpeg or djpeg -dct int decodes them, 16 bits little endian
	error     float64
}{
	{"eb8", 8, "b83eba58d7c43ed4", 2},
	{"es8", 8, "b83eba58d7c43ed4", 2},
	{"ep8", 8, "b83eba58d7c43ed4", 2},
	{"ee12", 12, "1d075f7ce554460f", 4},
	{"es12", 12, "1d075f7ce554460f", 4},
	{"ep12", 12, "1d075f7ce554460f", 4},
	{"restart8", 8, "d561a71b2d2eb17a", 3},
	{"progressive_restart8", 8, "d561a71b2d2eb17a", 3},
	{"quant16", 8, "bb133b460f5d261c", 10},
}

func TestVectors(t *testing.T) {
	for _, v := range vectors {
		img, err := Decode(vector(t, v.name), height*width)
		if err != nil {
			t.Errorf("%s: %v", v.name, err)
			continue
		}
		if img.Width != width || img.Height != height || img.Bits != v.precision || len(img.Pix) != height*width {
			t.Errorf("%s: %d x %d, %d bits, %d samples", v.name, img.Width, img.Height, img.Bits, len(img.Pix))
			continue
		}
		var b []byte
		sum := 0.0
		for i, s := range source(v.precision) {
			b = binary.LittleEndian.AppendUint16(b, img.Pix[i])
			d := float64(s) - float64(img.Pix[i])
			sum += d * d
		}
		hash := sha256.Sum256(b)
		if got := hex.EncodeToString(hash[:8]); got != v.sha {
			t.Errorf("%s: samples %s, want %s", v.name, got, v.sha)
		}
		rms := math.Sqrt(sum / float64(height*width))
		t.Logf("%s: rms %.2f", v.name, rms)
		if rms > v.error {
			t.Errorf("%s: the samples are %.2f from the source (rms), at most %g are expected", v.name, rms, v.error)
		}
	}
}

// The transform against its definition (T.81, A.3.3) in floating point.
func TestInverse(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, precision := range []int{8, 12} {
		for range 300 {
			tr := newTransform(precision)
			span := int32(1) << (precision + 1)
			for range 1 + rng.IntN(20) {
				tr.block[rng.IntN(64)] = rng.Int32N(2*span) - span
			}
			block := tr.block
			tr.inverse()
			for y := range 8 {
				for x := range 8 {
					sum := 0.0
					for v := range 8 {
						for u := range 8 {
							c := float64(block[8*v+u]) / 4
							if u == 0 {
								c /= math.Sqrt2
							}
							if v == 0 {
								c /= math.Sqrt2
							}
							sum += c * math.Cos(float64((2*x+1)*u)*math.Pi/16) * math.Cos(float64((2*y+1)*v)*math.Pi/16)
						}
					}
					top := float64(int(1)<<precision - 1)
					want := min(max(sum+float64(int(1)<<(precision-1)), 0), top)
					// Besides rounding to whole numbers: constants of 13 bits, one bit between the passes.
					if got := float64(tr.samples[8*y+x]); math.Abs(got-want) > 1.5 {
						t.Fatalf("%d bits: sample %d,%d = %g, want %.2f", precision, y, x, got, want)
					}
				}
			}
		}
	}
}

func TestRefused(t *testing.T) {
	base := vector(t, "eb8")
	at := func(marker byte) int { return bytes.Index(base, []byte{0xFF, marker}) }
	set := func(offset int, b ...byte) []byte {
		out := bytes.Clone(base)
		copy(out[offset:], b)
		return out
	}
	sof, sos, dqt, dht := at(jpegmark.SOF0), at(jpegmark.SOS), at(jpegmark.DQT), at(jpegmark.DHT)
	colour := append(bytes.Clone(base[:sof]), 0xFF, jpegmark.SOF0, 0, 17, 8, 0, 8, 0, 8, 3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0)
	for _, tt := range []struct {
		name string
		src  []byte
		want string
	}{
		{"empty", nil, "begin with a JPEG marker"},
		{"colour", append(colour, base[sof+13:]...), "3 components"},
		{"arithmetic", vector(t, "arithmetic"), "arithmetic"},
		{"lossless", set(sof+1, jpegmark.SOF3), "lossless"},
		{"hierarchical", set(sof+1, 0xC5), "hierarchical"},
		{"12 bits baseline", set(sof+4, 12), "12 bits"},
		{"16 bits", set(sof+1, jpegmark.SOF1, 0, 11, 16), "16 bits"},
		{"no height", set(sof+5, 0, 0), "not usable"},
		{"too large", set(sof+5, 0, 90), "at most"},
		{"not backed by data", set(sof+5, 0x02, 0, 0xFF, 0xFF), "cut"},
		{"component", set(sos+5, 9), "unknown component"},
		{"Huffman table", set(sos+6, 0x22), "table is missing"},
		{"spectral selection in a sequential scan", set(sos+7, 1), "scan header"},
		{"quantiser zero", set(dqt+10, 0), "zero"},
		{"quantisation table number", set(dqt+4, 7), "quantisation table"},
		{"Huffman table longer than its segment", set(dht+5, 3), "Huffman table"},
		{"no image", []byte{0xFF, 0xD8, 0xFF, 0xD9}, "no image"},
		{"no data", append(bytes.Clone(base[:sos]), 0xFF, 0xD9), "no image data"},
		{"left over", append(append(bytes.Clone(base[:len(base)-2]), 1, 2, 3), 0xFF, 0xD9), "left over"},
		{"second scan", append(append(bytes.Clone(base[:len(base)-2]), base[sos:]...), 0xFF, 0xD9), "second scan"},
		{"restart marker out of turn", bytes.Replace(vector(t, "restart8"), []byte{0xFF, 0xD1}, []byte{0xFF, 0xD2}, 1), "restart marker"},
		{"restart marker missing", bytes.Replace(vector(t, "restart8"), []byte{0xFF, 0xD1}, nil, 1), "damaged"},
	} {
		limit := 2 * height * width
		switch tt.name {
		case "not backed by data":
			limit = math.MaxInt
		case "too large":
			limit = height * width
		}
		_, err := Decode(tt.src, limit)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestTooManyCodes(t *testing.T) {
	if _, err := newHuffman([16]byte{1, 2}, []byte{1, 2, 3}); err != nil {
		t.Error(err)
	}
	if _, err := newHuffman([16]byte{1, 3}, []byte{1, 2, 3, 4}); err == nil {
		t.Error("four codes of one and two bits")
	}
}

// A stream cut anywhere before its end is refused, or no block is missing.
func TestCut(t *testing.T) {
	for _, v := range vectors {
		src := vector(t, v.name)
		want, err := Decode(src, height*width)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(src) {
			img, err := Decode(src[:n:n], height*width)
			if err != nil {
				continue
			}
			for i := range want.Pix {
				if img.Pix[i] != want.Pix[i] {
					t.Fatalf("%s cut to %d of %d bytes gives another image", v.name, n, len(src))
				}
			}
		}
		// Bytes after the end do not matter.
		if _, err := Decode(append(bytes.Clone(src), 0, 0xFF, 0xC4), height*width); err != nil {
			t.Errorf("%s with bytes after its end: %v", v.name, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range vectors {
		f.Add(vector(f, v.name))
	}
	f.Add(vector(f, "arithmetic"))
	f.Fuzz(func(t *testing.T, src []byte) {
		img, err := Decode(src, 1<<16)
		if err != nil {
			return
		}
		if len(img.Pix) != img.Width*img.Height || len(img.Pix) > 1<<16 || len(img.Pix) > 512*len(src) {
			t.Fatalf("%d x %d with %d samples from %d bytes", img.Width, img.Height, len(img.Pix), len(src))
		}
		for _, s := range img.Pix {
			if int(s) >= 1<<img.Bits {
				t.Fatalf("sample %d of %d bits", s, img.Bits)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	for _, name := range []string{"eb8", "ee12", "ep12"} {
		b.Run(name, func(b *testing.B) {
			src := vector(b, name)
			b.SetBytes(2 * height * width)
			for b.Loop() {
				if _, err := Decode(src, height*width); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
