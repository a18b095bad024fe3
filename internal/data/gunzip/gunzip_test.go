package gunzip

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	faster "github.com/klauspost/compress/gzip"
)

// samples are data that make different blocks and matches.
func samples() map[string][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 100_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	image := make([]byte, 100_000) // like the voxels of a CT: noise on two levels, and constant stretches
	for i := 0; i < len(image); i += 2 {
		v := int16(random.IntN(32))
		switch i / 700 % 4 {
		case 0:
			v += 40
		case 1:
			v -= 1000
		case 2:
			v = -1024
		}
		image[i], image[i+1] = byte(v), byte(v>>8)
	}
	var periods []byte
	for period := 1; period <= 40; period++ {
		pattern := noise[period*50:][:period]
		for range 3 {
			periods = append(periods, bytes.Repeat(pattern, 1+random.IntN(600/period+1))...)
			periods = append(periods, noise[len(periods)%1000])
		}
	}
	var rare []byte // symbols as rare as makes codes of 15 bits
	for symbol, n := 0, 1; n < 100_000; symbol, n = symbol+1, n*2 {
		rare = append(rare, bytes.Repeat([]byte{byte(symbol)}, n)...)
	}
	random.Shuffle(len(rare), func(i, j int) { rare[i], rare[j] = rare[j], rare[i] })
	far := bytes.Repeat(noise[:32768], 3)
	return map[string][]byte{
		"empty": nil, "a byte": {7}, "noise": noise, "zeros": make([]byte, 100_000), "image": image,
		"periods": periods, "rare": rare, "far": far, "all": bytes.Join([][]byte{far, image, periods, noise[:70_000], rare}, nil),
	}
}

// pack makes one member.
func pack(data []byte, level int) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, level)
	if err == nil {
		_, err = z.Write(data)
	}
	if err = errors.Join(err, z.Close()); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func unpack(r io.Reader) ([]byte, error) { return readAll(NewReader(bufio.NewReaderSize(r, 100))) }

func TestRead(t *testing.T) {
	for name, data := range samples() {
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 6, 9} {
			t.Run(fmt.Sprintf("%s level %d", name, level), func(t *testing.T) {
				packed := pack(data, level)
				twice := append(packed[:len(packed):len(packed)], packed...)
				for how, r := range map[string]io.Reader{
					"at once": bytes.NewReader(twice), "by bytes": iotest.OneByteReader(bytes.NewReader(twice)),
					"end with the data": iotest.DataErrReader(bytes.NewReader(twice)),
				} {
					if got, err := unpack(r); err != nil || !bytes.Equal(got, append(data[:len(data):len(data)], data...)) {
						t.Errorf("%s: %d bytes of %d, error %v", how, len(got), 2*len(data), err)
					}
				}
			})
		}
	}
}

// member is one of given deflate data, which claims to hold data.
func member(deflated, data []byte) []byte {
	m := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, deflated...)
	for _, x := range []uint32{crc32.ChecksumIEEE(data), uint32(len(data))} {
		m = append(m, byte(x), byte(x>>8), byte(x>>16), byte(x>>24))
	}
	return m
}

func TestErrors(t *testing.T) {
	data := samples()["image"]
	packed := pack(data, 6)
	flip := func(at int) []byte {
		b := bytes.Clone(packed)
		b[at] ^= 0x55
		return b
	}
	// A member whose first match reaches back to the one before.
	var foreign bytes.Buffer
	z, err := flate.NewWriterDict(&foreign, 6, data)
	if err == nil {
		_, err = z.Write(data[len(data)-1000:])
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	gone := errors.New("the disk is gone")
	tests := []struct {
		name string
		r    io.Reader
		want string
	}{
		{"nothing", bytes.NewReader(nil), "EOF"},
		{"no gzip", bytes.NewReader(data), "gzip: invalid header"},
		{"header cut", bytes.NewReader(packed[:5]), "unexpected EOF"},
		{"cut", bytes.NewReader(packed[:len(packed)/2]), "unexpected EOF"},
		{"cut in the sums", bytes.NewReader(packed[:len(packed)-1]), "unexpected EOF"},
		{"wrong checksum", bytes.NewReader(flip(len(packed) - 5)), "gzip: invalid checksum"},
		{"wrong size", bytes.NewReader(flip(len(packed) - 1)), "gzip: invalid checksum"},
		{"junk after it", bytes.NewReader(append(bytes.Clone(packed), make([]byte, 64)...)), "gzip: invalid header"},
		{"short junk after it", bytes.NewReader(append(bytes.Clone(packed), 0)), "unexpected EOF"},
		{"disk", io.MultiReader(bytes.NewReader(packed[:len(packed)/2]), iotest.ErrReader(gone)), gone.Error()},
		{"disk in the sums", io.MultiReader(bytes.NewReader(packed[:len(packed)-3]), iotest.ErrReader(gone)), gone.Error()},
		{"match before the member", bytes.NewReader(append(bytes.Clone(packed), member(foreign.Bytes(), data[len(data)-1000:])...)), "flate: corrupt input before offset 3"},
		{"reserved block", bytes.NewReader(member([]byte{7}, nil)), "flate: corrupt input before offset 1"},
		{"stored size", bytes.NewReader(member([]byte{1, 1, 0, 1, 0}, nil)), "flate: corrupt input before offset 5"},
		{"stored block cut", bytes.NewReader(member([]byte{1, 100, 0, 155, 255}, nil)), "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := unpack(tt.r); err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}

// FuzzRead reads arbitrary bytes beside the standard library.
func FuzzRead(f *testing.F) {
	for _, data := range samples() {
		data = data[:min(len(data), 3000)]
		for _, level := range []int{gzip.HuffmanOnly, gzip.NoCompression, 1, 9} {
			packed := pack(data, level)
			f.Add(packed)
			f.Add(packed[10 : len(packed)-8])
		}
	}
	f.Add(member([]byte{0x63, 0x60, 0x60, 0x60, 0x84, 0x02, 0x00}, nil))
	f.Fuzz(func(t *testing.T, packed []byte) {
		compare(t, packed)
		// Nearly no arbitrary bytes have the right sums, so that deflate data are compared by themselves too.
		compare(t, member(packed, nil))
	})
}

func compare(t *testing.T, packed []byte) {
	t.Helper()
	want, wantErr := readAll(gzip.NewReader(bytes.NewReader(packed)))
	got, err := unpack(bytes.NewReader(packed))
	if errors.Is(err, gzip.ErrHeader) { // the header's reader is the other's, which refuses reserved flags
		want, wantErr = readAll(faster.NewReader(bytes.NewReader(packed)))
	}
	if (err == nil) != (wantErr == nil) || errors.Is(err, gzip.ErrChecksum) != errors.Is(wantErr, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) != errors.Is(wantErr, gzip.ErrHeader) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	// How much comes before other errors depends on how far is read ahead.
	whole := err == nil || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader)
	if n := min(len(want), len(got)); whole && len(got) != len(want) || !bytes.Equal(got[:n], want[:n]) {
		t.Fatalf("%d bytes, want %d, error %v", len(got), len(want), wantErr)
	}
}

func readAll(r io.Reader, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func BenchmarkRead(b *testing.B) {
	data := bytes.Repeat(samples()["image"], 20)
	packed := pack(data, 6)
	for name, open := range map[string]func(r *bufio.Reader) (io.Reader, error){
		"gunzip":    func(r *bufio.Reader) (io.Reader, error) { return NewReader(r) },
		"klauspost": func(r *bufio.Reader) (io.Reader, error) { return faster.NewReader(r) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				r, err := open(bufio.NewReaderSize(bytes.NewReader(packed), 64<<10))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, struct{ io.Reader }{r}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
