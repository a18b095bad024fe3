"""Times 3x3x3 convolutions of stride 1 in oneDNN, through PyTorch, beside those of ctclass.

    layers.py [--rounds 5]      in a checkout, with go on the path

One thread each, by processor time, in alternating rounds; the table shows the median of the ratios oneDNN / ctclass.
Forward, oneDNN works in its own blocked layout with weights packed before (to_mkldnn), so that no conversion is timed.
PyTorch has no way to its backward passes in that layout: they are those of plain or channels-last tensors, whichever
is faster, conversions included.
"""

import argparse
import re
import statistics
import subprocess
import time

import torch
from torch.utils import mkldnn

LAYERS = [(64, 16), (64, 32), (64, 64), (128, 16), (128, 32), (256, 16)]
PASSES = ("forward", "data", "weights")


def mean(f, tries=5):
    f()
    start = time.process_time()
    for _ in range(tries):
        f()
    return 1000 * (time.process_time() - start) / tries


def onednn(channels, size):
    """Milliseconds of the three passes."""
    x = torch.randn(1, channels, size, size, size)
    with torch.inference_mode():
        packed = mkldnn.to_mkldnn(torch.nn.Sequential(torch.nn.Conv3d(channels, channels, 3, padding=1)).eval())
        blocked = x.to_mkldnn()
        forward = mean(lambda: packed(blocked))
    data, weights = [], []
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        laid = lambda t: t.to(memory_format=layout)
        w, g, v = laid(torch.randn(channels, channels, 3, 3, 3)), laid(torch.randn_like(x)), laid(x)

        def backward(*outputs):
            torch.ops.aten.convolution_backward(g, v, w, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, [*outputs, False])

        data.append(mean(lambda: backward(True, False)))
        weights.append(mean(lambda: backward(False, True)))
    return forward, min(data), min(weights)


def ctclass(channels, size):
    """Milliseconds of the three passes, from their operations per processor second."""
    pattern = f"Conv/3_{channels}x{size}$/.*/default"
    text = subprocess.run(
        ["go", "test", "./internal/kernels", "-run", "^$", "-bench", pattern, "-benchtime", "10x"], check=True, capture_output=True, text=True
    ).stdout
    inside = (3 * size - 2) ** 3  # products of a channel pair with a voxel inside the map
    found = {}
    for line in text.splitlines():
        m = re.match(r"BenchmarkConv/\S+/default/(\w+?)(?:-\d+)?\s.*?([\d.]+) GFLOP/cpu-s", line)
        if m:
            ms = 2 * channels * channels * inside / float(m[2]) / 1e6
            found[m[1]] = min(ms, found.get(m[1], ms))  # of the instruction sets
    return [found[p] for p in PASSES]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}\n")
    print("| channels, voxels | " + " | ".join(f"{p}: ctclass ms | oneDNN ms | ratio" for p in PASSES) + " |")
    print("|---|" + "---|" * 9)
    for channels, size in LAYERS:
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(ctclass(channels, size))
            theirs.append(onednn(channels, size))
        cells = []
        for i in range(3):
            ratio = statistics.median(b[i] / a[i] for a, b in zip(ours, theirs))
            cells += [f"{statistics.median(a[i] for a in ours):.1f}", f"{statistics.median(b[i] for b in theirs):.1f}", f"{ratio:.1f}"]
        print(f"| {channels}, {size}³ | " + " | ".join(cells) + " |", flush=True)
