"""The recipes of three configurations in PyTorch, for comparison of accuracy.

    accuracy.py adrenal NPZ --seeds 1 2 3              configs/adrenalmnist3d.yaml: test AUROC of the last epoch
    accuracy.py lidc LABELS.csv FOLDS.csv --seeds 1    configs/lidc_solid_nodules.yaml: 5-fold AUROC over all cases;
                                                       FOLDS.csv is what `ctclass train --folds 5` leaves in its
                                                       folder (folds.csv)
    accuracy.py lidc_fast LABELS.csv FOLDS.csv         the same with configs/lidc_solid_nodules_fast.yaml

Everything is the configuration's: the residual network with its dropout, He's initial weights by fan-out, AdamW that
decays matrices and kernels only, the one-cycle schedule, batches of 16 without the last short one, flips along all
axes, binary cross-entropy. Random numbers are PyTorch's own.
"""

import argparse
import csv
import json
import os
import time

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

import reference

BATCH, DECAY = 16, 0.01
STANDARD = dict(epochs=10, lr=1e-3, shape=(16, 64, 64), dropout=None, options={})
FAST = dict(epochs=20, lr=3e-3, shape=(16, 48, 48), dropout=0.1, options=dict(blocks=(1, 1, 1, 1), widths=(16, 32, 64, 128)))


def network(recipe):
    net = reference.build("resnet18_3d", 1, (32, 32, 32), **recipe["options"])
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout) and recipe["dropout"] is not None:
            m.p = recipe["dropout"]
    for m in net.modules():
        if isinstance(m, torch.nn.Conv3d):
            torch.nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
    return net


def train(x, y, recipe, seed, note):
    torch.manual_seed(seed)
    epochs, lr = recipe["epochs"], recipe["lr"]
    net = network(recipe).train()
    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW([dict(params=matrices, weight_decay=DECAY), dict(params=others, weight_decay=0.0)], lr=lr)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps, pct_start=0.3, cycle_momentum=False)
    for epoch in range(epochs):
        start, total = time.time(), 0.0
        order = torch.randperm(len(x))
        for step in range(steps):
            rows = order[step * BATCH :][:BATCH]
            batch = torch.stack([torch.flip(x[i], [a + 1 for a in range(3) if torch.rand(()) < 0.5]) for i in rows])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(net(batch)[:, 0], y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if epoch < epochs - 1 or step < steps - 1:
                schedule.step()
            total += loss.item()
        print(f"{note} epoch {epoch + 1}: loss {total / steps:.4f}, {time.time() - start:.0f} s", flush=True)
    return net.eval()


def predict(net, x):
    with torch.inference_mode():
        return torch.cat([torch.sigmoid(net(part)[:, 0]) for part in x.split(32)]).numpy()


def adrenal(args):
    data = np.load(args.data)
    volumes = lambda split: torch.from_numpy(data[split + "_images"].astype(np.float32) / 255)[:, None]
    labels = lambda split: torch.from_numpy(data[split + "_labels"].astype(np.float32)).reshape(-1)
    for seed in args.seeds:
        net = train(volumes("train"), labels("train"), STANDARD, seed, f"seed {seed}")
        yield seed, {split: roc_auc_score(labels(split).numpy(), predict(net, volumes(split))) for split in ("val", "test")}


def fit(v, shape):
    """Cuts or pads with zeros around the middle; the odd voxel falls at the end."""
    for axis, want in enumerate(shape):
        have = v.shape[axis]
        if have > want:
            v = np.take(v, range((have - want) // 2, (have - want) // 2 + want), axis)
        elif have < want:
            before = (want - have) // 2
            v = np.pad(v, [(before, want - have - before) if a == axis else (0, 0) for a in range(3)])
    return v


def lidc(args, recipe=STANDARD):
    import nibabel

    with open(args.data) as f:
        rows = list(csv.DictReader(f))
    with open(args.folds) as f:
        fold = {row["sample"]: int(row["fold"]) for row in csv.DictReader(f)}
    root = os.path.dirname(args.data)
    x = np.stack([fit(np.asarray(nibabel.load(f"{root}/{r['file']}").dataobj).T, recipe["shape"]) for r in rows])
    x = torch.from_numpy(x.astype(np.float32).clip(0, 255) / 255)[:, None]
    y = torch.tensor([float(r["malignant"]) for r in rows])
    folds = np.array([fold[r["file"]] for r in rows])
    for seed in args.seeds:
        p = np.zeros(len(rows))
        for k in sorted(set(folds)):
            inside = torch.from_numpy(folds != k)
            net = train(x[inside], y[inside], recipe, seed, f"seed {seed} fold {k}")
            p[folds == k] = predict(net, x[~inside])
        folded = [roc_auc_score(y.numpy()[folds == k], p[folds == k]) for k in sorted(set(folds))]
        yield seed, {"out_of_fold": roc_auc_score(y.numpy(), p), "mean_of_folds": np.mean(folded)}


def lidc_fast(args):
    return lidc(args, FAST)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=("adrenal", "lidc", "lidc_fast"))
    parser.add_argument("data")
    parser.add_argument("folds", nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed, result in dict(adrenal=adrenal, lidc=lidc, lidc_fast=lidc_fast)[args.task](args):
        print(json.dumps(dict(task=args.task, seed=seed, **{k: round(float(v), 4) for k, v in result.items()})), flush=True)
