package kernels

// ConvSpec is the per-sample shape of a 3-D convolution without bias. All triples are in D, H, W order.
type ConvSpec struct {
	In, Out Channels // channel segments of the blocked input and output
	// PlainIn says that the input is row-major [N][C][D][H][W], as the network input is; C is small.
	PlainIn bool
	Size    [3]int // input size
	Kernel  [3]int
	Stride  [3]int
	Pad     [3]int // zeros on either side
}

// OutSize returns the size of the output map.
func (s ConvSpec) OutSize() [3]int {
	var o [3]int
	for i := range o {
		o[i] = (s.Size[i]+2*s.Pad[i]-s.Kernel[i])/s.Stride[i] + 1
	}
	return o
}

// Conv is the plan of a convolution: which algorithm runs and the tables it needs. It depends on the
// per-sample shape and the instruction set only, never on batch size or threads, and is read-only after
// NewConv, so any number of goroutines may share it.
//
// Blocked inputs take the direct algorithm: every pass is a sum of small matrix products over (input block,
// tap), taken straight from the blocked map with no copy of the input (batch-reduce GEMM, Georganas et al.
// 2020). Plain inputs are copied once with their padding.
type Conv struct {
	spec    ConvSpec
	out     [3]int
	taps    int
	inCh    int // blocks of 16 input channels; channels for a plain input
	outCh   int // blocks of 16 output channels
	kernels *convKernels
	forward *gatherPlan // blocked input
	back    *gatherPlan
	plain   *plainConv // plain input
	choice  ConvChoice
	wino    [3]*winograd // by pass, nil where the direct algorithm runs
	stem    *winoStem    // instead of plain where choice is not Direct
}

// NewConv plans a convolution for an instruction set.
func NewConv(spec ConvSpec, isa ISA) *Conv { return NewConvWith(spec, isa, DefaultChoice(spec, isa)) }

// NewConvWith is NewConv with given algorithms; those that cannot do the convolution give way to the direct one.
func NewConvWith(spec ConvSpec, isa ISA, choice ConvChoice) *Conv {
	c := &Conv{
		spec:    spec,
		out:     spec.OutSize(),
		taps:    volume3(spec.Kernel),
		inCh:    spec.In.Blocks(),
		outCh:   spec.Out.Blocks(),
		kernels: convKernelsFor(isa),
	}
	if spec.PlainIn {
		c.inCh = spec.In.Count()
		c.plain = newPlainConv(spec)
	} else {
		c.forward = newForwardGather(spec)
		c.back = newBackwardGather(spec)
	}
	if stemFits(spec) {
		c.choice = choice
		c.stem = newWinoStem(spec, isa)
	}
	if winogradFits(spec) {
		c.choice = choice
		for pass, a := range choice {
			if a != Direct {
				c.wino[pass] = newWinograd(spec, isa, a.tile())
			}
		}
	}
	return c
}

// TakesHalf reports whether a pass reads and writes blocked maps of bfloat16.
func (c *Conv) TakesHalf(pass int) bool {
	return c.wino[pass] != nil || c.plain != nil && (pass == Forward || pass == BackwardWeights && c.useStem(pass))
}

// ConvForwardWorkspace returns the floats of workspace that ConvForward needs for n samples.
func (m *Machine) ConvForwardWorkspace(c *Conv, n int) int {
	switch w := c.wino[Forward]; {
	case c.useStem(Forward):
		return c.stem.workspace(m.Threads())
	case c.plain != nil:
		return c.plain.workspace(n)
	case w != nil:
		return w.weightFloats() + w.forward.workspace(m.Threads(), n)
	}
	return c.forward.workspace(m.Threads())
}

// fewTiles is the number of Winograd tiles up to which transforming the weights takes a fair share of a convolution.
const fewTiles = 512

// Prepared returns the floats of what PrepareForward makes of the weights, 0 where ConvForward of n samples takes them
// as they are or would gain little.
func (c *Conv) Prepared(n int) int {
	if c.useStem(Forward) {
		return c.stem.weightFloats()
	}
	w := c.wino[Forward]
	if w == nil || n*volume3(w.forward.tiles) > fewTiles {
		return 0
	}
	return w.weightFloats()
}

// PrepareForward makes of the weights what ConvForwardPrepared takes in their place.
func (m *Machine) PrepareForward(c *Conv, w, prepared []float32) {
	if c.useStem(Forward) {
		m.stemWeights(c.stem, prepared, w)
		return
	}
	m.winoForwardWeights(c, c.wino[Forward], prepared, w)
}

// ConvForwardPrepared is ConvForwardNorm with what PrepareForward made of the weights; without an epilogue, e is nil. Its
// workspace is that of ConvForward less Prepared.
func (m *Machine) ConvForwardPrepared(c *Conv, x Map, prepared []float32, e *Epilogue, y Map, ws []float32) {
	if c.useStem(Forward) {
		m.stemForward(c, x, nil, prepared, y, e, ws)
		return
	}
	m.runWinograd(c.wino[Forward].forward, x, y, prepared, e, ws)
}

// ConvPoolWorkspace returns the floats of workspace that ConvForwardPool needs, less Prepared where it is given that.
// y has the form of the output.
func (m *Machine) ConvPoolWorkspace(c *Conv, pool Window, y Map) int {
	if c.useStem(Forward) {
		return c.stem.pooling(m.Threads(), pool, y).workspace(m.Threads())
	}
	return c.outMap(y).Stride*y.N + Block + m.ConvForwardWorkspace(c, y.N)
}

// ConvForwardPool is ConvForwardNorm and a max-pool of its result, which is stored as little as the algorithm allows.
// prepared is what PrepareForward made of the weights, or nil.
func (m *Machine) ConvForwardPool(c *Conv, x Map, w, prepared []float32, e *Epilogue, pool Window, y Map, ws []float32) {
	if c.useStem(Forward) {
		m.stemPool(c, x, w, prepared, e, pool, y, ws)
		return
	}
	between := c.outMap(y)
	between.Data, ws = takeAligned(ws, between.N*between.Stride)
	if prepared != nil {
		m.ConvForwardPrepared(c, x, prepared, e, between, ws)
	} else {
		m.ConvForwardNorm(c, x, w, e, between, ws)
	}
	m.MaxPool(between, y, pool.Kernel, pool.Stride, pool.Pad)
}

// outMap is the form of the output that is pooled to y.
func (c *Conv) outMap(y Map) Map {
	return Map{N: y.N, CB: c.outCh, D: c.out[0], H: c.out[1], W: c.out[2], Stride: c.outCh * volume3(c.out) * Block}
}

// ConvForward computes y = conv(x, w). y is overwritten. For a plain input x.Data is row-major, x.CB the
// number of channels and x.Stride the floats per sample.
func (m *Machine) ConvForward(c *Conv, x Map, w []float32, y Map, ws []float32) {
	m.convForward(c, x, w, nil, y, ws)
}

// ConvForwardNorm is ConvForward followed by an epilogue, in one pass over y where the algorithm allows it. y must not
// share memory with what is added.
func (m *Machine) ConvForwardNorm(c *Conv, x Map, w []float32, e *Epilogue, y Map, ws []float32) {
	m.convForward(c, x, w, e, y, ws)
}

func (m *Machine) convForward(c *Conv, x Map, w []float32, e *Epilogue, y Map, ws []float32) {
	if c.useStem(Forward) {
		m.stemForward(c, x, w, nil, y, e, ws)
		return
	}
	if wino := c.wino[Forward]; wino != nil {
		u, ws := takeAligned(ws, wino.weightFloats())
		m.winoForwardWeights(c, wino, u, w)
		m.runWinograd(wino.forward, x, y, u, e, ws)
		return
	}
	if c.plain != nil {
		m.plainForward(c, x, w, y, ws)
	} else {
		m.runGather(&gatherRun{gatherPlan: c.forward, k: c.kernels, x: x, y: y, w: w}, ws)
	}
	if e != nil {
		m.BNNorm(y, e.Scale, e.Shift, e.Add, e.ReLU, y)
	}
}

// ConvBackwardDataWorkspace returns the floats of workspace that ConvBackwardData needs for n samples.
func (m *Machine) ConvBackwardDataWorkspace(c *Conv, n int) int {
	if c.plain != nil {
		return 0
	}
	if w := c.wino[BackwardData]; w != nil {
		return w.weightFloats() + m.Threads()*winoTransposeFloats + w.back.workspace(m.Threads(), n)
	}
	transposed := c.WeightLen()
	if c.transposeChunks() {
		transposed = m.Threads() * c.back.chunkFloats()
	}
	return transposed + c.back.workspace(m.Threads())
}

// transposeChunks says how ConvBackwardData transposes the weights: large ones by the chunk just before it is
// used, so that they go through memory once; small ones all beforehand, so that it happens once.
func (c *Conv) transposeChunks() bool { return c.WeightLen() > 1<<20 }

// ConvBackwardData computes dx, the gradient by the input. dx is overwritten. For a plain input dx is
// row-major as x is in ConvForward; that case serves saliency maps and is not tuned.
func (m *Machine) ConvBackwardData(c *Conv, w []float32, dy Map, dx Map, ws []float32) {
	if c.plain != nil {
		m.plainBackwardData(c, w, dy, dx)
		return
	}
	if wino := c.wino[BackwardData]; wino != nil {
		u, ws := takeAligned(ws, wino.weightFloats())
		part, ws := ws[:m.Threads()*winoTransposeFloats], ws[m.Threads()*winoTransposeFloats:]
		m.winoBackWeights(c, wino, u, w, part)
		m.runWinograd(wino.back, dy, dx, u, nil, ws)
		return
	}
	r := &gatherRun{gatherPlan: c.back, k: c.kernels, x: dy, y: dx, w: w}
	if c.transposeChunks() {
		r.transpose = c
		r.chunks, ws = ws[:m.Threads()*c.back.chunkFloats()], ws[m.Threads()*c.back.chunkFloats():]
	} else {
		r.w, ws = ws[:c.WeightLen()], ws[c.WeightLen():]
		m.transposeWeights(c, r.w, w)
	}
	m.runGather(r, ws)
}

// ConvBackwardWeightsWorkspace returns the floats of workspace that ConvBackwardWeights needs for n samples.
func (m *Machine) ConvBackwardWeightsWorkspace(c *Conv, n int) int {
	switch w := c.wino[BackwardWeights]; {
	case c.useStem(BackwardWeights):
		return c.stem.gradientWorkspace(m.Threads())
	case c.plain != nil:
		return c.plain.workspace(n)
	case w != nil:
		return w.weightsWorkspace(m.Threads(), n)
	}
	return 0
}

// ConvBackwardWeights computes dw, the gradient by the weights in their packed layout, summed over the
// samples. dw is overwritten; its padding entries become zero.
func (m *Machine) ConvBackwardWeights(c *Conv, x Map, dy Map, dw []float32, ws []float32) {
	if c.useStem(BackwardWeights) {
		m.stemBackwardWeights(c, x, dy, dw, ws)
		return
	}
	if c.plain != nil {
		m.plainBackwardWeights(c, x, dy, dw, ws)
		return
	}
	if wino := c.wino[BackwardWeights]; wino != nil {
		m.winoBackwardWeights(c, wino, x, dy, dw, ws)
		return
	}
	m.blockedBackwardWeights(c, x, dy, dw)
}

func (c *Conv) useStem(pass int) bool { return c.stem != nil && c.choice[pass] != Direct }

func volume3(s [3]int) int { return s[0] * s[1] * s[2] }

func ceilDiv(a, b int) int { return (a + b - 1) / b }
