"""Checks the exchange of weights between ctclass and PyTorch; run by the test in internal/weights.

    check.py make NAME SHAPE FOLDER       writes FOLDER/torch.pth and FOLDER/logits.json
    check.py compare NAME SHAPE FOLDER    reads what ctclass exported to FOLDER and prints JSON
    check.py onnx FOLDER                  checks the stored ONNX files against PyTorch's logits (fixtures.json beside the fixtures)
    check.py fixtures FOLDER              writes the small files that are stored in the repository
"""

import json
import os
import sys

import torch

import reference

CLASSES = 18


def save_json(path, value):
    with open(path, "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


def distance(a, b):
    """Largest difference over the largest value."""
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    return float((a - b).abs().max() / b.abs().max())


def make(name, shape, folder):
    torch.manual_seed(1)
    net = reference.randomise(reference.build(name, CLASSES, shape), 2)
    optimizer = torch.optim.AdamW(net.parameters())
    torch.save({"epoch": 3, "model_state_dict": net.state_dict(), "optimizer_state_dict": optimizer.state_dict(), "best": 0.5}, f"{folder}/torch.pth")
    with torch.inference_mode():
        save_json(f"{folder}/logits.json", net(reference.volumes(3, shape)).tolist())


def compare(name, shape, folder):
    import onnx
    import onnxruntime as ort
    from safetensors.torch import load_file

    out = {}
    x = reference.volumes(3, shape)
    original = torch.load(f"{folder}/torch.pth", weights_only=True)["model_state_dict"]
    with open(f"{folder}/go.json") as f:
        logits = json.load(f)
    net = reference.build(name, CLASSES, shape).eval()
    for file in ("out.pth", "out.safetensors"):
        path = f"{folder}/{file}"
        state = torch.load(path, weights_only=True) if file.endswith(".pth") else load_file(path)
        net.load_state_dict(state, strict=True)
        with torch.inference_mode():
            out[file] = distance(net(x), logits)
        out[file + " exact"] = all(v.dtype == original[k].dtype and v.shape == original[k].shape and torch.equal(v, original[k]) for k, v in state.items())
        del state
    del net, original
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".onnx")):
        path = f"{folder}/{file}"
        onnx.checker.check_model(path, full_check=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for n in (1, 3) if "dynamic" in file else (1,):
            y = session.run(["logits"], {"volume": x[:n].numpy()})[0]
            out[f"{file} batch {n}"] = distance(y, logits[:n])
        out[f"{file} metadata"] = sorted(session.get_modelmeta().custom_metadata_map)
        del session
    print(json.dumps(out))


TINY = {
    "resnet18_3d": dict(blocks=[1, 1, 1, 1], widths=[2, 2, 3, 4], hidden=3),
    "densenet_tiny_3d": dict(growth=2, init_features=3, blocks=[1, 2, 1, 1], bn_size=2, hidden=4),
    "vit_tiny_3d": dict(dim=6, depth=2, heads=2, patch_size=[8, 8, 8], mlp_ratio=2, hidden=3),
}


def fixtures(folder):
    shape = (32, 40, 32)
    cases = []

    def add(file, name, convert, save=lambda state, path: torch.save(state, path)):
        torch.manual_seed(1)
        net = reference.randomise(reference.build(name, 2, shape, **TINY[name]), 2)
        state = convert(net)
        save(state, f"{folder}/{file}")
        with torch.inference_mode():
            logits = net.double()(reference.volumes(2, shape).double())
        cases.append(dict(file=file, model=name, options=TINY[name], shape=shape, logits=logits.tolist()))

    def to(dtype):
        def convert(net):  # the values that are left after rounding are the network's
            net.to(dtype).float() if dtype != torch.float64 else net
            return {k: v.to(dtype) if v.is_floating_point() else v for k, v in net.state_dict().items()}

        return convert

    def renamed(f):
        return lambda net: {f(k): v for k, v in net.state_dict().items()}

    def residual(k):
        for i in range(1, 5):
            k = k.replace(f"layer{i}.", f"residual_layers.{i - 1}.", 1) if k.startswith("layer") else k
        return k

    def strided(net):
        """Every matrix and kernel lies in memory in another order, inside a larger storage."""
        out = {}
        for k, v in net.state_dict().items():
            if v.dim() > 1:
                room = torch.zeros(tuple(reversed([s + 1 for s in v.shape])), dtype=v.dtype)
                view = room.permute(*range(v.dim() - 1, -1, -1))[tuple(slice(1, None) for _ in v.shape)]
                v = view.copy_(v)
                assert not v.is_contiguous()
            out[k] = v
        return out

    def shared(net):
        """All tensors of a type are parts of one storage."""
        state = net.state_dict()
        flat = torch.cat([v.flatten() for v in state.values() if v.is_floating_point()])
        out, at = {}, 0
        for k, v in state.items():
            if v.is_floating_point():
                out[k] = flat[at : at + v.numel()].view(v.shape)
                at += v.numel()
            else:
                out[k] = v
        return out

    add("resnet.pth", "resnet18_3d", lambda net: net.state_dict())
    add("resnet_residual_module.pth", "resnet18_3d", renamed(lambda k: "module." + residual(k)))
    add("resnet_f16_nested.pth", "resnet18_3d", lambda net: {"epoch": 1, "loss": torch.tensor(0.5), "model": {"state_dict": to(torch.float16)(net)}})
    add("resnet_strided.pth", "resnet18_3d", strided)
    add("densenet.pth", "densenet_tiny_3d", lambda net: {"model_state_dict": net.state_dict(), "epoch": 2, "lr": 1e-3, "name": "é", "best": None})
    add("densenet_14_bf16.pth", "densenet_tiny_3d", lambda net: {k.replace("classifier.3", "classifier.1").replace("classifier.6", "classifier.4"): v for k, v in to(torch.bfloat16)(net).items()})
    add("densenet_f64.pth", "densenet_tiny_3d", to(torch.float64))
    add("vit_shared.pth", "vit_tiny_3d", shared)
    add("vit_protocol4.pth", "vit_tiny_3d", lambda net: {"state_dict": net.state_dict()}, lambda s, p: torch.save(s, p, pickle_protocol=4))
    save_json(f"{folder}/fixtures.json", cases)


def stored(folder):
    """The ONNX files that the tests of internal/onnx compare with."""
    import onnx
    import onnxruntime as ort

    with open(f"{folder}/../../weights/testdata/fixtures.json") as f:
        cases = {c["file"]: c for c in json.load(f)}
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".onnx")):
        case = cases[file.replace("_half", "").replace(".onnx", ".pth")]
        onnx.checker.check_model(f"{folder}/{file}", full_check=True)
        session = ort.InferenceSession(f"{folder}/{file}", providers=["CPUExecutionProvider"])
        x, shape = reference.volumes(2, case["shape"]).numpy(), session.get_inputs()[0].shape
        n = 2 if shape[0] == "batch" else 1
        d = distance(session.run(["logits"], {"volume": x[:n]})[0], case["logits"][:n])
        print(f"{file} {shape}: {d:.2g}")
        half = any(t.data_type == onnx.TensorProto.FLOAT16 for t in onnx.load(f"{folder}/{file}").graph.initializer)
        assert d < (1e-2 if half else 1e-4)


if __name__ == "__main__":
    torch.set_num_threads(2)
    command, args = sys.argv[1], sys.argv[2:]
    if command in ("fixtures", "onnx"):
        dict(fixtures=fixtures, onnx=stored)[command](*args)
    else:
        name, shape, folder = args
        dict(make=make, compare=compare)[command](name, tuple(int(n) for n in shape.split(",")), folder)
