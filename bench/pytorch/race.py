"""Races ctclass against PyTorch (and, for inference, ONNX Runtime and OpenVINO) on this machine, in turn.

    race.py --ctclass ./ctclass [--cases resnet18] [--modes infer,train] [--rounds 5] [--peers torch,compiled,onnxruntime,openvino] [--clock cpu] [--json FILE]

Each case runs in rounds. In a round every program measures its steps once, one after the other, while the others
sleep; a round gives one ratio, peer time / ctclass time, and the table shows the median of the ratios, their spread
and the median times. --clock cpu takes the processor time of all threads instead of the clock: on a machine that has
other work, with --threads 1, that is what is left of a timing. Peers live in processes of their own, so peak memory is
that of one program.

PyTorch runs eagerly, as the peer "compiled" through torch.compile (which takes a C++ compiler and minutes), each with the
faster of its two memory formats, found in a trial before the first round. In bf16, inference takes the faster of
autocast and a network of bfloat16 weights. Training in bf16 is autocast: ctclass, too, keeps fp32 weights.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

CASES = [
    # name, model, shape, batch, steps of a round for inference and training, aims
    ("resnet18_3d 1x128^3", "resnet18_3d", (128, 128, 128), 1, 3, 2, 3.5, 2.7),
    ("resnet18_3d 1x64^3", "resnet18_3d", (64, 64, 64), 1, 8, 5, 4.0, 3.5),
    ("resnet18_3d 4x64^3", "resnet18_3d", (64, 64, 64), 4, 4, 3, 3.0, 2.5),
    ("resnet34_3d 1x96^3", "resnet34_3d", (96, 96, 96), 1, 4, 2, 3.5, 2.7),
    ("densenet121_3d 1x96^3", "densenet121_3d", (96, 96, 96), 1, 4, 2, 2.5, 2.0),
    ("vit_small_3d 1x96x224x224", "vit_small_3d", (96, 224, 224), 1, 3, 2, 1.2, 1.15),
    ("vit_small_3d 1x96x224x224 bf16", "vit_small_3d", (96, 224, 224), 1, 5, 3, 1.1, 1.1),
]
CLASSES = 18
WARM_UP = 1


# ---- what runs in a peer's own process: reads commands from stdin, answers with one JSON object a line


def torch_step(spec, threads, compiled=False):
    import gc

    import torch

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import reference

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    shape, batch, mode = tuple(spec["shape"]), spec["batch"], spec["mode"]
    bf16 = spec["precision"] == "bf16"

    def make(channels_last, whole):
        net = reference.build(spec["model"], CLASSES, shape)
        x = torch.randn(batch, 1, *shape)
        if whole:
            net, x = net.bfloat16(), x.bfloat16()
        if compiled:
            net = torch.compile(net.eval() if mode == "infer" else net)
        autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16 and not whole)
        if channels_last:
            net, x = net.to(memory_format=torch.channels_last_3d), x.to(memory_format=torch.channels_last_3d)
        if mode == "infer":
            net.eval()

            def step():
                with torch.inference_mode(), autocast:
                    net(x)

            return step
        net.train()
        optimizer = torch.optim.AdamW(net.parameters())
        y = torch.randint(0, 2, (batch, CLASSES)).float()

        def step():
            optimizer.zero_grad(set_to_none=True)
            with autocast:
                logits = net(x)
            torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), y).backward()
            optimizer.step()

        return step

    ways = list(itertools.product((False, True), (False, True) if bf16 and mode == "infer" else (False,)))
    steps = [make(*way) for way in ways]
    took = [float("inf")] * len(ways)
    for trial in range(WARM_UP + 4):
        for i, step in enumerate(steps):
            start = time.perf_counter()
            step()
            if trial > WARM_UP:
                took[i] = min(took[i], time.perf_counter() - start)
    best = took.index(min(took))
    channels_last, whole = ways[best]
    how = ["channels_last_3d" if channels_last else "contiguous"]
    if bf16:
        how.append("bf16 weights" if whole else "bf16 autocast")
    if compiled:
        how.append("compiled")
    step = steps[best]
    del steps
    gc.collect()
    return step, f"torch {torch.__version__.split('+')[0]}, {', '.join(how)}"


def compiled_step(spec, threads):
    return torch_step(spec, threads, compiled=True)


def exported(spec):
    return os.path.join(spec["folder"], spec["model"] + "_" + "x".join(map(str, (spec["batch"], *spec["shape"]))) + ".onnx")


def export(spec):
    """Writes the reference network, batch norms as trained ones have them, as an ONNX file."""
    import torch

    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import reference

    shape = tuple(spec["shape"])
    net = reference.randomise(reference.build(spec["model"], CLASSES, shape), 2).eval()
    torch.onnx.export(net, (torch.randn(spec["batch"], 1, *shape),), exported(spec), dynamo=False, input_names=["x"], output_names=["logits"])


def onnxruntime_step(spec, threads):
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(exported(spec), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((spec["batch"], 1, *spec["shape"])).astype("float32")
    return lambda: session.run(None, {"x": x}), f"onnxruntime {ort.__version__}"


def openvino_step(spec, threads):
    import numpy as np
    import openvino as ov

    core = ov.Core()
    net = core.compile_model(exported(spec), "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"})
    x = np.random.default_rng(0).standard_normal((spec["batch"], 1, *spec["shape"])).astype("float32")
    return lambda: net({"x": x}), f"openvino {ov.__version__.split('-')[0]}"


PEERS = {"torch": torch_step, "compiled": compiled_step, "onnxruntime": onnxruntime_step, "openvino": openvino_step}


def peak_bytes():
    """The process's peak resident memory."""
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def serve(peer, spec, threads):
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not disturb the answers
    if peer == "export":
        export(spec)
        print(json.dumps({}), file=out, flush=True)
        return
    step, version = PEERS[peer](spec, threads)
    try:  # what was tried and compiled does not count as its memory
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")
    except OSError:
        pass
    for _ in range(WARM_UP):
        step()
    print(json.dumps({"version": version}), file=out, flush=True)
    for line in sys.stdin:
        times = []
        busy = time.process_time()
        for _ in range(int(line)):
            start = time.perf_counter()
            step()
            times.append((time.perf_counter() - start) * 1000)
        cpu = (time.process_time() - busy) * 1000 / len(times)
        print(json.dumps({"ms": statistics.median(times), "cpu_ms": cpu, "peak": peak_bytes()}), file=out, flush=True)


# ---- the race


class Peer:
    def __init__(self, name, spec, threads):
        env = dict(os.environ, OMP_NUM_THREADS=str(threads), OMP_WAIT_POLICY="PASSIVE")
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--serve", name, "--spec", json.dumps(spec), "--threads", str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env,
        )
        self.version = self.answer().get("version", "")

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            error = self.process.stderr.read().strip().splitlines()[-1:] if self.process.stderr else []
            raise RuntimeError(" ".join(error) or f"ended with {self.process.returncode}")
        return json.loads(line)

    def measure(self, steps):
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ctclass(binary, spec, steps, threads):
    d, h, w = spec["shape"]
    command = [
        binary, "bench", "--json", "--mode", spec["mode"], "--steps", str(steps), "--threads", str(threads),
        "--set", f"model.name={spec['model']}", "--set", f"preprocess.shape_dhw={d},{h},{w}",
        "--set", f"train.batch_size={spec['batch']}", "--set", f"eval.batch_size={spec['batch']}",
        "--set", f"train.precision={spec['precision']}", "--set", "data.task=multilabel", "--set", "data.labels=" + ",".join(f"l{i}" for i in range(CLASSES)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    result = json.loads(done.stdout)
    return {"ms": result["median_ms"], "cpu_ms": result.get("processor_ms"), "peak": result.get("measured_peak_bytes", 0), "device": result["device"]}


def race(case, mode, args, folder):
    title, model, shape, batch, infer_steps, train_steps, aim_infer, aim_train = case
    steps, aim = (infer_steps, aim_infer) if mode == "infer" else (train_steps, aim_train)
    precision = "bf16" if title.endswith("bf16") else "fp32"
    spec = {"model": model, "shape": shape, "batch": batch, "mode": mode, "folder": folder, "precision": precision}
    peers = {}
    rows = []
    for name in args.peers:
        pytorch = name in ("torch", "compiled")
        if not pytorch and (mode != "infer" or model.startswith("vit")):
            continue
        try:
            if not pytorch and not os.path.exists(exported(spec)):
                Peer("export", spec, args.threads).close()
            peers[name] = Peer(name, spec, args.threads)
        except (RuntimeError, OSError) as e:
            rows.append({"case": title, "mode": mode, "peer": name, "error": str(e)})
    ours, theirs = [], {name: [] for name in peers}
    peaks = dict.fromkeys(["ctclass", *peers], 0)
    clock = "cpu_ms" if args.clock == "cpu" else "ms"
    try:
        for _ in range(args.rounds):
            m = ctclass(args.ctclass, spec, steps, args.threads)
            ours.append(m[clock])
            peaks["ctclass"] = max(peaks["ctclass"], m["peak"])
            for name, peer in peers.items():
                m = peer.measure(steps)
                theirs[name].append(m[clock])
                peaks[name] = max(peaks[name], m["peak"])
    except RuntimeError as e:
        rows.append({"case": title, "mode": mode, "peer": "", "error": str(e)})
    for peer in peers.values():
        peer.close()
    for name, times in theirs.items():
        ratios = [t / o for t, o in zip(times, ours)]
        if not ratios:
            continue
        rows.append({
            "case": title, "mode": mode, "peer": name, "version": peers[name].version, "aim": aim if name in ("torch", "compiled") else None,
            "ratio": statistics.median(ratios), "ratios": ratios, "ours_ms": ours, "theirs_ms": times,
            "ours_peak": peaks["ctclass"], "theirs_peak": peaks[name],
        })
    return rows


def show(row):
    if "error" in row:
        return f"| {row['case']} | {row['mode']} | {row['peer']} | failed: {row['error']} | | | | | |"
    aim = "" if row["aim"] is None else f"{row['aim']:g}"
    return (
        f"| {row['case']} | {row['mode']} | {row['version']} | {statistics.median(row['ours_ms']):.0f} | {statistics.median(row['theirs_ms']):.0f} | "
        f"{row['ratio']:.2f} | {min(row['ratios']):.2f}–{max(row['ratios']):.2f} | {aim} | {row['ours_peak'] >> 20} / {row['theirs_peak'] >> 20} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ctclass", default="./ctclass", help="the program to race")
    parser.add_argument("--cases", default="", help="only cases whose name contains one of these, comma-separated")
    parser.add_argument("--modes", default="infer,train")
    parser.add_argument("--peers", default="torch", help="of " + ", ".join(PEERS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="what a step takes: time by the clock, or of the processor")
    parser.add_argument("--json", help="also write all numbers to this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--spec", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, json.loads(args.spec), args.threads)
        return
    args.peers = args.peers.split(",")
    unknown = [p for p in args.peers if p not in PEERS]
    if unknown:
        sys.exit(f"race.py: unknown peer {unknown[0]}, known: {', '.join(PEERS)}")
    wanted = [w for w in args.cases.split(",") if w]
    cases = [c for c in CASES if not wanted or any(w in c[0] for w in wanted)]
    if not cases:
        sys.exit(f"race.py: no case matches {args.cases!r}; cases: " + "; ".join(c[0] for c in CASES))
    print("| case | step | peer | ctclass ms | peer ms | ratio | of rounds | aim | peak MiB, ctclass / peer |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            for mode in args.modes.split(","):
                for row in race(case, mode, args, folder):
                    rows.append(row)
                    print(show(row), flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(rows, f, indent=1)


if __name__ == "__main__":
    main()
