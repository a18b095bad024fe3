// Package progress shows how far a long job is: a bar with the time left on a terminal, a plain line now and
// then elsewhere.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// linePeriod is the shortest time between two plain lines.
const linePeriod = 30 * time.Second

// Mode says how progress is shown.
type Mode int

// The modes.
const (
	Off   Mode = iota // not at all
	Lines             // a plain line every half minute, for logs
	Live              // a bar that is redrawn in place, for terminals
)

// ModeFor returns the mode that suits w: Live on a terminal, else Lines; Off when quiet.
func ModeFor(w io.Writer, quiet bool) Mode {
	switch {
	case quiet:
		return Off
	case IsTerminal(w):
		return Live
	}
	return Lines
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Reporter shows the progress of jobs on one writer, one job at a time. It and its bars may be used by several
// goroutines; a nil Reporter shows nothing.
type Reporter struct {
	mu     sync.Mutex
	w      io.Writer
	mode   Mode
	active *Bar
	now    func() time.Time
}

// New returns a Reporter that writes to w.
func New(w io.Writer, mode Mode) *Reporter {
	return &Reporter{w: w, mode: mode, now: time.Now}
}

// Bar is the progress of one job. A nil Bar shows nothing.
type Bar struct {
	r     *Reporter
	title string
	total int64
	done  int64
	skip  int64 // of done: steps that were done before the job began
	start time.Time
	last  time.Time                // of the last plain line
	live  *progressbar.ProgressBar // nil unless the mode is Live
}

// Start begins a job of total steps; total below 1 means that the number is not known. The bar of an earlier
// job, if any, is closed. Call Done at the end.
func (r *Reporter) Start(title string, total int64) *Bar {
	if r == nil || r.mode == Off {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.active != nil {
		r.active.clear()
	}
	b := &Bar{r: r, title: title, total: total, start: r.now()}
	b.last = b.start
	if r.mode == Live {
		steps := total
		if steps < 1 {
			steps = -1 // a spinner
		}
		b.live = progressbar.NewOptions64(steps,
			progressbar.OptionSetWriter(r.w),
			progressbar.OptionSetDescription(title),
			progressbar.OptionSetWidth(30),
			progressbar.OptionShowCount(),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
		)
	}
	r.active = b
	return b
}

// Add counts n more steps as done.
func (b *Bar) Add(n int) {
	if b == nil {
		return
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.done += int64(n)
	if b.r.active != b {
		return
	}
	if b.live != nil {
		_ = b.live.Add(n) // fails only beyond the end or when the terminal is gone: neither is worth ending a job
		return
	}
	if now := b.r.now(); now.Sub(b.last) >= linePeriod {
		b.last = now
		fmt.Fprintln(b.r.w, b.line(now.Sub(b.start)))
	}
}

// Skip counts n steps as done that an earlier job has made: they do not enter the time that the others will take.
func (b *Bar) Skip(n int) {
	if b == nil || n == 0 {
		return
	}
	b.r.mu.Lock()
	b.skip += int64(n)
	b.r.mu.Unlock()
	b.Add(n)
}

// Grow adds n steps to the total of a job whose size shows only as it goes on.
func (b *Bar) Grow(n int) {
	if b == nil {
		return
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.total += int64(n)
	if b.live != nil {
		b.live.ChangeMax64(b.total)
	}
}

// Describe changes the text in front, for example to name the loss of the last step.
func (b *Bar) Describe(text string) {
	if b == nil {
		return
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.title = text
	if b.live != nil && b.r.active == b {
		b.live.Describe(text)
	}
}

// Done ends the job, finished or not, and takes the bar off the terminal.
func (b *Bar) Done() {
	if b == nil {
		return
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if b.r.active == b {
		b.clear()
	}
}

// clear takes the bar away; the reporter is locked.
func (b *Bar) clear() {
	if b.live != nil {
		_ = b.live.Clear()
	}
	b.r.active = nil
}

// line says in words how far the job is after elapsed.
func (b *Bar) line(elapsed time.Duration) string {
	if b.total < 1 {
		return fmt.Sprintf("%s: %d done in %s", b.title, b.done, elapsed.Round(time.Second))
	}
	text := fmt.Sprintf("%s: %d of %d (%d%%)", b.title, b.done, b.total, 100*b.done/b.total)
	if made := b.done - b.skip; made > 0 && b.done < b.total {
		left := time.Duration(float64(elapsed) / float64(made) * float64(b.total-b.done))
		text += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	return text
}

// Writer returns a writer to the same place for log lines: it takes the bar away before a line is written; the
// next step draws it again.
func (r *Reporter) Writer() io.Writer { return logWriter{r} }

type logWriter struct{ r *Reporter }

func (l logWriter) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	defer l.r.mu.Unlock()
	if l.r.active != nil && l.r.active.live != nil {
		_ = l.r.active.live.Clear()
	}
	return l.r.w.Write(p)
}
