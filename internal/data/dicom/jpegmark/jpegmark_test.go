package jpegmark

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestStream(t *testing.T) {
	s, err := Open([]byte{0xFF, SOI, 0xFF, 0xFF, 0xFF, DRI, 0, 4, 1, 2, 0xFF, RST0 + 1, 0xFF, EOI})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := s.Marker(); m != DRI || err != nil {
		t.Errorf("behind fill bytes: marker %#x, %v", m, err)
	}
	if p, err := s.Segment(); !bytes.Equal(p, []byte{1, 2}) || err != nil {
		t.Errorf("segment %v, %v", p, err)
	}
	if err := s.Restart(10); err != nil {
		t.Errorf("restart marker 1 begins interval 10: %v", err)
	}
	if m, err := s.Marker(); m != EOI || err != nil || len(s) != 0 {
		t.Errorf("at the end: marker %#x, %v, %d bytes left", m, err, len(s))
	}
}

func TestBadStreams(t *testing.T) {
	if _, err := Open([]byte{0xFF, EOI}); err == nil {
		t.Error("a stream without its start marker is taken")
	}
	for _, b := range [][]byte{nil, {0xFF}, {0xFF, 0xFF}} {
		s := Stream(b)
		if _, err := s.Marker(); !errors.Is(err, ErrCut) {
			t.Errorf("marker of % x: %v", b, err)
		}
	}
	s := Stream{1, 2}
	if _, err := s.Marker(); err == nil || !strings.Contains(err.Error(), "0x01") {
		t.Errorf("no marker: %v", err)
	}
	for text, b := range map[string][]byte{"no length": {0, 1}, "cut": {0, 3}, "is cut": {0}} {
		s := Stream(b)
		if _, err := s.Segment(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("segment of % x: %v", b, err)
		}
	}
	s = Stream{0xFF, RST7}
	if err := s.Restart(1); err == nil || !strings.Contains(err.Error(), "restart marker 0xd0") {
		t.Errorf("a restart marker out of turn: %v", err)
	}
}

func TestKindsOfMarkers(t *testing.T) {
	for m := range 256 {
		// The sixteen from 0xC0 but for tables, reserved and arithmetic conditioning, and the hierarchical one.
		frame := m>>4 == 0xC && m != 0xC4 && m != 0xC8 && m != 0xCC || m == 0xDE
		if IsFrame(byte(m)) != frame || IsRestart(byte(m)) != (m>>3 == 0xD0>>3) {
			t.Errorf("marker %#x: frame %v, restart %v", m, IsFrame(byte(m)), IsRestart(byte(m)))
		}
	}
}
