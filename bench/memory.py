"""Checks that ctclass keeps the memory that it promises, on this machine.

    memory.py --ctclass ./ctclass promise [--cases resnet] [--precision bf16]   promised and measured peak of training steps
    memory.py --ctclass ./ctclass budget                     a large DenseNet under 8 GiB and under 3.5 GiB
    memory.py --ctclass ./ctclass weights                    the same weights whatever is recomputed
    memory.py --ctclass ./ctclass plan                       the time of planning the deepest DenseNet
    memory.py --ctclass ./ctclass group                      inside a control group of the promise and 100 MB (version 1, as root)

Only Python's standard library is needed. Every measured peak is that of a process of its own.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

MIB = 1 << 20
NETS = [
    "resnet18_3d", "resnet34_3d", "densenet121_3d", "densenet169_3d", "densenet201_3d", "densenet161_3d",
    "densenet_small_3d", "densenet_tiny_3d", "vit_tiny_3d", "vit_small_3d", "vit_base_3d", "vit_large_3d",
]
LARGE = ["resnet18_3d", "resnet34_3d", "densenet121_3d", "vit_small_3d"]
GROUPS = "/sys/fs/cgroup/memory"


def settings(model, shape, batch, more=()):
    d, h, w = shape
    keys = [f"model.name={model}", f"preprocess.shape_dhw={d},{h},{w}", f"train.batch_size={batch}", *more]
    return [a for k in keys for a in ("--set", k)]


def run(args, command, prefix=(), check=True):
    done = subprocess.run([*prefix, args.ctclass, *command], capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done


def bench(args, model, shape, batch, more=()):
    return json.loads(run(args, ["bench", "--json", "--mode", "train", "--steps", "1", "--warm-up", "0", *settings(model, shape, batch, more)]).stdout)


def holds(promised, measured):
    """The promise is kept, and it is not idle: at most a tenth or 32 MiB above what is taken."""
    return measured <= promised <= max(1.1 * measured, measured + 32 * MIB)


def promise(args):
    print("| training step | promised MiB | measured MiB | |\n|---|---|---|---|", flush=True)
    cases = [(m, (64, 64, 64), 2) for m in NETS] + [(m, (128, 256, 256), 1) for m in LARGE]
    for model, shape, batch in cases:
        if args.cases and args.cases not in f"{model} {batch}x{shape}":
            continue
        b = bench(args, model, shape, batch, ["memory.budget=none", f"train.precision={args.precision}"])
        p, m = b["promised_peak_bytes"], b["measured_peak_bytes"]
        print(f"| {model}, {batch} × {'×'.join(map(str, shape))} | {p / MIB:.0f} | {m / MIB:.0f} | {'holds' if holds(p, m) else 'DOES NOT HOLD'} |", flush=True)


def budget(args):
    print("| densenet121_3d, 4 × 128×256×256 | promised MiB | measured MiB | more operations | |\n|---|---|---|---|---|", flush=True)
    for size, most in (("8GiB", 0.08), ("3584MiB", 0.35)):
        b = bench(args, "densenet121_3d", (128, 256, 256), 4, [f"memory.budget={size}"])
        p, m, added = b["promised_peak_bytes"], b["measured_peak_bytes"], b["added_flop"]
        ok = m <= p and added <= most
        print(f"| budget {size} | {p / MIB:.0f} | {m / MIB:.0f} | {100 * added:.1f} % | {'holds' if ok else 'DOES NOT HOLD'} |", flush=True)


TINY = "model.options={blocks: [1, 1, 1, 1], widths: [16, 16, 32, 32], hidden: 16}"


def phantoms(args, folder):
    run(args, ["-q", "phantom", "--out", os.path.join(folder, "ph"), "--cases", "8", "--size", "32,48,48", "--spacing", "8,7,7"])
    return [f"data.table={folder}/ph/labels.csv", "data.labels=nodule", "train.epochs=5", "data.workers=1", "train.accumulate=1"]


def promised(text):
    return int(re.search(r'memory planned total="(\d+) MiB"', text)[1])


def weights(args):
    """Five steps of a training: the model file must have the same bytes."""
    for model, more in (("resnet18_3d", [TINY]), ("densenet_tiny_3d", []), ("vit_tiny_3d", ["model.options={depth: 4}"])):
        with tempfile.TemporaryDirectory() as folder:
            base = settings(model, (64, 96, 96), 2, [*more, *phantoms(args, folder), "preprocess.spacing_mm=keep", "preprocess.fit=resize"])

            def train(name, *extra, quiet=False):
                out = os.path.join(folder, re.sub(r"\W", "_", name))
                keys = [a for k in extra for a in ("--set", k)]
                done = run(args, ["train", "--no-doctor", "--max-steps", "5", "--out", out, *base, *keys], check=not quiet)
                if done.returncode:
                    return done
                with open(os.path.join(out, "last", "model.safetensors"), "rb") as f:
                    print(f"{model}, {name}: {promised(done.stderr)} MiB promised, weights {hashlib.sha256(f.read()).hexdigest()[:16]}", flush=True)
                return done

            off = ["model.use_checkpointing=false"]
            dense = model.startswith("dense")
            if dense:
                off.append("model.memory_efficient=false")
            train("no saver", "memory.budget=none", *off)
            train("use_checkpointing", "memory.budget=none", *off, "model.use_checkpointing=true")
            if dense:
                train("memory_efficient", "memory.budget=none", *off, "model.memory_efficient=true")
            plan = run(args, ["plan", "--json", "--rate", "50", "--budget", "none", *base]).stdout
            choices = json.loads(plan)["choices"]
            free = next(c for c in choices if c["name"] == "no savers")["promised_peak_bytes"]
            least = min(c["promised_peak_bytes"] for c in choices)
            network = promised(train("no saver again", "memory.budget=none", *off).stderr) * MIB
            for part in (0.75, 0.4, 0.02):  # of what recomputation can free
                limit = int(network - (free - least) * (1 - part)) >> 20
                train(f"budget {limit} MiB", f"memory.budget={limit}MiB", *off)


def plan(args):
    for limit in ("none", "6GiB", "4GiB", "3GiB"):
        out = run(args, ["plan", "--json", "--rate", "50", "--budget", limit, *settings("densenet201_3d", (128, 256, 256), 2)], check=False).stdout
        p = json.loads(out)
        print(f"densenet201_3d, 2 × 128×256×256, budget {limit}: planned in {p['plan_seconds']:.2f} s, {p['promised_peak_bytes'] / MIB:.0f} MiB, fits: {p['fits']}", flush=True)


def group(args):
    """Trains in a control group: with recomputation it finishes, without it is refused before the first step."""
    off = ["model.use_checkpointing=false", "model.memory_efficient=false"]
    with tempfile.TemporaryDirectory() as folder:
        base = settings("densenet_small_3d", (96, 128, 128), 2, [*off, *phantoms(args, folder)])
        plan = lambda limit: json.loads(run(args, ["plan", "--json", "--rate", "50", "--budget", limit, *base]).stdout)
        peaks = [c["promised_peak_bytes"] for c in plan("none")["choices"]]
        budget = f"{(min(peaks) + max(peaks)) // 2 >> 20}MiB"
        promise = plan(budget)["promised_peak_bytes"]
        limit = promise + 100 * 10**6
        print(f"budget {budget}: promised {promise / MIB:.0f} MiB, limit of the group {limit / MIB:.0f} MiB; without recomputation {max(peaks) / MIB:.0f} MiB", flush=True)
        home = os.path.join(GROUPS, next(line.split(":")[2].strip("/\n") for line in open("/proc/self/cgroup") if ":memory:" in line))
        place = os.path.join(home, f"ctclass-{os.getpid()}")
        os.mkdir(place)
        try:
            with open(os.path.join(place, "memory.limit_in_bytes"), "w") as f:
                f.write(str(limit))
            inside = ["sh", "-c", f'echo $$ > {place}/cgroup.procs && exec "$0" "$@"']
            for wanted in (budget, "none", "auto"):
                with open(os.path.join(place, "memory.max_usage_in_bytes"), "w") as f:
                    f.write("0")
                command = ["train", "--no-doctor", "--max-steps", "3", "--out", os.path.join(folder, "run-" + wanted), *base, "--set", f"memory.budget={wanted}"]
                done = run(args, command, prefix=inside, check=False)
                with open(os.path.join(place, "memory.max_usage_in_bytes")) as f:
                    most = int(f.read())
                print(f"budget {wanted}: exit code {done.returncode}, the group used {most / MIB:.0f} MiB at most\n  {done.stderr.strip().splitlines()[-1]}", flush=True)
        finally:
            os.rmdir(place)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ctclass", default="./ctclass", help="the program to check")
    parser.add_argument("--cases", default="", help="only cases of promise whose name contains this")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"), help="of the training steps of promise")
    checks = {f.__name__: f for f in (promise, budget, weights, plan, group)}
    parser.add_argument("check", choices=checks)
    args = parser.parse_args()
    args.ctclass = os.path.abspath(args.ctclass)
    checks[args.check](args)


if __name__ == "__main__":
    main()
