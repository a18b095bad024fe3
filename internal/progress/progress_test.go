package progress

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, Lines)
	clock := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r.now = func() time.Time { return clock }
	b := r.Start("epoch 1", 200)
	for range 100 {
		clock = clock.Add(time.Second)
		b.Add(1)
	}
	b.Done()
	b.Add(1)
	u := r.Start("reading", 0)
	clock = clock.Add(45 * time.Second)
	u.Add(7)
	u.Done()
	want := "epoch 1: 30 of 200 (15%), about 2m50s left\n" +
		"epoch 1: 60 of 200 (30%), about 2m20s left\n" +
		"epoch 1: 90 of 200 (45%), about 1m50s left\n" +
		"reading: 7 done in 45s\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestLive(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, Live)
	b := r.Start("training", 4)
	b.Add(1)
	b.Describe("training loss 0.5")
	if got := out.String(); !strings.Contains(got, "training") || !strings.Contains(got, "1/4") {
		t.Errorf("no bar is drawn: %q", got)
	}
	out.Reset()
	if _, err := r.Writer().Write([]byte("a log line\n")); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasSuffix(got, "\ra log line\n") {
		t.Errorf("the bar is not taken away before a log line: %q", got)
	}
	b.Add(3)
	b.Done()
	out.Reset()
	b.Add(1)
	b.Done()
	if out.Len() != 0 {
		t.Errorf("a bar that is done still draws: %q", out.String())
	}
}

// Steps of an earlier job do not make the job look faster.
func TestSkip(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, Lines)
	now := time.Unix(1000, 0)
	r.now = func() time.Time { return now }
	b := r.Start("training", 100)
	b.Skip(60)
	now = now.Add(40 * time.Second)
	b.Add(10)
	if want := "training: 70 of 100 (70%), about 2m0s left\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	var none *Bar
	none.Skip(1)
}

func TestOff(t *testing.T) {
	var out bytes.Buffer
	for _, r := range []*Reporter{nil, New(&out, ModeFor(&out, true))} {
		b := r.Start("x", 2)
		b.Add(1)
		b.Describe("y")
		b.Done()
	}
	if out.Len() != 0 {
		t.Errorf("wrote %q", out.String())
	}
	if ModeFor(&out, false) != Lines || IsTerminal(&out) {
		t.Error("a buffer counts as a terminal")
	}
}

func TestConcurrentUse(t *testing.T) {
	var out bytes.Buffer
	r := New(&out, Live)
	b := r.Start("x", 400)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 100 {
				b.Add(1)
				_, _ = r.Writer().Write([]byte("line\n"))
			}
		})
	}
	wg.Wait()
	b.Done()
	if n := strings.Count(out.String(), "line\n"); n != 400 || b.done != 400 {
		t.Errorf("%d lines, %d steps, want 400 of both", n, b.done)
	}
}
