package cache

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/ctclass/ctclass/internal/rng"
)

const warmVariable = "CTCLASS_TEST_WARM"

// sampleValues is the size of the samples that the processes make.
const sampleValues = 1 << 16

func made(i int) Sample {
	return Sample{Voxels: noise(sampleValues, 0, 1, uint64(i)), Warnings: []string{"sample " + strconv.Itoa(i)}}
}

// TestMain is, in the processes that TestKilledProcesses starts, a warmer that goes round for ever.
func TestMain(m *testing.M) {
	dir := os.Getenv(warmVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	for i := os.Getpid(); ; i++ {
		c, err := Open(Settings{Dir: dir, Limit: 3 << 20, Warn: func(string) {}})
		if err != nil {
			os.Exit(1)
		}
		for range 100 {
			if _, err := c.Prepare(key(i%50), sampleValues, func() (Sample, error) { return made(i % 50), nil }); err != nil {
				os.Exit(1)
			}
			i++
		}
	}
}

// Eight processes that warm one cache, with too little room for all of it, are killed at random and started again.
// What they leave is sound, also after bits in it flip.
func TestKilledProcesses(t *testing.T) {
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	chance := rng.New(rng.Key(5, "kills"))
	processes := make([]*exec.Cmd, 8)
	start := func() *exec.Cmd {
		p := exec.Command(self)
		p.Env = append(os.Environ(), warmVariable+"="+dir)
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for i := range processes {
		processes[i] = start()
	}
	end := func(p *exec.Cmd) {
		if err := p.Process.Kill(); err != nil {
			t.Errorf("a process ended by itself: %v", err)
		}
		p.Wait()
	}
	for range 40 {
		time.Sleep(time.Duration(chance.Intn(50)) * time.Millisecond)
		i := chance.Intn(len(processes))
		end(processes[i])
		processes[i] = start()
	}
	for _, p := range processes {
		end(p)
	}
	damage, total, err := Verify(t.Context(), dir, func(int) {}, func() {})
	if err != nil || len(damage) > 0 || total < 10 {
		t.Fatalf("%d entries, damaged %v: %v", total, damage, err)
	}
	st, err := Look(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d entries, %d bytes, %d leftovers", st.Entries, st.Bytes, st.Leftovers)

	list, err := existing(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list[:5] {
		b, err := os.ReadFile(f.path)
		if err != nil {
			t.Fatal(err)
		}
		b[chance.Intn(len(b))] ^= 1 << chance.Intn(8)
		if err := os.WriteFile(f.path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if damage, _, err = Verify(t.Context(), dir, func(int) {}, func() {}); err != nil || len(damage) != 5 {
		t.Fatalf("found %v: %v", damage, err)
	}
	c, _ := open(t, Settings{Dir: dir})
	plain, _ := open(t, Settings{Dir: t.TempDir()})
	for i := range 50 {
		fresh := func() (Sample, error) { return made(i), nil }
		got, err := c.Prepare(key(i), sampleValues, fresh)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := plain.Prepare(key(i), sampleValues, fresh)
		if !sameBits(got.Voxels, want.Voxels) || got.Warnings[0] != want.Warnings[0] {
			t.Fatalf("sample %d is another one", i)
		}
	}
	if damage, _, err = Verify(t.Context(), dir, func(int) {}, func() {}); err != nil || len(damage) > 0 {
		t.Errorf("not healed: %v, %v", damage, err)
	}
}
