package tune

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/data"
	"github.com/ctclass/ctclass/internal/eval"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/progress"
	"github.com/ctclass/ctclass/internal/runs"
	"github.com/ctclass/ctclass/internal/train"
)

// Options say how a study is worked on.
type Options struct {
	Load     Loader
	Threads  int // 0: as the base says
	Log      *slog.Logger
	Progress *progress.Reporter
}

// Run works on a study until nothing is left to do, alone or beside other processes. What was begun before goes on.
// A cancelled context puts the trial back, from where any worker resumes it.
func Run(ctx context.Context, s *Study, opt Options) (*Summary, error) {
	t, base, err := open(ctx, s, opt)
	if err != nil {
		return nil, err
	}
	defer t.close()
	w := &worker{Options: opt, store: t, metric: base.Train.Monitor}
	for {
		j, values, ok, busy, err := t.next(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			return nil, fmt.Errorf("%s: %w", filepath.Join(s.Dir, StudyFile), err)
		case ok:
			if err := w.work(ctx, j, values); err != nil {
				return nil, err
			}
			continue
		case !busy:
			return summarize(ctx, t, base, opt.Load)
		}
		select { // others work on what may lead to more
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Look returns how far a study is, without working on it.
func Look(ctx context.Context, s *Study, opt Options) (*Summary, error) {
	if _, err := os.Stat(filepath.Join(s.Dir, StudyFile)); err != nil {
		return nil, exitcode.Errorf(exitcode.NoInput, "there is no study in %s yet", s.Dir)
	}
	t, base, err := open(ctx, s, opt)
	if err != nil {
		return nil, err
	}
	defer t.close()
	return summarize(ctx, t, base, opt.Load)
}

// open checks the study and opens its database.
func open(ctx context.Context, s *Study, opt Options) (*store, *config.Config, error) {
	if s.Dir == "" {
		return nil, nil, exitcode.Errorf(exitcode.Usage, "the study has no folder: name one with dir, or with --out")
	}
	base, err := opt.Load(s.Base, nil)
	if err != nil {
		return nil, nil, err
	}
	if err := s.Check(opt.Load); err != nil {
		return nil, nil, exitcode.Wrap(exitcode.Usage, err)
	}
	ds, err := data.Open(base.Data, base.Train.Seed)
	if err != nil {
		return nil, nil, exitcode.Wrap(exitcode.Usage, err)
	}
	if len(ds.Subset(data.Val)) == 0 {
		return nil, nil, exitcode.Errorf(exitcode.Usage, "%s has no validation samples, by which trials are judged: name a split column, or set data.val_fraction", base.Data.Table)
	}
	id, err := identity(s, base, ds.Fingerprint())
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return nil, nil, fmt.Errorf("cannot make the folder of the study: %w", err)
	}
	t, err := openStore(ctx, s.Dir, s, id, base.Train.Monitor, eval.LowerIsBetter(base.Train.Monitor))
	return t, base, exitcode.Wrap(exitcode.Usage, err)
}

// identity names what must be the same for all who work on a study.
func identity(s *Study, base *config.Config, dataID string) (string, error) {
	configID, err := train.ConfigID(base)
	if err != nil {
		return "", err
	}
	same := *s
	same.Base, same.Dir, same.Trials = "", "", 0
	same.Space = nil
	h := sha256.New()
	for i := range s.Space {
		p := s.Space[i]
		fmt.Fprintf(h, "%s %v", p.Key, p.dimension())
		for c := range p.Values {
			fmt.Fprintf(h, " %q", p.text(float64(c)))
		}
	}
	raw, err := json.Marshal(same)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s %s %s", raw, configID, dataID)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// errStudy says that a trial's worth cannot be noted.
var errStudy = errors.New(StudyFile + " of the study cannot be written")

// worker works on the jobs of a study.
type worker struct {
	Options
	*store
	metric string
	told   sync.Map // warnings of the trainings
}

// folder is the run folder of a job.
func (s *Study) folder(j job) string {
	return filepath.Join(s.Dir, fmt.Sprintf("trial-%03d", j.Trial+1), fmt.Sprintf("stage-%d", j.Stage+1))
}

// work trains one trial in one stage. A training that fails is the trial's matter; only what concerns the study, or
// the end of it, is an error.
func (w *worker) work(ctx context.Context, j job, values []float64) error {
	lg := w.Log.With("trial", j.Trial+1)
	if len(w.study.Stages) > 1 {
		lg = lg.With("stage", j.Stage+1)
	}
	w.describe(lg, j, values)
	stop := w.keepSigning(ctx, j, lg)
	best, err := w.train(ctx, j, values, lg)
	stop()
	own := context.WithoutCancel(ctx) // what was reached is noted in any case
	j.Value, j.State = best, done
	switch {
	case err != nil && ctx.Err() != nil:
		j.State = waiting
		return errors.Join(ctx.Err(), w.finish(own, j))
	case errors.Is(err, train.ErrBusy): // its worker did not give a sign for long, but is there
		lg.Info("another process works on the trial")
		return nil
	case errors.Is(err, errStudy), atomicfile.IsDiskFull(err): // no fault of the trial's
		j.State = waiting
		_ = w.finish(own, j) // where that fails, too, the job is free once this process is gone
		return fmt.Errorf("trial %d was left off, and goes on when the same command is given again: %w", j.Trial+1, err)
	case errors.Is(err, train.ErrEnded):
		j.State = ended
		lg.Info("ended: worse than half of the trials at this epoch", w.metric, valueText(best))
	case err != nil:
		j.State, j.Reason = failed, err.Error()
		lg.Warn("the trial failed, the study goes on", "reason", err)
	default:
		lg.Info("trial done", w.metric, valueText(best))
	}
	if err := w.finish(own, j); err != nil {
		return fmt.Errorf("%w: %w", errStudy, err)
	}
	return w.allFail(own)
}

// allFail ends a study in which nothing works.
func (w *worker) allFail(ctx context.Context) error {
	const enough = 5
	trials, err := readTrials(ctx, w.db)
	if err != nil || len(trials) < enough {
		return err
	}
	for _, tr := range trials {
		if tr.jobs[0].State != failed {
			return nil
		}
	}
	return exitcode.Errorf(exitcode.Usage, "the first %d trials have all failed, the last one because: %s", len(trials), trials[len(trials)-1].jobs[0].Reason)
}

func (w *worker) describe(lg *slog.Logger, j job, values []float64) {
	args := []any{}
	for i, p := range w.study.Space {
		args = append(args, p.Key, p.text(values[i]))
	}
	if st := w.study.Stages[j.Stage]; st.Fraction > 0 || st.Epochs > 0 {
		args = append(args, "fraction", st.Fraction, "epochs", st.Epochs)
	}
	lg.Info("trial", args...)
}

// keepSigning tells the other workers that the job is worked on, until stop is called.
func (w *worker) keepSigning(ctx context.Context, j job, lg *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(beat)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := w.sign(ctx, j); err != nil && ctx.Err() == nil {
					lg.Warn("the study cannot be told that the trial is under way", "reason", err)
				}
			}
		}
	}()
	return func() { cancel(); <-over }
}

// train makes the run of a job and returns its best value, also where the run has ended early; nil where there is none.
func (w *worker) train(ctx context.Context, j job, values []float64, lg *slog.Logger) (*float64, error) {
	cfg, err := w.Load(w.study.Base, w.study.settings(values, j.Stage))
	if err != nil {
		return nil, err
	}
	cfg.Output.Dir = w.study.folder(j)
	if cfg.Output.MLflow.URI != "" {
		cfg.Output.MLflow.RunName = fmt.Sprintf("%s trial %d stage %d", filepath.Base(w.study.Dir), j.Trial+1, j.Stage+1)
	}
	_, statErr := os.Stat(cfg.Output.Dir)
	var best *float64
	res, err := train.Run(ctx, cfg, train.Options{
		Dir: cfg.Output.Dir, Resume: statErr == nil, GoOn: "give the same command again", Threads: w.Threads, NoDoctor: true,
		Log: slog.New(quiet{lg.Handler(), &w.told}), Progress: w.Progress,
		AfterEpoch: func(epoch int, value float64) error {
			if math.IsNaN(value) {
				return nil
			}
			own, worse, err := w.report(ctx, j, epoch, value)
			if err != nil {
				return fmt.Errorf("%w: %w", errStudy, err)
			}
			best = &own
			if worse && w.study.Median {
				return train.ErrEnded
			}
			return nil
		},
	})
	if err == nil && res.Best.Defined() { // a run that was over already has no epoch left
		value := float64(res.Best)
		best = &value
	}
	return best, err
}

// quiet is a log handler for the trainings: the study says itself what they come to, so that only warnings and errors
// pass, each once.
type quiet struct {
	slog.Handler
	told *sync.Map // of what has passed
}

func (h quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}

func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	if _, again := h.told.LoadOrStore(text, true); again {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h quiet) WithAttrs(a []slog.Attr) slog.Handler { return quiet{h.Handler.WithAttrs(a), h.told} }

func (h quiet) WithGroup(n string) slog.Handler { return quiet{h.Handler.WithGroup(n), h.told} }

// aliveOn returns what tells whether a process of this host, or of another one, may still be there.
func aliveOn(own string) func(host string, pid int) bool {
	return func(host string, pid int) bool { return host != own || runs.Alive(pid) }
}

func valueText(v *float64) string {
	if v == nil {
		return "n/a"
	}
	return fmt.Sprintf("%.4f", *v)
}
