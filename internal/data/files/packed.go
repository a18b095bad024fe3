package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// packed is an open member that is stored compressed. Reading forward streams it. The first time something
// behind the position or out of order is wanted it is unpacked: a small member in memory, a large one into a
// temporary file, which all openings of it share.
type packed struct {
	archive *Archive
	entry   *entry
	stream  io.ReadCloser
	pos     int64
	random  *io.SectionReader // of the whole member, once it is unpacked
}

func (p *packed) Size() int64 { return p.entry.size }

func (p *packed) Close() error {
	if p.stream == nil {
		return nil
	}
	err := p.stream.Close()
	p.stream = nil
	return err
}

func (p *packed) Read(b []byte) (int, error) {
	if p.random != nil {
		return p.random.Read(b)
	}
	if p.pos >= p.entry.size {
		return 0, io.EOF
	}
	if p.stream == nil {
		var err error
		if p.stream, err = p.entry.unpack(); err != nil {
			return 0, fmt.Errorf("unpacking: %w", err)
		}
	}
	// What follows the declared size is never read.
	n, err := p.stream.Read(b[:min(int64(len(b)), p.entry.size-p.pos)])
	p.pos += int64(n)
	if errors.Is(err, io.EOF) && p.pos < p.entry.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (p *packed) Seek(offset int64, whence int) (int64, error) {
	if p.random == nil {
		to := offset
		switch whence {
		case io.SeekCurrent:
			to += p.pos
		case io.SeekEnd:
			to += p.entry.size
		}
		if to >= p.pos && to <= p.entry.size {
			_, err := io.CopyN(io.Discard, readOnly{p}, to-p.pos)
			return p.pos, err
		}
		if err := p.unpack(); err != nil {
			return p.pos, err
		}
	}
	return p.random.Seek(offset, whence)
}

// readOnly hides everything but Read.
type readOnly struct{ io.Reader }

func (p *packed) ReadAt(b []byte, offset int64) (int, error) {
	if p.random == nil {
		if err := p.unpack(); err != nil {
			return 0, err
		}
	}
	return p.random.ReadAt(b, offset)
}

// unpack gives the whole member random access, at the position that the stream had.
func (p *packed) unpack() error {
	at := p.pos
	p.Close()
	e := p.entry
	var whole io.ReaderAt
	if e.size <= inMemory {
		s, err := e.unpack()
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		defer s.Close()
		// The buffer grows with the data: a declared size alone claims no memory.
		var b bytes.Buffer
		if _, err := io.Copy(&b, io.LimitReader(s, e.size)); err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		whole = bytes.NewReader(b.Bytes())
	} else {
		e.once.Do(func() {
			s, err := e.unpack()
			if err != nil {
				e.err = fmt.Errorf("unpacking: %w", err)
				return
			}
			defer s.Close()
			if e.spooled, _, e.err = p.archive.spool(io.LimitReader(s, e.size)); e.err != nil {
				e.err = fmt.Errorf("unpacking: %w", e.err)
			}
		})
		if e.err != nil {
			return e.err
		}
		whole = e.spooled
	}
	p.random = io.NewSectionReader(whole, 0, e.size)
	_, err := p.random.Seek(at, io.SeekStart)
	return err
}
