package tracking

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// events writes an event file of TensorBoard: records of the TFRecord format, each an Event message of
// tensorflow/core/util/event.proto.
type events struct {
	f    *os.File
	w    *bufio.Writer
	last time.Time // of the last flush
	now  func() time.Time
}

// flushPeriod bounds how far the file is behind the run.
const flushPeriod = 10 * time.Second

// createEvents makes a new event file in dir. With a step above 0 it tells TensorBoard to drop what older files
// say about later steps.
func createEvents(dir string, step int) (*events, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot write TensorBoard's events: %w", err)
	}
	now := time.Now()
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	// TensorBoard reads the files of a folder in the order of their names. Nanoseconds keep two parts of a run
	// apart that start within a second.
	name := fmt.Sprintf("events.out.tfevents.%010d.%09d.%s", now.Unix(), now.Nanosecond(), host)
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot write TensorBoard's events: %w", err)
	}
	e := &events{f: f, w: bufio.NewWriter(f), last: now, now: time.Now}
	err = e.record(appendString(e.event(0), 3, "brain.Event:2")) // file_version
	if err == nil && step > 0 {
		start := protowire.AppendTag(nil, 1, protowire.VarintType) // status
		start = protowire.AppendVarint(start, 1)                   // START
		err = e.record(appendBytes(e.event(step+1), 7, start))     // session_log: steps from here on come anew
	}
	if err == nil {
		err = e.flush()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return e, nil
}

// event begins an Event message: wall_time and step.
func (e *events) event(step int) []byte {
	b := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	b = protowire.AppendFixed64(b, math.Float64bits(float64(e.now().UnixNano())/1e9))
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	return protowire.AppendVarint(b, uint64(step))
}

func appendBytes(b []byte, field protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func appendString(b []byte, field protowire.Number, v string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), v)
}

func (e *events) log(step int, values []Scalar) error {
	var summary []byte
	for _, s := range values {
		v := appendString(nil, 1, s.Name)                    // tag
		v = protowire.AppendTag(v, 2, protowire.Fixed32Type) // simple_value
		v = protowire.AppendFixed32(v, math.Float32bits(float32(s.Value)))
		summary = appendBytes(summary, 1, v) // value
	}
	if err := e.record(appendBytes(e.event(step), 5, summary)); err != nil {
		return err
	}
	if now := e.now(); now.Sub(e.last) >= flushPeriod {
		e.last = now
		return e.flush()
	}
	return nil
}

// record writes a TFRecord: length, its checksum, the bytes, their checksum.
func (e *events) record(data []byte) error {
	head := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	head = binary.LittleEndian.AppendUint32(head, maskedCRC(head))
	for _, part := range [][]byte{head, data, binary.LittleEndian.AppendUint32(nil, maskedCRC(data))} {
		if _, err := e.w.Write(part); err != nil {
			return fmt.Errorf("cannot write TensorBoard's events: %w", err)
		}
	}
	return nil
}

// maskedCRC is the checksum of a TFRecord: CRC-32C, rotated and shifted so that a record may hold records.
func maskedCRC(b []byte) uint32 {
	c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}

func (e *events) flush() error {
	if err := e.w.Flush(); err != nil {
		return fmt.Errorf("cannot write TensorBoard's events: %w", err)
	}
	return nil
}

func (e *events) close(string) error {
	err := e.flush()
	if cerr := e.f.Close(); err == nil && cerr != nil {
		err = fmt.Errorf("cannot write TensorBoard's events: %w", cerr)
	}
	return err
}
