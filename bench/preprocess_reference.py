"""Makes internal/data/preprocess/testdata/reference.json: small volumes as MONAI, PyTorch and SciPy preprocess them.

    python3 -m venv venv && venv/bin/pip install torch monai scipy nibabel
    venv/bin/python bench/preprocess_reference.py internal/data/preprocess/testdata/reference.json

Each case has the settings in the words of ctclass, the affine of the stored array (NIfTI: index i, j, k to RAS mm),
and the result in the order of the network's input.
"""

import json
import sys

import numpy
import scipy.ndimage
import scipy.spatial.transform
import torch
from monai.data import MetaTensor
from monai.transforms import (
    Compose,
    Orientation,
    Resize,
    ResizeWithPadOrCrop,
    ScaleIntensityRange,
    Spacing,
)

rng = numpy.random.default_rng(20260101)
shape = (12, 14, 11)  # i, j, k
# Smooth anatomy with noise, from air to bone.
i, j, k = numpy.meshgrid(*[numpy.linspace(-1, 1, n) for n in shape], indexing="ij")
body = numpy.where(i**2 + j**2 < 0.7, 40 + 600 * k, -1000) + rng.normal(0, 120, shape)
hu = numpy.round(numpy.clip(body, -1024, 1500)).astype(numpy.int16)

plain = numpy.diag([-0.8, -0.7, 2.5, 1])  # LPS: the order that ctclass works in
plain[:3, 3] = [40, 30, -200]


def volume(affine):
    return MetaTensor(torch.tensor(hu.astype(numpy.float32))[None], affine=torch.tensor(affine))


def lps(affine=plain):
    return Orientation("LPS", labels=(("L", "R"), ("P", "A"), ("I", "S")))(volume(affine))


def dhw(x):
    """[c][x][y][z] as [c][z][y][x]"""
    return torch.as_tensor(numpy.asarray(x)).permute(0, 3, 2, 1)


def window(x, lo=-1000, hi=400):
    return ScaleIntensityRange(lo, hi, 0, 1, clip=True)(x)


cases = []


def case(name, expected, affine=plain, **settings):
    x = numpy.asarray(expected, dtype=numpy.float64)
    cases.append({
        "name": name,
        "affine": [[float(v) for v in row] for row in affine],
        "settings": settings,
        "shape": list(x.shape[1:]),
        "channels": x.shape[0],
        "expected": [float(f"{v:.6g}") for v in x.ravel()],
    })


def resize(name, spatial, x, **settings):
    """spatial: d, h, w"""
    case(name, window(x), shape_dhw=list(spatial), fit="resize", **settings)


trilinear = lambda x, s: torch.nn.functional.interpolate(x[None], s, mode="trilinear", align_corners=False)[0]
source = dhw(lps())
for name, s in (("smaller", (5, 6, 7)), ("larger", (19, 17, 23)), ("both", (4, 20, 12))):
    resize(f"PyTorch trilinear, {name}", s, trilinear(source, s), antialias="none")
    resize(f"PyTorch nearest-exact, {name}", s, torch.nn.functional.interpolate(source[None], s, mode="nearest-exact")[0], interpolation="nearest")
    factors = [max(0, (n / m - 1) / 2) for n, m in zip(source.shape[1:], s)]
    smooth = scipy.ndimage.gaussian_filter(source[0].numpy().astype(numpy.float64), factors, mode="nearest", truncate=4)
    resize(f"SciPy gaussian_filter, then trilinear, {name}", s, trilinear(torch.tensor(smooth)[None], s).float(), antialias="gaussian")

    # PyTorch's antialias=True is the stretched linear kernel, in 2D and cut off at the image's edge. Over an image that
    # is continued by its edge voxels on both sides, the middle third is what the kernel makes of repeated edges.
    x = source[0].double()
    for axis in range(3):
        n, m = x.shape[axis], s[axis]
        y = x.movedim(axis, -1)
        rows = y.reshape(-1, n)
        padded = torch.cat([rows[:, :1].expand(-1, n), rows, rows[:, -1:].expand(-1, n)], 1)
        out = torch.nn.functional.interpolate(padded[None, None], (padded.shape[0], 3 * m), mode="bilinear", antialias=True, align_corners=False)
        x = out[0, 0, :, m : 2 * m].reshape(*y.shape[:-1], m).movedim(-1, axis)
    resize(f"PyTorch antialias=True, {name}", s, x[None].float(), antialias="triangle")

case("MONAI, Resize", window(dhw(Resize((7, 6, 5), mode="trilinear")(lps()))), shape_dhw=[5, 6, 7], fit="resize", antialias="none")

# The extents are whole numbers of target voxels: 12·0.8 = 16·0.6, 14·0.7 = 7·1.4, 11·2.5 = 11·2.5.
spaced = Spacing((0.6, 1.4, 2.5), mode="bilinear", scale_extent=True)(lps())
case("MONAI, Spacing over the extent, ResizeWithPadOrCrop", window(dhw(ResizeWithPadOrCrop((10, 8, 13), mode="constant", value=-1000)(spaced))),
     spacing_mm=[2.5, 1.4, 0.6], shape_dhw=[13, 8, 10], fit="crop_pad", antialias="none")

windows = [[-1000, 400], [-160, 240], [-450, 1050]]
case("three windows", torch.cat([torch.as_tensor(window(source, lo, hi)) for lo, hi in windows]), hu_windows=windows,
     shape_dhw=list(source.shape[1:]), fit="crop_pad")

# Orthogonal axes, turned by a few degrees: index i runs down, j to the left, k to the front.
oblique = numpy.eye(4)
turned = scipy.spatial.transform.Rotation.from_euler("xyz", [6, -4, 9], degrees=True).as_matrix()
oblique[:3, :3] = turned @ numpy.array([[0, -0.7, 0], [0, 0, 2.5], [-0.8, 0, 0]])
turns = {
    "RAS": numpy.diag([0.8, 0.7, 2.5, 1]),
    "PSR": numpy.array([[0, 0, 2.5, 5], [-0.8, 0, 0, 7], [0, 0.7, 0, -9], [0, 0, 0, 1]]),
    "ILA, oblique": oblique,
}
for name, affine in turns.items():
    x = dhw(lps(affine))
    case(f"MONAI, orientation of {name}", x, affine, intensity="raw", shape_dhw=list(x.shape[1:]), fit="crop_pad")

# The pipeline of CT-RATE_classifier; its result stays in the order X, Y, Z.
for name, affine in {"LPS": plain, **turns}.items():
    x = Compose([
        Orientation("LPS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
        Spacing((1, 1, 1), mode="bilinear", align_corners=True),
        ScaleIntensityRange(-1000, 1000, 0, 1, clip=True),
        Resize((6, 8, 9), mode="area"),
    ])(volume(affine))
    case(f"CT-RATE_classifier, {name}", x, affine, recipe="ct_rate_classifier", spacing_mm=[1, 1, 1], hu_window=[-1000, 1000], shape_dhw=[6, 8, 9])

with open(sys.argv[1], "w") as f:
    f.write('{"size_ijk": %s,\n"hu": %s,\n"cases": [\n' % (json.dumps(shape), json.dumps(hu.ravel().tolist(), separators=(",", ":"))))
    f.write(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]}\n")
print(f"{len(cases)} cases")
