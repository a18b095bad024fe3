package data

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ctclass/ctclass/internal/config"
	"github.com/ctclass/ctclass/internal/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shape of the samples of these tests, small and with three different sizes.
var shape = [3]int{2, 3, 4}

// fakes are n samples; voxel j of sample i is 100*i+j+0.5, target i%2 and for every fifth missing.
func fakes(n int) []Sample {
	s := make([]Sample, n)
	for i := range s {
		name := fmt.Sprintf("s%03d", i)
		s[i] = Sample{ID: sampleID(name), Name: name, Path: name, Index: i, Target: []float64{float64(i % 2)}}
		if i%5 == 4 {
			s[i].Target[0] = math.NaN()
		}
	}
	return s
}

func fakeVolume(s Sample) (*volume.Volume, []string, error) {
	v := &volume.Volume{Size: shape, HU: make([]float32, 24)}
	for j := range v.HU {
		v.HU[j] = float32(100*s.Index+j) + 0.5
	}
	return v, nil, nil
}

func asStored(v *volume.Volume, _ config.Preprocess) ([]float32, []string, error) {
	return v.HU, nil, nil
}

// options are those of a loader of fakes.
func options(change func(*Options)) Options {
	o := Options{
		BatchSize: 4, Shuffle: true, Seed: 7, Augment: flips(true, true, true), Workers: 2,
		Preprocess: config.Preprocess{ShapeDHW: shape}, OpenVolume: fakeVolume, Apply: asStored,
	}
	if change != nil {
		change(&o)
	}
	return o
}

func newLoader(t *testing.T, samples []Sample, o Options) *Loader {
	t.Helper()
	l, err := NewLoader(samples, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// kept is a copy of a batch.
type kept struct {
	names []string
	ids   []uint64
	x, y  []float32
	next  int
}

func collect(t *testing.T, l *Loader, epoch, start int) []kept {
	t.Helper()
	var all []kept
	for b, err := range l.Epoch(t.Context(), epoch, start) {
		if err != nil {
			t.Fatal(err)
		}
		k := kept{ids: slices.Clone(b.IDs), x: slices.Clone(b.X), y: slices.Clone(b.Y), next: b.Next}
		for _, s := range b.Samples {
			k.names = append(k.names, s.Name)
		}
		all = append(all, k)
	}
	return all
}

// text makes batches comparable, missing targets included.
func text(all []kept) string { return fmt.Sprintf("%v", all) }

func TestBatches(t *testing.T) {
	samples := fakes(10)
	l := newLoader(t, samples, options(func(o *Options) { o.Shuffle, o.Augment = false, config.Augment{} }))
	all := collect(t, l, 0, 0)
	if len(all) != 3 || l.Batches() != 3 {
		t.Fatalf("%d batches, announced %d, want 3", len(all), l.Batches())
	}
	i := 0
	for k, b := range all {
		if n := len(b.names); n != min(4, 10-4*k) || len(b.ids) != n || len(b.x) != 24*n || len(b.y) != n || b.next != min(4*k+4, 10) {
			t.Fatalf("batch %d: %+v", k, b)
		}
		for r := range b.names {
			v, _, _ := fakeVolume(samples[i])
			if b.names[r] != samples[i].Name || b.ids[r] != samples[i].ID || !slices.Equal(b.x[r*24:][:24], v.HU) {
				t.Errorf("batch %d row %d is not sample %d", k, r, i)
			}
			if want := float32(samples[i].Target[0]); b.y[r] != want && !(want != want && b.y[r] != b.y[r]) {
				t.Errorf("target of sample %d is %v, want %v", i, b.y[r], want)
			}
			i++
		}
	}
	l = newLoader(t, samples, options(func(o *Options) { o.DropLast = true }))
	if all := collect(t, l, 0, 0); len(all) != 2 || l.Batches() != 2 {
		t.Errorf("with the last one dropped: %d batches, announced %d, want 2", len(all), l.Batches())
	}
	if l = newLoader(t, fakes(3), options(func(o *Options) { o.DropLast = true })); len(collect(t, l, 0, 0)) != 0 {
		t.Error("a short batch was not dropped")
	}
}

// The same bytes for any number of workers, prefetched batches, cache size and pace.
func TestSameForAnyWorkers(t *testing.T) {
	samples := fakes(23)
	var want [3]string
	every := config.Default().Data.Augment
	every.FlipP = [3]float64{0.5, 0.5, 0.5}
	for _, p := range []*float64{
		&every.Affine.P, &every.Crop.P, &every.Elastic.P, &every.Blur.P, &every.LowRes.P, &every.Contrast.P, &every.Shift.P,
		&every.Gamma.P, &every.Noise.P, &every.Cutout.P,
	} {
		*p = 0.7
	}
	for _, workers := range []int{0, 1, 2, 4, 7} {
		for _, cached := range []int64{0, 24 * 4 * 5, 1 << 20} {
			l := newLoader(t, samples, options(func(o *Options) {
				o.Workers, o.Prefetch, o.CacheBytes, o.Augment = workers, workers, cached, every
				o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
					time.Sleep(time.Duration(s.ID%8) * 50 * time.Microsecond)
					return fakeVolume(s)
				}
			}))
			for epoch := range want {
				got := text(collect(t, l, epoch, 0))
				if want[epoch] == "" {
					want[epoch] = got
				}
				if got != want[epoch] {
					t.Errorf("epoch %d differs with %d workers and %d cache bytes", epoch, workers, cached)
				}
			}
		}
	}
	if want[0] == want[1] || want[1] == want[2] {
		t.Error("two epochs are the same")
	}
}

// flips are flips along the given axes d, h, w with probability 1/2.
func flips(axes ...bool) (a config.Augment) {
	for i, on := range axes {
		if on {
			a.FlipP[i] = 0.5
		}
	}
	return a
}

func TestShuffleAndFlip(t *testing.T) {
	const n = 400
	samples := fakes(n)
	l := newLoader(t, samples, options(func(o *Options) { o.Augment.FlipP[1] = 0 }))
	var counts [3]int
	var seen []string
	for _, b := range collect(t, l, 3, 0) {
		for r, name := range b.names {
			seen = append(seen, name)
			i := slices.IndexFunc(samples, func(s Sample) bool { return s.Name == name })
			// The first voxel tells where the sample's voxel (0,0,0) went from: d*12 + h*4 + w.
			corner := int(b.x[r*24]) - 100*i
			at := [3]int{corner / 12, corner / 4 % 3, corner % 4}
			for a := range at {
				if at[a] == shape[a]-1 {
					counts[a]++
				} else if at[a] != 0 {
					t.Fatalf("sample %s begins with voxel %v", name, at)
				}
			}
			// Along a flipped w the neighbours fall, else they rise.
			if step := b.x[r*24+1] - b.x[r*24]; (at[2] == 0) != (step == 1) {
				t.Errorf("sample %s: step %v at corner %v", name, step, at)
			}
		}
	}
	for a, c := range counts {
		if a == 1 && c != 0 {
			t.Error("an axis was flipped that must not be")
		}
		if a != 1 && math.Abs(float64(c)-n/2) > 4*math.Sqrt(n/4.0) {
			t.Errorf("axis %d was flipped %d times of %d", a, c, n)
		}
	}
	if slices.IsSorted(seen) {
		t.Error("the samples were not shuffled")
	}
	slices.Sort(seen)
	if len(slices.Compact(seen)) != n {
		t.Error("an epoch does not hold every sample once")
	}
}

func TestResume(t *testing.T) {
	samples := fakes(30)
	for _, skip := range []bool{false, true} {
		o := options(func(o *Options) {
			o.SkipErrors = skip
			if skip {
				o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
					if s.Index%6 == 2 {
						return nil, nil, errors.New("it is cut short")
					}
					return fakeVolume(s)
				}
			}
		})
		all := collect(t, newLoader(t, samples, o), 5, 0)
		for k := range all {
			rest := collect(t, newLoader(t, samples, o), 5, all[k].next)
			if text(rest) != text(all[k+1:]) {
				t.Errorf("skip %v: going on behind batch %d gives other batches", skip, k)
			}
			if !skip && all[k].next != min(4*(k+1), 30) {
				t.Errorf("the position behind batch %d is %d", k, all[k].next)
			}
		}
	}
}

func TestSkippedSamples(t *testing.T) {
	samples := fakes(10)
	var warned []string
	var opened atomic.Int64
	l := newLoader(t, samples, options(func(o *Options) {
		o.Shuffle, o.SkipErrors = false, true
		o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
			opened.Add(1)
			v, _, err := fakeVolume(s)
			switch s.Index {
			case 1, 2:
				return nil, nil, errors.New("it is cut short")
			case 4:
				return v, []string{"a slice is missing"}, err
			case 5:
				v.HU = v.HU[:23]
			}
			return v, nil, err
		}
		o.Warn = func(s Sample, w string) { warned = append(warned, s.Name+": "+w) }
	}))
	var first string
	for epoch := range 3 {
		all := collect(t, l, epoch, 0)
		var names []string
		for _, b := range all {
			names = append(names, b.names...)
		}
		if want := strings.Fields("s000 s003 s004 s006 s007 s008 s009"); !slices.Equal(names, want) || len(all[0].names) != 4 || len(all) != 2 {
			t.Fatalf("epoch %d: batches %v", epoch, all)
		}
		if epoch == 0 {
			first = fmt.Sprint(names)
		}
		if fmt.Sprint(names) != first {
			t.Error("the batches change once the bad samples are known")
		}
	}
	want := []string{
		"s001: left out: it is cut short", "s002: left out: it is cut short", "s004: a slice is missing",
		"s005: left out: preprocessing made 23 values, not 1 channels of preprocess.shape_dhw [2 3 4]",
	}
	if !slices.Equal(warned, want) {
		t.Errorf("warnings %q, want %q", warned, want)
	}
	if l.Skipped() != 3 || l.Batches() != 2 {
		t.Errorf("skipped %d, batches %d, want 3 and 2", l.Skipped(), l.Batches())
	}
	if n := opened.Load(); n != 10+7+7 {
		t.Errorf("%d scans were opened, want 24: bad ones only once", n)
	}
}

func TestErrorsEndTheEpoch(t *testing.T) {
	bad := func(s Sample) (*volume.Volume, []string, error) {
		if s.Index == 6 {
			return nil, nil, errors.New("it is cut short")
		}
		v, _, err := fakeVolume(s)
		return v, []string{"a gap"}, err
	}
	l := newLoader(t, fakes(20), options(func(o *Options) { o.Shuffle, o.OpenVolume = false, bad }))
	for range 3 { // and the loader still works afterwards, every time
		n := 0
		var got error
		for _, err := range l.Epoch(t.Context(), 0, 0) {
			if err != nil {
				got = err
				continue
			}
			n++
		}
		if n != 1 || got == nil || got.Error() != "sample s006: it is cut short" {
			t.Fatalf("%d batches, then %v", n, got)
		}
	}
	all := collect(t, newLoader(t, fakes(6), options(func(o *Options) { o.OpenVolume = bad })), 0, 0)
	if len(all) != 2 {
		t.Errorf("warnings stopped the epoch: %d batches", len(all))
	}
	for _, strict := range []Options{
		options(func(o *Options) { o.Strict, o.OpenVolume = true, bad }),
		options(func(o *Options) { o.Strict, o.SkipErrors, o.OpenVolume = true, true, bad }),
	} {
		for _, err := range newLoader(t, fakes(6), strict).Epoch(t.Context(), 0, 0) {
			if err == nil || !(strings.Contains(err.Error(), "a gap") || strings.Contains(err.Error(), "none of the 6")) {
				t.Errorf("strict, skip %v: error %v", strict.SkipErrors, err)
			}
		}
	}
}

// However an epoch ends, no goroutine is left (goleak) and the loader can be used again.
func TestNoGoroutineLeft(t *testing.T) {
	slow := func(s Sample) (*volume.Volume, []string, error) {
		time.Sleep(200 * time.Microsecond)
		return fakeVolume(s)
	}
	l := newLoader(t, fakes(40), options(func(o *Options) { o.OpenVolume, o.Workers = slow, 3 }))
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for stop := range 9 {
		n := 0
		for range l.Epoch(t.Context(), 0, 0) {
			if n++; n > stop {
				break
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		n = 0
		var got error
		for _, err := range l.Epoch(ctx, 0, 0) {
			got = err
			if n++; n > stop {
				cancel()
			}
		}
		cancel()
		if !errors.Is(got, context.Canceled) {
			t.Errorf("cancelled in batch %d: error %v", stop, got)
		}
	}
	if len(l.free) != cap(l.free) {
		t.Errorf("%d of %d buffers came back", len(l.free), cap(l.free))
	}
	if n := len(collect(t, l, 0, 0)); n != 10 {
		t.Errorf("%d batches afterwards, want 10", n)
	}
	for b := range l.Epoch(t.Context(), 0, 0) {
		b.Release()
		b.Release()
		for _, err := range l.Epoch(t.Context(), 1, 0) {
			if err == nil {
				t.Error("two epochs run at once")
			}
		}
	}
	if len(l.free) != cap(l.free) {
		t.Errorf("%d of %d buffers after early releases", len(l.free), cap(l.free))
	}
}

// While the consumer holds one batch, the workers make the next ones and then stop.
func TestBoundedAhead(t *testing.T) {
	var opened atomic.Int64
	o := options(func(o *Options) {
		o.Prefetch, o.Workers = 2, 3
		o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
			opened.Add(1)
			return fakeVolume(s)
		}
	})
	l := newLoader(t, fakes(200), o)
	n := 0
	for _, err := range l.Epoch(t.Context(), 0, 0) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		time.Sleep(3 * time.Millisecond)
		// Three buffers full, one sample in the assembler's hand, the lookahead behind it.
		if most := int64((n+2)*4 + 1 + o.lookahead()); opened.Load() > most {
			t.Fatalf("%d scans opened in batch %d, want at most %d", opened.Load(), n, most)
		}
		if n == 10 {
			break
		}
	}
	// 3 buffers of 4 samples, 4 samples in flight, 3 workers with a scan of 1000 voxels, the sample
	// made of it, two more and a plane to change it.
	if got, want := l.Bounds(1000).Total(), int64(3*4*(24+1)*4+4*24*4+3*4*(1000+24)+3*4*(2*24+24+12)); got != want {
		t.Errorf("bound %d, want %d", got, want)
	}
}

func TestCache(t *testing.T) {
	var mu sync.Mutex
	opened := map[string]int{}
	open := func(s Sample) (*volume.Volume, []string, error) {
		mu.Lock()
		opened[s.Name]++
		mu.Unlock()
		v, w, err := fakeVolume(s)
		if s.Index%2 == 0 { // whole numbers from 0 to 23, kept as bytes
			for j := range v.HU {
				v.HU[j] = float32(j)
			}
		}
		return v, w, err
	}
	run := func(bytes int64) (twice int, left int64) {
		clear(opened)
		l := newLoader(t, fakes(10), options(func(o *Options) { o.OpenVolume, o.CacheBytes, o.Workers = open, bytes, 1 }))
		for range 2 {
			collect(t, l, 0, 0)
		}
		for _, n := range opened {
			twice += n - 1
		}
		return twice, l.cache.left
	}
	all := int64(5*24 + 5*24*4)
	if twice, left := run(all); twice != 0 || left != 0 {
		t.Errorf("a cache of the exact size: %d samples opened twice, %d bytes left", twice, left)
	}
	if twice, left := run(all - 1); twice != 1 || left < 0 {
		t.Errorf("a cache one byte short: %d samples opened twice, %d bytes left", twice, left)
	}
	if twice, _ := run(0); twice != 10 {
		t.Errorf("no cache: %d samples opened twice, want 10", twice)
	}
}

// The cache gives back the exact bits of what it was given.
func TestCacheExact(t *testing.T) {
	for _, x := range [][]float32{
		{0, 1, 255},
		{0, 1, 256},
		{-1, 0, 1},
		{0, 0.5, 1},
		{0, float32(math.Copysign(0, -1)), 1},
		{float32(math.NaN()), 1, 2},
		{float32(math.Inf(1)), 1, 2},
	} {
		c := newMemoryCache(100)
		put := c.put(1, slices.Clone(x))
		got, ok := c.get(1)
		for _, p := range []pixels{put, got} {
			y := make([]float32, 3)
			p.copyTo(y)
			for i := range x {
				if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
					t.Errorf("%v came back as %v", x, y)
				}
			}
		}
		if !ok {
			t.Errorf("%v was not kept", x)
		}
	}
}

func TestWaitTime(t *testing.T) {
	l := newLoader(t, fakes(8), options(func(o *Options) {
		o.Workers = 1
		o.OpenVolume = func(s Sample) (*volume.Volume, []string, error) {
			time.Sleep(2 * time.Millisecond)
			return fakeVolume(s)
		}
	}))
	collect(t, l, 0, 0)
	if w := l.WaitTime(); w < 15*time.Millisecond {
		t.Errorf("waited %v for 8 scans of 2 ms", w)
	}
}

func TestLoaderArguments(t *testing.T) {
	uneven := fakes(2)
	uneven[1].Target = []float64{0, 1}
	for want, make := range map[string]func() (*Loader, error){
		"no samples": func() (*Loader, error) { return NewLoader(nil, options(nil)) },
		"batch size": func() (*Loader, error) { return NewLoader(fakes(1), options(func(o *Options) { o.BatchSize = 0 })) },
		"any memory": func() (*Loader, error) {
			return NewLoader(fakes(1), options(func(o *Options) { o.BatchSize = 1 << 50 }))
		},
		"OpenVolume": func() (*Loader, error) { return NewLoader(fakes(1), options(func(o *Options) { o.OpenVolume = nil })) },
		"sample shape": func() (*Loader, error) {
			return NewLoader(fakes(1), options(func(o *Options) { o.Preprocess.ShapeDHW[1] = 0 }))
		},
		"target values": func() (*Loader, error) { return NewLoader(uneven, options(nil)) },
	} {
		if _, err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
	for _, err := range newLoader(t, fakes(3), options(nil)).Epoch(t.Context(), 0, 4) {
		if err == nil || !strings.Contains(err.Error(), "position 4") {
			t.Errorf("a position beyond the epoch: %v", err)
		}
	}
}
