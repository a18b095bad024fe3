package tune

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "modernc.org/sqlite" // the driver: SQLite without cgo

	"github.com/ctclass/ctclass/internal/rng"
)

// StudyFile is the database in the folder of a study.
const StudyFile = "study.db"

// The states of a job, a trial in a stage.
const (
	waiting = "waiting" // begun, and put back by a worker that was interrupted
	running = "running"
	done    = "done"
	ended   = "ended" // worse than half of the others at the same epoch
	failed  = "failed"
)

const (
	beat  = 5 * time.Second // from one sign of life of a worker to the next
	stale = 12 * beat       // without one a worker counts as dead
)

const schema = `
CREATE TABLE IF NOT EXISTS study (id INTEGER PRIMARY KEY CHECK (id = 1), identity TEXT NOT NULL, metric TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trial (number INTEGER PRIMARY KEY, vals TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS job (
	trial INTEGER NOT NULL REFERENCES trial(number), stage INTEGER NOT NULL, state TEXT NOT NULL,
	value REAL, reason TEXT NOT NULL DEFAULT '', host TEXT NOT NULL DEFAULT '', pid INTEGER NOT NULL DEFAULT 0, beat INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (trial, stage));
CREATE TABLE IF NOT EXISTS epoch (
	trial INTEGER NOT NULL, stage INTEGER NOT NULL, epoch INTEGER NOT NULL, value REAL NOT NULL,
	PRIMARY KEY (trial, stage, epoch));`

// store is the database of a study. Every change is one transaction that locks it, so processes take turns.
type store struct {
	db    *sql.DB
	study *Study
	lower bool // a small value is the good one
	host  string
	now   func() time.Time
	alive func(host string, pid int) bool
}

// openStore opens the database of a study, and makes it where there is none. A study in it with another space, other
// stages, another base or other data is an error.
func openStore(ctx context.Context, dir string, s *Study, identity, metric string, lower bool) (*store, error) {
	path := filepath.Join(dir, StudyFile)
	db, err := sql.Open("sqlite", "file:"+filepath.ToSlash(path)+"?_txlock=immediate&_pragma=busy_timeout(60000)")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	t := &store{db: db, study: s, lower: lower, now: time.Now}
	t.host, _ = os.Hostname() // a system without a name has one machine
	t.alive = aliveOn(t.host)
	err = t.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		var had, hadMetric string
		err := tx.QueryRowContext(ctx, `SELECT identity, metric FROM study`).Scan(&had, &hadMetric)
		if errors.Is(err, sql.ErrNoRows) {
			_, err = tx.ExecContext(ctx, `INSERT INTO study VALUES (1, ?, ?)`, identity, metric)
			return err
		}
		if err == nil && (had != identity || hadMetric != metric) {
			return errOtherStudy
		}
		return err
	})
	if err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

var errOtherStudy = errors.New("it holds a study of another space, other stages, another configuration or other data: give the same ones (trials may grow), or name another folder")

func (t *store) close() error { return t.db.Close() }

// change runs f in a transaction that has the database for itself.
func (t *store) change(ctx context.Context, f func(tx *sql.Tx) error) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // SQLite has done it where the disk is full
		return err
	}
	return tx.Commit()
}

// job is a trial in a stage, as it stands in the study.
type job struct {
	Trial, Stage int // from 0
	State        string
	Value        *float64 // best monitored metric; nil: none
	Reason       string
	host         string
	pid          int
	beat         int64
}

// trial is a set of values with its jobs, in the order of the stages.
type trial struct {
	values []float64
	jobs   []job
}

// trials reads all trials in the order of their numbers.
func readTrials(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
},
) ([]trial, error) {
	rows, err := q.QueryContext(ctx, `SELECT t.vals, j.trial, j.stage, j.state, j.value, j.reason, j.host, j.pid, j.beat
		FROM trial t JOIN job j ON j.trial = t.number ORDER BY j.trial, j.stage`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []trial
	for rows.Next() {
		var j job
		var raw string
		if err := rows.Scan(&raw, &j.Trial, &j.Stage, &j.State, &j.Value, &j.Reason, &j.host, &j.pid, &j.beat); err != nil {
			return nil, err
		}
		if j.Trial == len(list) {
			var values []float64
			if err := json.Unmarshal([]byte(raw), &values); err != nil {
				return nil, err
			}
			list = append(list, trial{values: values})
		}
		if j.Trial != len(list)-1 || j.Stage != len(list[j.Trial].jobs) {
			return nil, fmt.Errorf("trial %d is not complete: the study was changed by another program", j.Trial+1)
		}
		list[j.Trial].jobs = append(list[j.Trial].jobs, j)
	}
	return list, rows.Err()
}

// next takes the job that is to be worked on. ok is false when there is none: with busy set because others work on
// what may lead to more.
func (t *store) next(ctx context.Context) (j job, values []float64, ok, busy bool, err error) {
	err = t.change(ctx, func(tx *sql.Tx) error {
		trials, err := readTrials(ctx, tx)
		if err != nil {
			return err
		}
		busy = t.someRun(trials)
		j, ok = t.choose(trials)
		if !ok {
			return nil
		}
		if j.Trial == len(trials) {
			stream := rng.New(rng.Key(t.study.Seed, "tune", uint64(j.Trial)))
			values = propose(t.dimensions(), t.observations(trials), &stream)
			raw, err := json.Marshal(values)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, `INSERT INTO trial VALUES (?, ?)`, j.Trial, string(raw)); err != nil {
				return err
			}
		} else {
			values = trials[j.Trial].values
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO job (trial, stage, state, host, pid, beat) VALUES (?, ?, ?, ?, ?, ?)
			ON CONFLICT DO UPDATE SET state = excluded.state, host = excluded.host, pid = excluded.pid, beat = excluded.beat, reason = ''`,
			j.Trial, j.Stage, running, t.host, os.Getpid(), t.now().Unix())
		return err
	})
	return j, values, ok, busy, err
}

// choose picks the next job: one that a worker has left, the best trial that is among the share that goes on to a later
// stage, a new trial.
func (t *store) choose(trials []trial) (job, bool) {
	for _, tr := range trials {
		for _, j := range tr.jobs {
			if j.State == waiting || j.State == running && !t.works(j) {
				return j, true
			}
		}
	}
	for stage := len(t.study.Stages) - 2; stage >= 0; stage-- {
		if best, n := t.finished(trials, stage); n > 0 {
			for _, j := range best[:n] {
				if j.State == done && j.Value != nil && len(trials[j.Trial].jobs) == stage+1 {
					return job{Trial: j.Trial, Stage: stage + 1}, true
				}
			}
		}
	}
	if len(trials) < t.study.Trials {
		return job{Trial: len(trials)}, true
	}
	return t.last(trials)
}

// finished returns the jobs of a stage that are over, the best first, and how many of them may go on.
func (t *store) finished(trials []trial, stage int) (list []job, n int) {
	for _, tr := range trials {
		if len(tr.jobs) > stage {
			if j := tr.jobs[stage]; j.State == done || j.State == ended || j.State == failed {
				list = append(list, j)
			}
		}
	}
	slices.SortStableFunc(list, t.compare)
	return list, int(t.study.Keep * float64(len(list)))
}

// last lets the best trial go on where the share of a few trials is none at all, so that one comes to the last stage.
func (t *store) last(trials []trial) (job, bool) {
	if t.someRun(trials) {
		return job{}, false
	}
	for stage := range len(t.study.Stages) - 1 {
		if slices.ContainsFunc(trials, func(tr trial) bool { return len(tr.jobs) > stage+1 }) {
			continue
		}
		best, _ := t.finished(trials, stage)
		if len(best) > 0 && best[0].State == done && best[0].Value != nil {
			return job{Trial: best[0].Trial, Stage: stage + 1}, true
		}
	}
	return job{}, false
}

// compare puts the better value first; jobs without one come last, and those that were ended behind those that were
// not.
func (t *store) compare(a, b job) int {
	rank := func(j job) int {
		switch {
		case j.Value == nil || j.State == failed:
			return 2
		case j.State == ended:
			return 1
		}
		return 0
	}
	if d := rank(a) - rank(b); d != 0 || rank(a) == 2 {
		return d
	}
	switch x, y := t.score(*a.Value), t.score(*b.Value); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// score is the smaller the better.
func (t *store) score(value float64) float64 {
	if t.lower {
		return value
	}
	return -value
}

// works reports whether the worker of a running job is still at it.
func (t *store) works(j job) bool {
	return t.now().Unix()-j.beat < int64(stale/time.Second) && t.alive(j.host, j.pid)
}

func (t *store) someRun(trials []trial) bool {
	for _, tr := range trials {
		for _, j := range tr.jobs {
			if j.State == running && t.works(j) {
				return true
			}
		}
	}
	return false
}

func (t *store) dimensions() []dimension {
	var dims []dimension
	for i := range t.study.Space {
		dims = append(dims, t.study.Space[i].dimension())
	}
	return dims
}

// observations are the trials with a value at the latest stage that enough of them have reached; where no stage has
// enough, those of the first.
func (t *store) observations(trials []trial) []observation {
	for stage := len(t.study.Stages) - 1; ; stage-- {
		var list []observation
		for _, tr := range trials {
			if len(tr.jobs) > stage {
				if j := tr.jobs[stage]; j.Value != nil && (j.State == done || j.State == ended) {
					list = append(list, observation{tr.values, t.score(*j.Value)})
				}
			}
		}
		if len(list) >= startup || stage == 0 {
			return list
		}
	}
}

// sign tells the others that a job is still worked on.
func (t *store) sign(ctx context.Context, j job) error {
	_, err := t.db.ExecContext(ctx, `UPDATE job SET beat = ? WHERE trial = ? AND stage = ?`, t.now().Unix(), j.Trial, j.Stage)
	return err
}

// finish notes the end of a job.
func (t *store) finish(ctx context.Context, j job) error {
	_, err := t.db.ExecContext(ctx, `UPDATE job SET state = ?, value = ?, reason = ?, pid = 0 WHERE trial = ? AND stage = ?`, j.State, j.Value, j.Reason, j.Trial, j.Stage)
	return err
}

// report notes the value of an epoch. It returns the best that the job has had so far, and whether that is worse than
// what half of the others had by that epoch, of which there must be enough.
func (t *store) report(ctx context.Context, j job, epoch int, value float64) (best float64, worse bool, err error) {
	err = t.change(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `INSERT INTO epoch VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`,
			j.Trial, j.Stage, epoch, value); err != nil {
			return err
		}
		// The best that each trial had by this epoch: a single bad epoch ends nothing.
		better := "MAX"
		if t.lower {
			better = "MIN"
		}
		rows, err := tx.QueryContext(ctx, `SELECT trial, `+better+`(value), MAX(epoch) FROM epoch WHERE stage = ? AND epoch <= ? GROUP BY trial`, j.Stage, epoch)
		if err != nil {
			return err
		}
		defer rows.Close()
		var others []float64
		for rows.Next() {
			var trial, last int
			var v float64
			if err := rows.Scan(&trial, &v, &last); err != nil {
				return err
			}
			switch {
			case trial == j.Trial:
				best = v
			case last == epoch:
				others = append(others, t.score(v))
			}
		}
		slices.Sort(others)
		worse = len(others) >= medianMin && t.score(best) > others[len(others)/2]
		return rows.Err()
	})
	return best, worse, err
}

// medianMin is the number of other trials at an epoch from which one may be ended for being worse than half of them.
const medianMin = 5
