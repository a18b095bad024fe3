package runs

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// The states of a run.
const (
	Running     = "running"
	Finished    = "finished"
	Interrupted = "interrupted"
	Failed      = "failed"
	Killed      = "killed" // its process is gone without a word; never written
	Unknown     = "unknown"
)

// Status is how far a run is.
type Status struct {
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"` // of a failure
	Step      int       `json:"step"`
	Steps     int       `json:"steps"` // of the whole run
	Epoch     int       `json:"epoch"` // epochs done
	Epochs    int       `json:"epochs"`
	TrainLoss *float64  `json:"train_loss,omitempty"` // of the last epoch
	Monitor   string    `json:"monitor"`              // name of the metric that picks the best model
	Best      *float64  `json:"best,omitempty"`       // its best value
	BestEpoch int       `json:"best_epoch,omitempty"` // from 1
	Updated   time.Time `json:"updated"`
	Host      string    `json:"host,omitempty"`
	PID       int       `json:"pid"`
}

// WriteStatus replaces the status of a run folder.
func WriteStatus(dir string, s Status) error {
	s.Updated = time.Now().UTC().Truncate(time.Second)
	s.PID = os.Getpid()
	s.Host, _ = os.Hostname()
	return writeJSON(dir, StatusFile, s)
}

// ReadStatus reads the status of a run folder. A run whose process is gone is Killed.
func ReadStatus(dir string) (Status, error) {
	var s Status
	if err := readJSON(dir, StatusFile, &s); err != nil {
		return s, err
	}
	if s.State == Running && !alive(s) {
		s.State = Killed
	}
	return s, nil
}

// alive says whether the process of a running run may still be there: known for this machine only.
func alive(s Status) bool {
	if host, _ := os.Hostname(); host != s.Host || s.PID == 0 {
		return true
	}
	return Alive(s.PID)
}

// Alive says whether this machine has a process of that number.
func Alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer p.Release()
	if runtime.GOOS == "windows" { // there FindProcess has asked the system
		return true
	}
	err = p.Signal(syscall.Signal(0))
	return err == nil || os.IsPermission(err)
}
