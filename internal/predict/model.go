// Package predict applies a trained model to scans.
package predict

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/engine"
	"github.com/ctclass/ctclass/internal/exitcode"
	"github.com/ctclass/ctclass/internal/graph"
	"github.com/ctclass/ctclass/internal/modelfile"
	"github.com/ctclass/ctclass/internal/models"
	"github.com/ctclass/ctclass/internal/session"
)

// Model is a trained classifier: the model file and the network that it describes.
type Model struct {
	*modelfile.Model
	Path    string // of the model file
	ID      string // first digits of the file's SHA-256, which tell it from every other
	Network *models.Network
}

// Load reads a model file, or the model of a run folder: the one that output.save of its config.yaml asks
// for, or the last one where no validation has chosen a best one. Whether the weights fit the network shows
// in Start.
func Load(path string) (*Model, error) {
	path, err := find(path)
	if err != nil {
		return nil, err
	}
	type identity struct {
		id  string
		err error
	}
	identified := make(chan identity, 1) // beside the loading, which takes as long
	go func() {
		id, err := fingerprint(path)
		identified <- identity{id, err}
	}()
	file, err := modelfile.Load(path)
	if err != nil {
		return nil, err
	}
	net, err := models.New(config.Model{Name: file.Arch, Options: file.Options}, len(file.Labels))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if net.InChannels != file.InputChannels {
		return nil, fmt.Errorf("%s: its description says %d input channels, its options %d", path, file.InputChannels, net.InChannels)
	}
	i := <-identified
	if i.err != nil {
		return nil, i.err
	}
	return &Model{Model: file, Path: path, ID: i.id, Network: net}, nil
}

// fingerprint identifies a file by its content.
func fingerprint(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// IsModel reports whether path looks like something for Load: a safetensors file or a folder with config.yaml.
func IsModel(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return err == nil && strings.EqualFold(filepath.Ext(path), ".safetensors")
	}
	_, err := os.Stat(filepath.Join(path, "config.yaml"))
	return err == nil
}

// find returns the model file that path names.
func find(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("the model cannot be found: %w", err)
	}
	if !info.IsDir() {
		return path, nil
	}
	configPath := filepath.Join(path, "config.yaml")
	if _, err := os.Stat(configPath); errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is a folder without config.yaml: name a model file or the folder of a training run", path)
	}
	c, err := config.Load(configPath, nil, nil)
	if err != nil {
		return "", err
	}
	best, last := filepath.Join(path, "best.safetensors"), filepath.Join(path, "last", "model.safetensors")
	files := []string{best, last}
	if c.Output.Save == "last" {
		files = []string{last}
	}
	for _, file := range files {
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s holds no model yet: there is no %s", path, filepath.Base(files[len(files)-1]))
}

// Start compiles the network for batches of up to batch samples on dev, takes its memory and loads the
// weights, which must be exactly the network's.
func (m *Model) Start(dev engine.Device, batch int) (*session.Session, error) {
	return m.start(dev, batch, nil)
}

// start is Start with a diagnostic program, see session.Options.
func (m *Model) start(dev engine.Device, batch int, probe func(*graph.Value) (session.Probe, error)) (*session.Session, error) {
	plan, err := session.Compile(dev, session.Options{Network: m.Network, ShapeDHW: m.Preprocess.ShapeDHW, EvalBatch: batch, Probe: probe})
	if err != nil {
		return nil, exitcode.Errorf(exitcode.Usage, "%s: %w", m.Path, err)
	}
	s, err := plan.Start()
	if err != nil {
		return nil, exitcode.Wrap(exitcode.Memory, err)
	}
	if err := s.LoadTensors(m.Tensors); err != nil {
		s.Close()
		return nil, exitcode.Errorf(exitcode.Usage, "%s: %w", m.Path, err)
	}
	return s, nil
}
