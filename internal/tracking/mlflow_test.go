package tracking

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/ctclass/ctclass/internal/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a tracking server that knows the part of MLflow's REST API 2.0 that is used, and refuses what MLflow's
// documentation does not allow.
type server struct {
	t  *testing.T
	mu sync.Mutex

	experiments []string
	run         map[string]any // as created
	status      []string
	params      map[string]string
	metrics     map[string][]metric
	refuse      bool // every request
	auth        []string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(code int, v any) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v)
	}
	fail := func(code int, name, format string, args ...any) {
		answer(code, map[string]string{"error_code": name, "message": fmt.Sprintf(format, args...)})
	}
	s.auth = append(s.auth, r.Header.Get("Authorization"))
	if s.refuse {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	var body map[string]json.RawMessage
	if r.Method == http.MethodPost {
		raw, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(raw, &body); err != nil || r.Header.Get("Content-Type") != "application/json" {
			fail(400, "BAD_REQUEST", "no JSON")
			return
		}
	}
	text := func(key string) (v string) {
		_ = json.Unmarshal(body[key], &v)
		return v
	}
	switch r.Method + " " + r.URL.Path {
	case "GET /api/2.0/mlflow/experiments/get-by-name":
		i := slices.Index(s.experiments, r.URL.Query().Get("experiment_name"))
		if i < 0 {
			fail(404, "RESOURCE_DOES_NOT_EXIST", "no experiment")
			return
		}
		answer(200, map[string]any{"experiment": map[string]string{"experiment_id": fmt.Sprint(i + 1)}})
	case "POST /api/2.0/mlflow/experiments/create":
		s.experiments = append(s.experiments, text("name"))
		answer(200, map[string]string{"experiment_id": fmt.Sprint(len(s.experiments))})
	case "POST /api/2.0/mlflow/runs/create":
		s.run = map[string]any{}
		for k, v := range body {
			var x any
			_ = json.Unmarshal(v, &x)
			s.run[k] = x
		}
		answer(200, map[string]any{"run": map[string]any{"info": map[string]string{"run_id": "r1"}}})
	case "POST /api/2.0/mlflow/runs/update":
		if text("run_id") != "r1" {
			fail(404, "RESOURCE_DOES_NOT_EXIST", "no run")
			return
		}
		s.status = append(s.status, text("status"))
		answer(200, map[string]any{})
	case "POST /api/2.0/mlflow/runs/log-batch":
		var metrics []metric
		var params []keyValue
		_ = json.Unmarshal(body["metrics"], &metrics)
		_ = json.Unmarshal(body["params"], &params)
		if len(metrics) > 1000 || len(params) > 100 || text("run_id") != "r1" {
			fail(400, "INVALID_PARAMETER_VALUE", "%d metrics, %d params", len(metrics), len(params))
			return
		}
		key := regexp.MustCompile(`^[\w\-. :/]+$`)
		for _, p := range params {
			if !key.MatchString(p.Key) || len([]rune(p.Value)) > 500 {
				fail(400, "INVALID_PARAMETER_VALUE", "%q", p.Key)
				return
			}
			s.params[p.Key] = p.Value
		}
		for _, m := range metrics {
			if !key.MatchString(m.Key) || m.Timestamp < 1e12 {
				fail(400, "INVALID_PARAMETER_VALUE", "%q", m.Key)
				return
			}
			s.metrics[m.Key] = append(s.metrics[m.Key], m)
		}
		answer(200, map[string]any{})
	default:
		s.t.Errorf("MLflow has no %s %s", r.Method, r.URL.Path)
		w.WriteHeader(404)
	}
}

func newServer(t *testing.T) (*server, string) {
	s := &server{t: t, params: map[string]string{}, metrics: map[string][]metric{}}
	h := httptest.NewServer(s)
	t.Cleanup(h.Close)
	return s, h.URL
}

func noEnv(string) (string, bool) { return "", false }

func TestMLflow(t *testing.T) {
	s, uri := newServer(t)
	lg := slog.New(slog.DiscardHandler)
	params := map[string]string{"model.options": strings.Repeat("x", 600)}
	for i := range 150 {
		params[fmt.Sprintf("key.%d", i)] = fmt.Sprint(i)
	}
	c := config.MLflow{URI: uri + "/", Experiment: "lungs"}
	dir := t.TempDir()
	m, err := openMLflow(t.Context(), c, Run{Dir: dir, Name: "run7", Params: params, Tags: map[string]string{"ctclass.version": "1"}}, lg, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	for step := range 2500 {
		if err := m.log(step+1, []Scalar{{"train/loss", float64(step)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.log(2500, []Scalar{{"val_Ödem/auroc", 0.5}}); err != nil {
		t.Fatal(err)
	}
	if err := m.close(Interrupted); err != nil {
		t.Fatal(err)
	}
	if s.run["experiment_id"] != "1" || s.run["run_name"] != "run7" || s.experiments[0] != "lungs" {
		t.Errorf("created %v in %v", s.run, s.experiments)
	}
	if len(s.params) != 151 || s.params["key.149"] != "149" || len([]rune(s.params["model.options"])) != 500 {
		t.Errorf("%d params", len(s.params))
	}
	loss := s.metrics["train/loss"]
	if len(loss) != 2500 {
		t.Fatalf("%d measures of the loss", len(loss))
	}
	for i, l := range loss {
		if l.Step != i+1 || l.Value != float64(i) {
			t.Fatalf("measure %d is %+v", i, l)
		}
	}
	if len(s.metrics["val__dem/auroc"]) != 1 {
		t.Errorf("metrics %d", len(s.metrics))
	}
	if !slices.Equal(s.status, []string{"KILLED"}) {
		t.Errorf("status %v", s.status)
	}

	// A resumed run goes on in the same run of the server.
	s.run = nil
	if m, err = openMLflow(t.Context(), c, Run{Dir: dir, Step: 2500}, lg, noEnv); err != nil {
		t.Fatal(err)
	}
	if err := m.close(Finished); err != nil {
		t.Fatal(err)
	}
	if s.run != nil || !slices.Equal(s.status, []string{"KILLED", "RUNNING", "FINISHED"}) {
		t.Errorf("resumed: created %v, status %v", s.run, s.status)
	}
}

// A server that is away for a while gets everything later; one that never answers does not fail the run.
func TestMLflowOutage(t *testing.T) {
	s, uri := newServer(t)
	var log strings.Builder
	lg := slog.New(slog.NewTextHandler(&log, nil))
	m, err := openMLflow(t.Context(), config.MLflow{URI: uri, Experiment: "e"}, Run{Dir: t.TempDir()}, lg, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	set := func(refuse bool) { s.mu.Lock(); s.refuse = refuse; s.mu.Unlock() }
	set(true)
	_ = m.log(1, []Scalar{{"a", 1}})
	if err := m.send(t.Context()); err == nil {
		t.Error("no error from a server that refuses")
	}
	_ = m.log(2, []Scalar{{"a", 2}})
	set(false)
	if err := m.send(t.Context()); err != nil || len(s.metrics["a"]) != 2 || s.metrics["a"][0].Step != 1 {
		t.Errorf("%v; %v", err, s.metrics["a"])
	}
	set(true)
	_ = m.log(3, []Scalar{{"a", 3}})
	if err := m.close(Failed); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "not told everything") || !strings.Contains(log.String(), "503") {
		t.Errorf("log:\n%s", log.String())
	}
}

func TestMLflowRefused(t *testing.T) {
	lg := slog.New(slog.DiscardHandler)
	for uri, want := range map[string]string{
		"file:///tmp/mlruns":     "want the address of a tracking server",
		"localhost:5000":         "want the address of a tracking server",
		"http://127.0.0.1:1/sub": "the MLflow server http://127.0.0.1:1/sub cannot be used",
	} {
		_, err := Open(t.Context(), config.Output{MLflow: config.MLflow{URI: uri, Experiment: "e"}}, Run{Dir: t.TempDir()}, lg)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", uri, err)
		}
	}
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer page.Close()
	_, err := Open(t.Context(), config.Output{MLflow: config.MLflow{URI: page.URL, Experiment: "e"}}, Run{Dir: t.TempDir()}, lg)
	if err == nil || !strings.Contains(err.Error(), "not what an MLflow server says") {
		t.Error(err)
	}
}

func TestMLflowCredentials(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"Bearer abc":     {"MLFLOW_TRACKING_TOKEN": "abc"},
		"Basic dTpwYXNz": {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "pass"},
		"":               {},
	} {
		s, uri := newServer(t)
		m, err := openMLflow(t.Context(), config.MLflow{URI: uri, Experiment: "e"}, Run{Dir: t.TempDir()}, slog.New(slog.DiscardHandler),
			func(name string) (string, bool) { v, ok := env[name]; return v, ok })
		if err != nil {
			t.Fatal(err)
		}
		if err := m.close(Finished); err != nil {
			t.Fatal(err)
		}
		for _, got := range s.auth {
			if got != want {
				t.Errorf("authorization %q, want %q", got, want)
			}
		}
	}
}
