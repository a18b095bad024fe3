package tracking

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ctclass/ctclass/internal/atomicfile"
	"github.com/ctclass/ctclass/internal/config"
)

const (
	mlflowFile    = "mlflow.json"    // of a run folder: the server's run, for resuming
	sendPeriod    = 10 * time.Second // from one batch of measures to the next
	closeTimeout  = 20 * time.Second // for what is left at the end of a run
	maxMetrics    = 1000             // of a request (MLflow's REST API, log-batch)
	maxParams     = 100              // of a request
	maxParamValue = 500              // characters; newer servers take more
	maxWaiting    = 200_000          // measures kept while the server does not answer
)

// mlflow sends measures to a tracking server by its REST API 2.0. Requests are made in the background.
type mlflow struct {
	base   string // …/api/2.0/mlflow/
	client *http.Client
	auth   func(*http.Request)
	lg     *slog.Logger
	runID  string

	mu      sync.Mutex
	waiting []metric
	dropped int

	stop chan struct{}
	done chan struct{}
}

// metric is a measure in the server's words.
type metric struct {
	Key       string  `json:"key"`
	Value     float64 `json:"value"`
	Timestamp int64   `json:"timestamp"` // ms since 1970
	Step      int     `json:"step"`
}

type keyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// openMLflow makes a run on the server, or goes on with the one that the run folder names.
func openMLflow(ctx context.Context, c config.MLflow, r Run, lg *slog.Logger, env func(string) (string, bool)) (*mlflow, error) {
	u, err := url.Parse(c.URI)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("output.mlflow.uri is %q, want the address of a tracking server, such as http://localhost:5000", c.URI)
	}
	m := &mlflow{
		base: strings.TrimRight(c.URI, "/") + "/api/2.0/mlflow/", client: &http.Client{Timeout: 15 * time.Second},
		auth: credentials(env), lg: lg, stop: make(chan struct{}), done: make(chan struct{}),
	}
	if err := m.begin(ctx, c, r); err != nil {
		return nil, fmt.Errorf("the MLflow server %s cannot be used: %w; start it, or leave output.mlflow.uri empty", c.URI, err)
	}
	go m.loop()
	return m, nil
}

// credentials takes the names that MLflow's own clients use.
func credentials(env func(string) (string, bool)) func(*http.Request) {
	if token, ok := env("MLFLOW_TRACKING_TOKEN"); ok && token != "" {
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
	}
	if user, ok := env("MLFLOW_TRACKING_USERNAME"); ok && user != "" {
		password, _ := env("MLFLOW_TRACKING_PASSWORD")
		return func(r *http.Request) { r.SetBasicAuth(user, password) }
	}
	return func(*http.Request) {}
}

// saved is the content of mlflowFile.
type saved struct {
	URI   string `json:"uri"`
	RunID string `json:"run_id"`
}

func (m *mlflow) begin(ctx context.Context, c config.MLflow, r Run) error {
	path := filepath.Join(r.Dir, mlflowFile)
	if r.Step > 0 {
		var s saved
		raw, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && json.Unmarshal(raw, &s) == nil && s.URI == c.URI {
			err := m.call(ctx, "runs/update", map[string]any{"run_id": s.RunID, "status": "RUNNING"}, nil)
			if err == nil {
				m.runID = s.RunID
				return nil
			}
			m.lg.Warn("MLflow does not know the run of this folder any more: a new one is made", "reason", err)
		}
	}
	experiment, err := m.experiment(ctx, c.Experiment)
	if err != nil {
		return err
	}
	var created struct {
		Run struct {
			Info struct {
				RunID string `json:"run_id"`
			} `json:"info"`
		} `json:"run"`
	}
	if err := m.call(ctx, "runs/create", map[string]any{
		"experiment_id": experiment, "run_name": cmp.Or(c.RunName, r.Name), "start_time": time.Now().UnixMilli(), "tags": pairs(r.Tags),
	}, &created); err != nil {
		return err
	}
	if m.runID = created.Run.Info.RunID; m.runID == "" {
		return errors.New("its answer names no run: is it an MLflow server?")
	}
	for params := range slices.Chunk(pairs(r.Params), maxParams) {
		if err := m.call(ctx, "runs/log-batch", map[string]any{"run_id": m.runID, "params": params}, nil); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(saved{c.URI, m.runID})
	if err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, append(raw, '\n'))
}

// experiment returns the ID of the experiment of that name, which is made where there is none.
func (m *mlflow) experiment(ctx context.Context, name string) (string, error) {
	var found struct {
		Experiment struct {
			ID string `json:"experiment_id"`
		} `json:"experiment"`
	}
	err := m.call(ctx, "experiments/get-by-name?experiment_name="+url.QueryEscape(name), nil, &found)
	var answer *answerError
	if errors.As(err, &answer) && answer.Code == "RESOURCE_DOES_NOT_EXIST" {
		var created struct {
			ID string `json:"experiment_id"`
		}
		err = m.call(ctx, "experiments/create", map[string]any{"name": name}, &created)
		if errors.As(err, &answer) && answer.Code == "RESOURCE_ALREADY_EXISTS" { // another run was faster
			err = m.call(ctx, "experiments/get-by-name?experiment_name="+url.QueryEscape(name), nil, &found)
			return found.Experiment.ID, err
		}
		return created.ID, err
	}
	return found.Experiment.ID, err
}

// answerError is the server's own word on why it refuses.
type answerError struct {
	Status  string `json:"-"`
	Code    string `json:"error_code"`
	Message string `json:"message"`
}

func (e *answerError) Error() string {
	if e.Code == "" {
		return e.Status
	}
	return fmt.Sprintf("%s: %s %s", e.Status, e.Code, e.Message)
}

// call makes a request: POST with a body, else GET.
func (m *mlflow) call(ctx context.Context, path string, body, answer any) error {
	method, content := http.MethodGet, io.Reader(nil)
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return err
		}
		method, content = http.MethodPost, bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, m.base+path, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	m.auth(req)
	res, err := m.client.Do(req)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err // the address is named already
		}
		return err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode/100 != 2 {
		e := &answerError{Status: res.Status}
		_ = json.Unmarshal(raw, e) // a proxy's answer is no JSON: the status is what there is to say
		return e
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(raw, answer); err != nil {
		return fmt.Errorf("its answer is not what an MLflow server says: %w", err)
	}
	return nil
}

// log queues measures, whatever the state of the server.
func (m *mlflow) log(step int, values []Scalar) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.Now().UnixMilli()
	for _, v := range values {
		m.waiting = append(m.waiting, metric{metricKey(v.Name), v.Value, at, step})
	}
	if over := len(m.waiting) - maxWaiting; over > 0 {
		m.waiting = slices.Delete(m.waiting, 0, over)
		m.dropped += over
	}
	return nil
}

// metricKey keeps what MLflow allows in a key: letters, digits and _ - . space : /.
func metricKey(name string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-. :/", r) {
			return r
		}
		return '_'
	}, name)
}

// loop sends what has come now and then. It complains once about each time that the server does not answer.
func (m *mlflow) loop() {
	defer close(m.done)
	tick := time.NewTicker(sendPeriod)
	defer tick.Stop()
	silent := false
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
		}
		err := m.send(context.Background())
		switch {
		case err != nil && !silent:
			m.lg.Warn("MLflow does not take the measures; they are kept and sent later", "reason", err)
		case err == nil && silent:
			m.lg.Info("MLflow takes the measures again")
		}
		silent = err != nil
	}
}

// send passes on the waiting measures in the order in which they came.
func (m *mlflow) send(ctx context.Context) error {
	for {
		m.mu.Lock()
		n := min(len(m.waiting), maxMetrics)
		batch := slices.Clone(m.waiting[:n])
		before := m.dropped
		m.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := m.call(ctx, "runs/log-batch", map[string]any{"run_id": m.runID, "metrics": batch}, nil); err != nil {
			return err
		}
		m.mu.Lock()
		// Measures that were dropped meanwhile were the oldest, those of the batch.
		m.waiting = m.waiting[max(0, n-(m.dropped-before)):]
		m.mu.Unlock()
	}
}

// close sends what is left and the end of the run.
func (m *mlflow) close(end string) error {
	close(m.stop)
	<-m.done
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	status := map[string]string{Finished: "FINISHED", Failed: "FAILED", Interrupted: "KILLED"}[end]
	err := m.send(ctx)
	err = errors.Join(err, m.call(ctx, "runs/update", map[string]any{
		"run_id": m.runID, "status": status, "end_time": time.Now().UnixMilli(),
	}, nil))
	m.client.CloseIdleConnections()
	if err != nil || m.dropped > 0 {
		m.lg.Warn("MLflow was not told everything; history.jsonl has it", "measures not sent", len(m.waiting)+m.dropped, "reason", err)
	}
	return nil // a run does not fail because of it
}

// pairs orders the entries of a map; values that are too long are cut.
func pairs(values map[string]string) []keyValue {
	list := []keyValue{}
	for k, v := range values {
		if r := []rune(v); len(r) > maxParamValue {
			v = string(r[:maxParamValue-1]) + "…"
		}
		list = append(list, keyValue{metricKey(k), v})
	}
	slices.SortFunc(list, func(a, b keyValue) int { return strings.Compare(a.Key, b.Key) })
	return list
}
