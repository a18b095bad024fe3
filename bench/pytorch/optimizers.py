"""Writes the reference values of optimisers and learning rate schedules that the tests compare with.

    optimizers.py ROOT    writes internal/session/testdata/optimizers.json and internal/train/testdata/schedules.json below ROOT
"""

import json
import math
import sys
import warnings

import torch

STEPS, SIZE = 100, 19
KEPT = (1, 2, 10, 50, 100)  # steps whose weights are stored


def gradient(step, i):
    """A number that both sides can compute, rounded to float32."""
    return torch.tensor((((step * 37 + i * 101 + step * i * 13) % 257) - 128) / 128 * 10 ** ((i % 4) - 2), dtype=torch.float32).double()


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2; PyTorch has none."""

    def __init__(self, params, lr, betas, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = b1 * m + (1 - b1) * p.grad
                p.sub_(group["lr"] * (c.sign() + group["weight_decay"] * p))
                m.copy_(b2 * m + (1 - b2) * p.grad)


def optimizers():
    cases = []
    for name, lr, settings, clip, average in (
        ("adamw", 1e-2, dict(betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05), 0, 0),
        ("adamw", 1e-2, dict(betas=(0.8, 0.99), eps=1e-3, weight_decay=0.0), 0.5, 0.9),
        ("sgd", 1e-2, dict(momentum=0.9, weight_decay=0.05), 0, 0.99),
        ("sgd", 1e-1, dict(momentum=0.0, weight_decay=0.0), 2.0, 0),
        ("lion", 1e-3, dict(betas=(0.9, 0.99), weight_decay=0.1), 0, 0),
    ):
        w = torch.nn.Parameter(torch.tensor([math.sin(1 + i) for i in range(SIZE)], dtype=torch.float32).double())
        bias = torch.nn.Parameter(torch.tensor([0.5], dtype=torch.float64))
        groups = [dict(params=[w]), dict(params=[bias], weight_decay=0.0)]
        kind = dict(adamw=torch.optim.AdamW, sgd=torch.optim.SGD, lion=Lion)[name]
        optimizer = kind(groups, lr=lr, nesterov=True, **settings) if name == "sgd" and settings["momentum"] else kind(groups, lr=lr, **settings)
        mean, kept = w.detach().clone(), []
        for step in range(1, STEPS + 1):
            rate = lr * (1.5 + math.cos(step / 7)) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            w.grad = torch.stack([gradient(step, i) for i in range(SIZE)])
            bias.grad = torch.ones_like(bias)
            if clip:
                torch.nn.utils.clip_grad_norm_([w, bias], clip)
            optimizer.step()
            d = min(average, (1 + step) / (10 + step))
            mean = d * mean + (1 - d) * w.detach()
            if step in KEPT:
                kept.append(dict(step=step, w=w.tolist(), bias=bias.tolist(), **({"average": mean.tolist()} if average else {})))
        cases.append(dict(name=name, lr=lr, clip=clip, average=average, first=[math.sin(1 + i) for i in range(SIZE)], after=kept, **settings))
    return cases


def dummy(lr):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def stepwise(name, lr, make, **settings):
    """The rate of each of 100 optimiser steps under a scheduler that is stepped behind each."""
    optimizer = dummy(lr)
    scheduler, rates = make(optimizer), []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) < STEPS:
            scheduler.step()
    return dict(lr=lr, schedule=dict(name=name, **settings), rates=rates)


def schedules():
    lr_scheduler = torch.optim.lr_scheduler
    out = []
    for pct, div, final in ((0.3, 25, 1e4), (0.05, 10, 100)):
        out.append(stepwise("one_cycle", 3e-3, lambda o: lr_scheduler.OneCycleLR(o, 3e-3, total_steps=STEPS, pct_start=pct, div_factor=div, final_div_factor=final),
                            pct_start=pct, div_factor=div, final_div_factor=final))
    out.append(stepwise("cosine", 1e-3, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=1e-5), min_lr=1e-5))
    out.append(stepwise("cosine", 1e-3, lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o, 1 / 20, total_iters=19), lr_scheduler.CosineAnnealingLR(o, STEPS - 20)], [20]), warmup_steps=20))
    out.append(stepwise("constant", 1e-3, lambda o: lr_scheduler.LinearLR(o, 1 / 8, total_iters=7), warmup_steps=8))

    optimizer, rates = dummy(0.1), []
    scheduler = lr_scheduler.MultiStepLR(optimizer, [3, 7, 8], gamma=0.3)
    for _ in range(10):  # epochs of ten steps
        rates += [optimizer.param_groups[0]["lr"]] * 10
        optimizer.step()
        scheduler.step()
    out.append(dict(lr=0.1, schedule=dict(name="multistep", milestones=[3, 7, 8], factor=0.3), rates=rates))

    for mode, floor in (("max", 0.0), ("min", 2e-4)):
        optimizer, rates, values = dummy(1e-2), [], []
        scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, mode=mode, factor=0.4, patience=3, threshold=1e-2, cooldown=2, min_lr=floor)
        for epoch in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            good = 1 - math.exp(-epoch / 15) + 0.03 * math.sin(epoch * 1.3)
            values.append(0.5 + 0.4 * good if mode == "max" else 0.7 - 0.4 * good)
            optimizer.step()
            scheduler.step(values[-1])
        out.append(dict(lr=1e-2, schedule=dict(name="plateau", factor=0.4, patience=3, threshold=1e-2, cooldown=2, min_lr=floor), mode=mode, values=values, rates=rates))
    return out


def save(path, value):
    with open(path, "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    root = sys.argv[1]
    save(f"{root}/internal/session/testdata/optimizers.json", dict(torch=torch.__version__, cases=optimizers()))
    save(f"{root}/internal/train/testdata/schedules.json", dict(torch=torch.__version__, cases=schedules()))
