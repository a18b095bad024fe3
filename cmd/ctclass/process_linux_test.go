package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On a full disk a run ends with what is missing and keeps the state that it saved before, from which it goes on
// to the same end once there is room.
func TestTrainOnAFullDisk(t *testing.T) {
	k := newKillTest(t)
	size := func(name string) int64 {
		info, err := os.Stat(filepath.Join("whole", name))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if err := os.Mkdir("disk", 0o755); err != nil {
		t.Fatal(err)
	}
	// Room for both models and one state, but not for the next state beside it.
	room := func(bytes int64) string { return fmt.Sprintf("size=%d", bytes) }
	state := size("last/state.safetensors")
	small := size("best.safetensors") + size("last/model.safetensors") + state + state/2 + size("history.jsonl") + 64<<10
	if err := unix.Mount("tmpfs", "disk", "tmpfs", 0, room(small)); err != nil {
		t.Skipf("a small disk cannot be mounted here: %v", err)
	}
	defer unix.Unmount("disk", unix.MNT_DETACH) //nolint:errcheck // the test's folder goes away with it
	out, err := exec.CommandContext(t.Context(), "ctclass", k.args("disk/run", "--set", "output.tensorboard=false")...).CombinedOutput()
	if err == nil || err.(*exec.ExitError).ExitCode() != 1 {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"no space left on device", "unchanged", "are free", "continue with --resume"} {
		if !bytes.Contains(out, []byte(want)) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if _, err := os.Stat("disk/run/last/state.safetensors"); err != nil {
		t.Errorf("the state saved before is gone: %v", err)
	}
	if err := unix.Mount("tmpfs", "disk", "tmpfs", unix.MS_REMOUNT, room(20*small)); err != nil {
		t.Fatal(err)
	}
	k.ctclass(k.args("disk/run", "--resume")...)
	k.same("disk/run")
}
