package tracking

import (
	"encoding/binary"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/ctclass/ctclass/internal/config"
)

// crc32c is the checksum by its definition (RFC 3720, B.4), a bit at a time.
func crc32c(b []byte) uint32 {
	crc := ^uint32(0)
	for _, x := range b {
		crc ^= uint32(x)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0x82f63b78
			} else {
				crc >>= 1
			}
		}
	}
	return ^crc
}

// masked turns a checksum to the right by 15 bits and adds a constant, as TFRecord files have it.
func masked(b []byte) uint32 {
	c := crc32c(b)
	return ((c >> 15) | (c << 17)) + 0xa282ead8
}

// fields decodes a protocol buffer message: the raw values of each field, in order.
func fields(t *testing.T, b []byte) map[int][][]byte {
	t.Helper()
	out := map[int][][]byte{}
	varint := func() uint64 {
		var v uint64
		for shift := 0; ; shift += 7 {
			if len(b) == 0 {
				t.Fatal("a message ends within a number")
			}
			x := b[0]
			b = b[1:]
			v |= uint64(x&0x7f) << shift
			if x < 0x80 {
				return v
			}
		}
	}
	for len(b) > 0 {
		key := varint()
		n := map[uint64]int{1: 8, 5: 4}[key&7]
		switch key & 7 {
		case 0:
			out[int(key>>3)] = append(out[int(key>>3)], binary.LittleEndian.AppendUint64(nil, varint()))
			continue
		case 2:
			n = int(varint())
		case 1, 5:
		default:
			t.Fatalf("wire type %d", key&7)
		}
		out[int(key>>3)] = append(out[int(key>>3)], b[:n])
		b = b[n:]
	}
	return out
}

// event is what an Event message says.
type event struct {
	wall    float64
	step    int
	version string
	status  int // of the session log
	values  map[string]float32
}

// readEvents reads the event files of a folder in the order of their names, and checks every checksum.
func readEvents(t *testing.T, dir string) []event {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "events.out.tfevents.*"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no event files in %s", dir)
	}
	var list []event
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for len(raw) > 0 {
			n := int(binary.LittleEndian.Uint64(raw))
			if got, want := binary.LittleEndian.Uint32(raw[8:]), masked(raw[:8]); got != want {
				t.Fatalf("%s: checksum of the length %08x, want %08x", name, got, want)
			}
			data := raw[12 : 12+n]
			if got, want := binary.LittleEndian.Uint32(raw[12+n:]), masked(data); got != want {
				t.Fatalf("%s: checksum %08x, want %08x", name, got, want)
			}
			raw = raw[16+n:]
			f := fields(t, data)
			e := event{values: map[string]float32{}}
			e.wall = math.Float64frombits(binary.LittleEndian.Uint64(f[1][0]))
			e.step = int(binary.LittleEndian.Uint64(f[2][0]))
			for _, v := range f[3] {
				e.version = string(v)
			}
			for _, s := range f[5] {
				for _, v := range fields(t, s)[1] {
					value := fields(t, v)
					e.values[string(value[1][0])] = math.Float32frombits(binary.LittleEndian.Uint32(value[2][0]))
				}
			}
			for _, s := range f[7] {
				e.status = int(binary.LittleEndian.Uint64(fields(t, s)[1][0]))
			}
			list = append(list, e)
		}
	}
	return list
}

func TestTensorBoard(t *testing.T) {
	if got := crc32c([]byte("123456789")); got != 0xe3069283 { // the check value of CRC-32C
		t.Fatalf("the test's own checksum gives %08x", got)
	}
	dir := t.TempDir()
	lg := slog.New(slog.DiscardHandler)
	out := config.Output{TensorBoard: true}
	first, err := Open(t.Context(), out, Run{Dir: dir}, lg)
	if err != nil {
		t.Fatal(err)
	}
	for step := 1; step <= 300; step++ { // a number of two bytes too
		first.Log(step, []Scalar{{"train/loss", 1 / float64(step)}, {"train/lr", 1e-3}})
	}
	if err := first.Close(Interrupted); err != nil {
		t.Fatal(err)
	}
	second, err := Open(t.Context(), out, Run{Dir: dir, Step: 200}, lg)
	if err != nil {
		t.Fatal(err)
	}
	second.Log(201, []Scalar{{"val/auroc", 0.75}})
	if err := second.Close(Finished); err != nil {
		t.Fatal(err)
	}

	list := readEvents(t, filepath.Join(dir, TensorBoardFolder))
	if len(list) != 1+300+2+1 {
		t.Fatalf("%d events", len(list))
	}
	if list[0].version != "brain.Event:2" || list[301].version != "brain.Event:2" {
		t.Errorf("a file begins with %+v, %+v", list[0], list[301])
	}
	for i, e := range list[1:301] {
		if e.step != i+1 || len(e.values) != 2 || e.values["train/loss"] != float32(1/float64(i+1)) || e.values["train/lr"] != 1e-3 {
			t.Fatalf("event %d: %+v", i, e)
		}
	}
	if e := list[302]; e.status != 1 || e.step != 201 {
		t.Errorf("the resumed part begins with %+v, want a session start at step 201", e)
	}
	if e := list[303]; e.step != 201 || e.values["val/auroc"] != 0.75 || e.wall < 1.7e9 {
		t.Errorf("last event %+v", e)
	}
}

// A folder that cannot be written is an error at the start; a disk that is full later on does not end a run.
func TestTensorBoardFailures(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	lg := slog.New(slog.DiscardHandler)
	if _, err := Open(t.Context(), config.Output{TensorBoard: true}, Run{Dir: file}, lg); err == nil {
		t.Error("a file serves as a run folder")
	}
	tr, err := Open(t.Context(), config.Output{TensorBoard: true}, Run{Dir: t.TempDir()}, lg)
	if err != nil {
		t.Fatal(err)
	}
	tr.sinks[0].(*events).f.Close()
	for step := range 2000 {
		tr.Log(step, []Scalar{{"a", 1}})
	}
	if len(tr.sinks) != 0 {
		t.Error("writing to a closed file is not noticed")
	}
	if err := tr.Close(Finished); err != nil {
		t.Error(err)
	}
	var none *Tracker
	none.Log(1, nil)
	if err := none.Close(Finished); err != nil {
		t.Error(err)
	}
}
