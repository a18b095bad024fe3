"""Values of scikit-learn and scipy for the tests of internal/eval.

Usage: python eval_peers.py ../internal/eval/testdata

Rewrites sklearn.json (the cases are kept, their values are computed anew) and peers.json. Needs numpy, scipy and
scikit-learn; nothing of ctclass is used, so that both are independent.
"""

import json
import sys
from pathlib import Path

import numpy as np
import scipy
import sklearn
from scipy import optimize, stats
from sklearn import calibration, isotonic, metrics

BINS = 15


def number(x):
    """A float for JSON; null where a measure is undefined."""
    return None if x is None or not np.isfinite(x) else float(x)


def ece(p, y):
    """Expected calibration error from the bins of scikit-learn's calibration_curve."""
    observed, mean = calibration.calibration_curve(y, p, n_bins=BINS, strategy="uniform", pos_label=1)
    index = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], p)
    share = np.bincount(index, minlength=BINS)
    return float(np.sum(share[share > 0] / len(p) * np.abs(observed - mean)))


def binary(p, y, predicted):
    """The measures of one label; a measure that a 0/0 would give is None."""
    out = dict.fromkeys(
        "auroc auprc f1 accuracy balanced_accuracy sensitivity specificity ppv npv brier ece".split())
    if len(y) == 0:
        return out
    tn, fp, fn, tp = metrics.confusion_matrix(y, predicted, labels=[0, 1]).ravel()
    if 0 < y.sum() < len(y):
        out["auroc"] = metrics.roc_auc_score(y, p)
        out["auprc"] = metrics.average_precision_score(y, p)
    if 2 * tp + fp + fn > 0:
        out["f1"] = metrics.f1_score(y, predicted, pos_label=1)
    out["accuracy"] = metrics.accuracy_score(y, predicted)
    if tp + fn:
        out["sensitivity"] = metrics.recall_score(y, predicted, pos_label=1)
    if tn + fp:
        out["specificity"] = metrics.recall_score(y, predicted, pos_label=0)
    if tp + fn and tn + fp:
        out["balanced_accuracy"] = metrics.balanced_accuracy_score(y, predicted)
    if tp + fp:
        out["ppv"] = metrics.precision_score(y, predicted, pos_label=1)
    if tn + fn:
        out["npv"] = metrics.precision_score(y, predicted, pos_label=0)
    out["brier"] = metrics.brier_score_loss(y, p, pos_label=1, labels=[0, 1]) if 0 < y.sum() < len(y) else float(np.mean((p - y) ** 2))
    out["ece"] = ece(p, y)
    return {k: number(v) for k, v in out.items()}


def macro(rows):
    out = {}
    for key in rows[0]:
        known = [r[key] for r in rows if r[key] is not None]
        out[key] = float(np.mean(known)) if known else None
    return out


def case(c):
    prob = np.array(c["prob"], float).reshape(-1, len(c["labels"]))
    target = [[np.nan if t is None else t for t in row] for row in c["target"]]
    target = np.array(target, float).reshape(len(prob), 1 if c["task"] == "multiclass" else len(c["labels"]))
    rows, pooled = [], []
    multiclass = c["task"] == "multiclass"
    answer = prob.argmax(1) if multiclass and len(prob) else None
    for k in range(len(c["labels"])):
        t = target[:, 0] if multiclass else target[:, k]
        known = ~np.isnan(t)
        y = (t[known] == k).astype(int) if multiclass else t[known].astype(int)
        p = prob[known, k]
        predicted = (answer[known] == k).astype(int) if multiclass else (p >= c["threshold"]).astype(int)
        rows.append(binary(p, y, predicted))
        pooled.append((p, y, predicted))
    micro = binary(*(np.concatenate(x) for x in zip(*pooled)))
    if multiclass:
        known = ~np.isnan(target[:, 0])
        t = target[known, 0].astype(int)
        if len(t):
            p = prob[known]
            micro["accuracy"] = float(metrics.accuracy_score(t, p.argmax(1)))
            micro["brier"] = float(np.mean(np.sum((p - np.eye(p.shape[1])[t]) ** 2, 1)))
            micro["ece"] = ece(p.max(1), (p.argmax(1) == t).astype(int))
        c["confusion"] = metrics.confusion_matrix(t, prob[known].argmax(1), labels=range(len(c["labels"]))).tolist() if len(t) else \
            np.zeros((len(c["labels"]),) * 2, int).tolist()
    c["want"] = {"labels": rows, "macro": macro(rows), "micro": micro}
    return c


def delong(scores, y):
    """AUROCs of several models and their covariance, from the definition: the kernel of every pair."""
    kernel = [((s[y == 1][:, None] > s[y == 0][None]) + 0.5 * (s[y == 1][:, None] == s[y == 0][None])) for s in scores]
    m, n = kernel[0].shape
    v10, v01 = np.array([k.mean(1) for k in kernel]), np.array([k.mean(0) for k in kernel])
    return np.array([k.mean() for k in kernel]), np.atleast_2d(np.cov(v10)) / m + np.atleast_2d(np.cov(v01)) / n


def newcombe(a, m, n):
    z, k = stats.norm.ppf(0.975), (m + n) / 2 - 1

    def distance(t):
        return abs(a - t) - z * np.sqrt(t * (1 - t) * (1 + k * (1 - t) / (2 - t) + k * t / (1 + t)) / (m * n))

    low = 0.0 if a == 0 else optimize.brentq(distance, 1e-15, min(a, 1 - 1e-9), xtol=1e-15)
    high = 1.0 if a == 1 else optimize.brentq(distance, max(a, 1e-9), 1 - 1e-15, xtol=1e-15)
    return [low, high]


def rounded(rng, n, signal, y, digits):
    """Probabilities, with ties where digits are few."""
    return np.round(1 / (1 + np.exp(-(rng.normal(size=n) + signal * (2 * y - 1)))), digits)


def peers():
    rng = np.random.default_rng(7)
    z = stats.norm.ppf(0.975)
    out = {"made_with": f"scikit-learn {sklearn.__version__}, scipy {scipy.__version__}, numpy {np.__version__}"}

    out["auroc"] = []
    for n, digits in [(40, 6), (60, 1), (200, 2), (25, 3)]:
        y = (rng.random(n) < 0.35).astype(int)
        a, b = rounded(rng, n, 0.8, y, digits), rounded(rng, n, 0.4, y, digits)
        area, cov = delong([a, b], y)
        assert abs(area[0] - metrics.roc_auc_score(y, a)) < 1e-12
        se = np.sqrt(np.diag(cov))
        logit = np.log(area[0] / (1 - area[0]))
        half = z * se[0] / (area[0] * (1 - area[0]))
        d, sd = area[0] - area[1], np.sqrt(cov[0, 0] + cov[1, 1] - 2 * cov[0, 1])
        fpr, tpr, _ = metrics.roc_curve(y, a, drop_intermediate=False)
        precision, recall, _ = metrics.precision_recall_curve(y, a)
        out["auroc"].append({
            "y": y.tolist(), "first": a.tolist(), "second": b.tolist(),
            "low": float(scipy.special.expit(logit - half)), "high": float(scipy.special.expit(logit + half)),
            "difference": float(d), "difference_low": float(d - z * sd), "difference_high": float(d + z * sd),
            "p": float(2 * stats.norm.sf(abs(d) / sd)),
            "roc": np.stack([fpr, tpr], 1).tolist(),
            "pr": np.stack([recall, precision], 1)[:-1][::-1].tolist(),
        })

    out["newcombe"] = [{"auroc": a, "positives": m, "negatives": n, "want": newcombe(a, m, n)}
                       for a, m, n in [(1.0, 10, 20), (0.0, 5, 5), (0.75, 1, 12), (1.0, 1, 1), (0.8, 40, 60)]]

    out["wilson"] = []
    for k, n in [(0, 12), (12, 12), (7, 12), (199, 200), (1, 3)]:
        ci = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        out["wilson"].append({"hits": k, "n": n, "want": [ci.low, ci.high]})

    # Rao and Scott: a ratio over clusters, its variance by linearisation, the design effect, Wilson with n / effect.
    out["clustered"] = []
    for _ in range(3):
        sizes = rng.integers(1, 6, 30)
        hits = rng.binomial(sizes, rng.beta(1.5, 1.0, 30))
        share = hits.sum() / sizes.sum()
        u = len(sizes)
        variance = u / (u - 1) * np.sum((hits - share * sizes) ** 2) / sizes.sum() ** 2
        n = sizes.sum() / max(variance / (share * (1 - share) / sizes.sum()), 1)
        middle = (share + z**2 / 2 / n) / (1 + z**2 / n)
        half = z * np.sqrt(share * (1 - share) / n + z**2 / 4 / n**2) / (1 + z**2 / n)
        out["clustered"].append({"hits": hits.tolist(), "sizes": sizes.tolist(), "want": [middle - half, middle + half]})

    out["calibration"] = []
    for n, digits in [(80, 6), (120, 1)]:
        y = (rng.random(n) < 0.4).astype(int)
        logits = np.round(4 * rng.normal(size=n) + 3 * (2 * y - 1), digits)
        fit = optimize.minimize_scalar(lambda b: np.sum(np.logaddexp(0, b * logits) - y * b * logits), bounds=(1e-3, 20),
                                       method="bounded", options={"xatol": 1e-12})
        p = scipy.special.expit(logits)
        iso = isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y)
        at = np.round(np.linspace(-9, 9, 37) + 0.01, 2)
        observed, mean = calibration.calibration_curve(y, p, n_bins=BINS)
        out["calibration"].append({
            "y": y.tolist(), "logits": logits.tolist(), "temperature": float(1 / fit.x),
            "at": at.tolist(), "isotonic": iso.predict(scipy.special.expit(at)).tolist(),
            "observed": observed.tolist(), "mean": mean.tolist(),
        })

    t = rng.integers(0, 3, 150)
    logits = np.round(3 * rng.normal(size=(150, 3)) + 3 * np.eye(3)[t], 4)
    fit = optimize.minimize_scalar(lambda b: -np.sum(scipy.special.log_softmax(b * logits, 1)[np.arange(150), t]), bounds=(1e-3, 20),
                                   method="bounded", options={"xatol": 1e-12})
    out["softmax"] = {"class": t.tolist(), "logits": logits.tolist(), "temperature": float(1 / fit.x)}

    y = (rng.random(90) < 0.3).astype(int)
    p = rounded(rng, 90, 0.7, y, 2)
    fpr, tpr, thresholds = metrics.roc_curve(y, p, drop_intermediate=False)
    best = {
        "youden": np.argmax(np.round(tpr - fpr, 12)),
        "sensitivity=0.9": np.argmax(tpr >= 0.9),
        "specificity=0.9": np.flatnonzero(fpr <= 0.1 + 1e-12)[-1],
        "cost=1:4": np.argmin(fpr * (y == 0).sum() + 4 * (1 - tpr) * (y == 1).sum()),
    }
    out["points"] = {"y": y.tolist(), "p": p.tolist(), "want": {
        # The lowest score that is still predicted, and what follows from it.
        k: {"score": float(thresholds[i]), "sensitivity": float(tpr[i]), "specificity": float(1 - fpr[i])} for k, i in best.items()}}
    return out


def main():
    folder = Path(sys.argv[1])
    file = folder / "sklearn.json"
    old = json.loads(file.read_text())
    new = {"made_with": f"scikit-learn {sklearn.__version__}", "cases": [case(c) for c in old["cases"]]}
    for name, content in [("sklearn.json", new), ("peers.json", peers())]:
        (folder / name).write_text(json.dumps(content, separators=(",", ":")) + "\n")


main()
