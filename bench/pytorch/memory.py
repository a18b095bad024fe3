"""Peak memory and time of a training step in PyTorch, and beside it in ctclass, in processes of their own.

    memory.py --ctclass ./ctclass [--cases resnet18] [--steps 1]

A step is forward, binary cross-entropy, backward and AdamW, in fp32, in PyTorch's usual memory format, without
checkpointing. At 128³ both run without memory savers; at 128×256×256 ctclass runs under a budget of the aimed share of
PyTorch's peak, and its processor time, with planning and start, is compared with its own without a budget.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

CLASSES = 18
MIB = 1 << 20
CASES = [  # model, shape, most of PyTorch's peak, with a budget
    ("resnet18_3d", (128, 128, 128), 0.60, False),
    ("densenet121_3d", (128, 128, 128), 0.60, False),
    ("vit_small_3d", (128, 128, 128), 0.60, False),
    ("resnet18_3d", (128, 256, 256), 0.50, True),
    ("densenet121_3d", (128, 256, 256), 0.25, True),
]


def step(model, shape, steps):
    import torch

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import reference

    torch.manual_seed(0)
    net = reference.build(model, CLASSES, shape).train()
    optimizer = torch.optim.AdamW(net.parameters())
    x, y = torch.randn(1, 1, *shape), torch.randint(0, 2, (1, CLASSES)).float()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "seconds": min(times), "version": torch.__version__}))


def settings(model, shape, budget):
    d, h, w = shape
    keys = [
        f"model.name={model}", f"preprocess.shape_dhw={d},{h},{w}", "train.batch_size=1", f"memory.budget={budget}", "model.use_checkpointing=false",
        "data.task=multilabel", "data.labels=" + ",".join(f"l{i}" for i in range(CLASSES)), "train.clip_norm=0",
    ]
    if model.startswith("densenet"):
        keys.append("model.memory_efficient=false")
    return [a for k in keys for a in ("--set", k)]


def bench(binary, model, shape, budget):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([binary, "bench", "--json", "--mode", "train", "--steps", "1", "--warm-up", "0", *settings(model, shape, budget)], capture_output=True, text=True)
    if done.returncode:
        return done.stderr.strip()
    return {**json.loads(done.stdout), "cpu": resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ctclass", default="./ctclass")
    parser.add_argument("--cases", default="")
    parser.add_argument("--steps", type=int, default=1, help="steps of PyTorch")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        spec = json.loads(args.serve)
        step(spec["model"], tuple(spec["shape"]), args.steps)
        return
    print("| training step, batch 1 | PyTorch MiB | ctclass promised | measured | of PyTorch's | aim | more operations | processor time ÷ without budget |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for model, shape, aim, planned in CASES:
        title = f"{model} {'×'.join(map(str, shape))}"
        if args.cases not in title:
            continue
        done = subprocess.run([sys.executable, os.path.abspath(__file__), "--serve", json.dumps({"model": model, "shape": shape}), "--steps", str(args.steps)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{title}: {done.stderr.strip().splitlines()[-1]}")
        theirs = json.loads(done.stdout)
        free = bench(args.ctclass, model, shape, "none")
        ours, note = free, ""
        if planned:
            limit = int(aim * theirs["peak"]) >> 20
            ours = bench(args.ctclass, model, shape, f"{limit}MiB")
            if isinstance(ours, str):
                print(f"| {title} | {theirs['peak'] / MIB:.0f} | | | | {aim:.0%} | | {ours} |", flush=True)
                continue
            note = f"{ours['cpu'] / free['cpu']:.2f}"
        share = ours["measured_peak_bytes"] / theirs["peak"]
        print(f"| {title} | {theirs['peak'] / MIB:.0f} | {ours['promised_peak_bytes'] / MIB:.0f} | {ours['measured_peak_bytes'] / MIB:.0f} | {share:.0%} | {aim:.0%} | {100 * ours['added_flop']:.1f} % | {note} |", flush=True)


if __name__ == "__main__":
    main()
