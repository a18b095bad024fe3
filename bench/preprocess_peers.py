"""Times torch and MONAI on the resampling of BenchmarkApply: 512x512x300 float32 voxels in memory to 128x256x256.

    python3 -m venv venv && venv/bin/pip install torch monai
    venv/bin/python bench/preprocess_peers.py [rounds]
    go test ./internal/data/preprocess -run '^$' -bench Apply -benchtime 10x

For each task it prints the median of the wall times, and that of the CPU times of all threads, which other
work on the machine does not lengthen. The order of the tasks alternates.

    plain     torch.nn.functional.interpolate(mode="trilinear"), that is antialias none, without the window
    monai     monai.transforms.Resize(mode="trilinear") and ScaleIntensityRange, that is antialias none
    gaussian  the same with anti_aliasing=True, that is antialias gaussian
"""

import statistics
import sys
import time

import torch
from monai.transforms import Resize, ScaleIntensityRange

rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
shape = (128, 256, 256)
values = torch.tensor([-1000.0, 40, 300, -700, 80])
volume = values.repeat(300 * 512 * 512 // 5 + 1)[: 300 * 512 * 512].reshape(1, 300, 512, 512).contiguous()
window = ScaleIntensityRange(-1000, 400, 0, 1, clip=True)
resize = Resize(shape, mode="trilinear")
smooth = Resize(shape, mode="trilinear", anti_aliasing=True)
tasks = {
    "plain": lambda: torch.nn.functional.interpolate(volume[None], shape, mode="trilinear", align_corners=False),
    "monai": lambda: window(resize(volume)),
    "gaussian": lambda: window(smooth(volume)),
}
wall, cpu = {t: [] for t in tasks}, {t: [] for t in tasks}
with torch.no_grad():
    for r in range(rounds + 1):
        for name in list(tasks)[:: 1 if r % 2 else -1]:
            w, c = time.perf_counter(), time.process_time()
            tasks[name]()
            if r:  # the first round warms up
                wall[name].append(time.perf_counter() - w)
                cpu[name].append(time.process_time() - c)
print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
for name in tasks:
    print(f"{name:9} {1000 * statistics.median(wall[name]):8.0f} ms  cpu {1000 * statistics.median(cpu[name]):8.0f} ms")
