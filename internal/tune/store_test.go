package tune

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

func number(v float64) *float64 { return &v }

// newStudy is a study of one number from 0 to 1 in three stages of which a third goes on.
func newStudy(trials int) *Study {
	return &Study{
		Base: "x", Trials: trials, Seed: 1, Keep: 1.0 / 3, Stages: []Stage{{Fraction: 0.2}, {Fraction: 0.5}, {}},
		Space: []Param{{Key: "x", Low: number(0), High: number(1)}},
	}
}

func openTest(t *testing.T, dir string, s *Study) *store {
	t.Helper()
	st, err := openStore(t.Context(), dir, s, "id", "auroc", false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.close() })
	return st
}

// workOff finishes jobs until nothing is left; a trial's value is that of its number.
func workOff(t *testing.T, st *store, limit int) (jobs []job) {
	t.Helper()
	for range limit {
		j, values, ok, _, err := st.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		j.State, j.Value = done, number(values[0])
		if err := st.finish(t.Context(), j); err != nil {
			t.Fatal(err)
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// Of 9 trials a third goes on to each next stage: 9, 3, 1 jobs, and the best of the first stage is the one in the last.
func TestHalving(t *testing.T) {
	st := openTest(t, t.TempDir(), newStudy(9))
	jobs := workOff(t, st, 100)
	var count [3]int
	for _, j := range jobs {
		count[j.Stage]++
	}
	// The share is taken whenever a worker is free, so that more than a third may have gone on, but none that was not
	// among the best third at its time.
	if count[0] != 9 || count[1] < 3 || count[1] > 5 || count[2] < 1 || count[2] > 2 {
		t.Errorf("%v jobs in the stages", count)
	}
	trials, err := readTrials(t.Context(), st.db)
	if err != nil {
		t.Fatal(err)
	}
	best := 0
	for i, tr := range trials {
		if tr.values[0] > trials[best].values[0] {
			best = i
		}
	}
	if len(trials[best].jobs) != 3 {
		t.Errorf("the best trial has come to stage %d", len(trials[best].jobs))
	}
	// More trials are a continuation.
	st.study.Trials = 12
	if n := len(workOff(t, st, 100)); n < 3 {
		t.Errorf("%d more jobs", n)
	}
}

// One trial in a few comes to the last stage, whatever the share.
func TestLastStageIsReached(t *testing.T) {
	for n := 1; n <= 5; n++ {
		jobs := workOff(t, openTest(t, t.TempDir(), newStudy(n)), 100)
		if last := jobs[len(jobs)-1]; !slices.ContainsFunc(jobs, func(j job) bool { return j.Stage == 2 }) {
			t.Errorf("%d trials end with %+v", n, last)
		}
	}
}

// Several workers take each job once.
func TestWorkersShareAStudy(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	seen := map[[2]int]int{}
	var group sync.WaitGroup
	for range 4 {
		st := openTest(t, dir, newStudy(20)) // a connection each, as processes have
		group.Go(func() {
			for {
				j, values, ok, busy, err := st.next(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					if !busy {
						return
					}
					time.Sleep(time.Millisecond)
					continue
				}
				mu.Lock()
				seen[[2]int{j.Trial, j.Stage}]++
				mu.Unlock()
				j.State, j.Value = done, number(values[0])
				if err := st.finish(context.Background(), j); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	first := 0
	for j, n := range seen {
		if n != 1 {
			t.Errorf("trial %d was worked on %d times in stage %d", j[0], n, j[1])
		}
		if j[1] == 0 {
			first++
		}
	}
	if first != 20 {
		t.Errorf("%d trials", first)
	}
}

// What a worker leaves behind is taken up again: at once when it says so or its process is gone, else when it has
// been silent for long.
func TestAbandonedJobs(t *testing.T) {
	st := openTest(t, t.TempDir(), newStudy(3))
	next := func() (int, bool) {
		j, _, ok, _, err := st.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return j.Trial, ok
	}
	if n, _ := next(); n != 0 {
		t.Fatalf("trial %d", n)
	}
	if n, _ := next(); n != 1 {
		t.Errorf("a job of a living worker is taken away: trial %d", n)
	}
	if err := st.finish(t.Context(), job{Trial: 1, State: waiting}); err != nil {
		t.Fatal(err)
	}
	if n, _ := next(); n != 1 {
		t.Errorf("a job that was put back is not taken: trial %d", n)
	}
	st.alive = func(string, int) bool { return false }
	if n, _ := next(); n != 0 {
		t.Errorf("the job of a dead process is not taken: trial %d", n)
	}
	st.alive = func(string, int) bool { return true }
	now := time.Now().Add(stale + time.Second)
	st.now = func() time.Time { return now }
	if err := st.sign(t.Context(), job{Trial: 1}); err != nil {
		t.Fatal(err)
	}
	if n, _ := next(); n != 0 {
		t.Errorf("the job of a silent worker is not taken: trial %d", n)
	}
}

func TestFailedTrialsDoNotGoOn(t *testing.T) {
	st := openTest(t, t.TempDir(), newStudy(6))
	for i := 0; ; i++ {
		j, _, ok, _, err := st.next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if j.Stage > 0 && j.Trial%2 == 0 {
			t.Errorf("trial %d has failed and goes on", j.Trial)
		}
		j.State, j.Value = done, number(0.5)
		if j.Trial%2 == 0 {
			j.State, j.Value, j.Reason = failed, nil, "no memory"
		}
		if err := st.finish(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
}

// A run that is worse than half of the others at the same epoch is ended, once there are enough others.
func TestMedian(t *testing.T) {
	for _, lower := range []bool{false, true} {
		st := openTest(t, t.TempDir(), newStudy(30))
		st.lower = lower
		sign := 1.0
		if lower {
			sign = -1
		}
		report := func(trial, epoch int, v float64) bool {
			t.Helper()
			_, worse, err := st.report(t.Context(), job{Trial: trial}, epoch, sign*v)
			if err != nil {
				t.Fatal(err)
			}
			return worse
		}
		for trial := range 4 {
			if report(trial, 1, float64(trial)) {
				t.Errorf("trial %d is ended among few", trial)
			}
		}
		report(4, 1, 4)
		if !report(5, 1, 1.5) || report(6, 1, 3.5) {
			t.Error("the median is not where it should be")
		}
		report(6, 2, 0.1) // its best is what counts, and the others have no second epoch
		for trial := range 5 {
			report(trial, 2, float64(trial))
		}
		if report(6, 2, 0.1) {
			t.Error("a bad epoch after a good one ends a run")
		}
	}
}

func TestAnotherStudyIsRefused(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir, newStudy(3)).close()
	for _, other := range [][2]string{{"other", "auroc"}, {"id", "loss"}} {
		if _, err := openStore(t.Context(), dir, newStudy(3), other[0], other[1], false); !errors.Is(err, errOtherStudy) {
			t.Error(err)
		}
	}
	openTest(t, dir, newStudy(5))
	if _, err := openStore(t.Context(), filepath.Join(dir, "nowhere"), newStudy(3), "id", "auroc", false); err == nil || !strings.Contains(err.Error(), StudyFile) {
		t.Error(err)
	}
}

// Warnings of the trainings pass once, whichever trial they are of, and what is less than a warning does not.
func TestQuiet(t *testing.T) {
	var b bytes.Buffer
	w := &worker{}
	for trial := range 3 {
		lg := slog.New(quiet{slog.New(slog.NewTextHandler(&b, nil)).With("trial", trial).Handler(), &w.told})
		lg.Info("step")
		lg.Warn("odd", "scan", "a")
		lg.With("x", 1).Warn("odd", "scan", "a")
	}
	slog.New(quiet{slog.NewTextHandler(&b, nil), &w.told}).Warn("odd", "scan", "b")
	if n := strings.Count(b.String(), "\n"); n != 2 || !strings.Contains(b.String(), "trial=0") {
		t.Errorf("%s", b.String())
	}
}
