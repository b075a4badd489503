"""Outputs and input VJPs of the public guided-diffusion UNet, for the tests of src/net.

usage: adm.py CHECKOUT COMMIT OUT_DIR     (a checkout of github.com/openai/guided-diffusion; tests/golden/adm)

No weights are stored. Number i of the stream NAME is

    seed  = FNV-1a 64 of NAME (UTF-8)
    u(k)  = ((splitmix64(seed + (k + 1) * 0x9e3779b97f4a7c15) >> 11) + 0.5) / 2^53
    n(i)  = sqrt(-2 ln u(2i)) cos(2 pi u(2i + 1))                                  (f64, then rounded to f32)

and every tensor is made of the stream CASE/TENSOR_NAME: weights n / sqrt(fan_in), the weights of GroupNorm 1 + n / 4,
biases n / 4, label embedding n; so that no tensor is zero (the public code starts output layers at zero). The state x
and the cotangent of the output are the streams CASE/x and CASE/cotangent.

Expected values are computed in float64 and stored as float32. The public code rounds GroupNorm, softmax and sinusoids
to float32 (`.float()`); for the float64 run that call is replaced by a conversion to float64. The frequencies of the
sinusoids stay float32, as the code has them. cases.json states how far the float32 run is from the float64 run.
"""

import argparse
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import safetensors.numpy
import torch

TINY = {
    "image_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "model_channels": 32,
    "channel_mult": [1, 2],
    "num_res_blocks": 1,
    "attention_resolutions": [8],
    "num_heads": 2,
    "num_classes": 10,
    "resblock_updown": True,
    "use_scale_shift_norm": True,
}
STEPS = [17.5, 873.25]
CASES = {
    "tiny": TINY,
    "time_in_unit_interval": TINY | {"time_embedding_scale": 1000.0},
    "conv_resample": TINY | {"resblock_updown": False},
    "pool_resample": TINY | {"resblock_updown": False, "conv_resample": False},
    "new_attention_order": TINY | {"use_new_attention_order": True},
    "no_scale_shift_norm": TINY | {"use_scale_shift_norm": False},
    "num_head_channels": TINY | {"num_head_channels": 16, "num_heads": 1},
    "learn_sigma": TINY | {"learn_sigma": True},
    "unconditional": TINY | {"num_classes": None},
    "wide_first_level": TINY | {"channel_mult": [2, 1], "num_res_blocks": 2, "attention_resolutions": [16, 8]},
    "no_res_blocks": TINY | {"channel_mult": [1, 1, 2], "num_res_blocks": 0, "attention_resolutions": [8]},
    "one_level": TINY | {"channel_mult": [1], "image_size": 8, "attention_resolutions": []},
    "medium": TINY
    | {
        "image_size": 32,
        "model_channels": 64,
        "channel_mult": [1, 2, 2],
        "num_res_blocks": 2,
        "attention_resolutions": [16, 8],
        "num_heads": 4,
    },
}
PUBLIC_128 = dict(
    image_size=128,
    num_channels=256,
    num_res_blocks=2,
    learn_sigma=True,
    class_cond=True,
    attention_resolutions="32,16,8",
    num_heads=4,
    use_scale_shift_norm=True,
    resblock_updown=True,
)
GAMMA = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def stream(name, shape):
    """The first normals of the stream `name`, float64."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = ((seed ^ byte) * 0x100000001B3) & MASK
    count = math.prod(shape)
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(2 * count, dtype=np.uint64) + np.uint64(1)) * np.uint64(GAMMA)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    u = ((z >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    return (np.sqrt(-2 * np.log(u[0::2])) * np.cos(2 * np.pi * u[1::2])).reshape(shape)


def parameter(case, name, shape):
    n = stream(f"{case}/{name}", shape)
    if name.endswith(".bias"):
        n = n / 4
    elif name == "label_emb.weight":
        pass
    elif len(shape) == 1:
        n = 1 + n / 4
    else:
        n = n / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(n.astype(np.float32))


def build(unet, config):
    outputs = config["out_channels"] * (2 if config.get("learn_sigma") else 1)
    return unet.UNetModel(
        image_size=config["image_size"],
        in_channels=config["in_channels"],
        model_channels=config["model_channels"],
        out_channels=outputs,
        num_res_blocks=config["num_res_blocks"],
        attention_resolutions=[config["image_size"] // size for size in config["attention_resolutions"]],
        channel_mult=config["channel_mult"],
        conv_resample=config.get("conv_resample", True),
        num_classes=config["num_classes"],
        num_heads=config["num_heads"],
        num_head_channels=config.get("num_head_channels", -1),
        use_scale_shift_norm=config["use_scale_shift_norm"],
        resblock_updown=config["resblock_updown"],
        use_new_attention_order=config.get("use_new_attention_order", False),
    ).eval()


def evaluate(model, config, case, t, labels, dtype):
    """The first `out_channels` channels of the output, and the VJP of a cotangent that is zero on the others."""
    rows, size = len(t), config["image_size"]
    x = torch.from_numpy(stream(f"{case}/x", (rows, config["in_channels"], size, size)).astype(np.float32))
    cotangent = stream(f"{case}/cotangent", (rows, config["out_channels"], size, size)).astype(np.float32)
    x = x.to(dtype).requires_grad_()
    arguments = (x, torch.tensor(t, dtype=dtype) * config.get("time_embedding_scale", 1.0))
    if labels is not None:
        arguments += (torch.tensor(labels),)
    single = torch.Tensor.float
    try:
        if dtype == torch.float64:
            torch.Tensor.float = torch.Tensor.double
        model.to(dtype).dtype = dtype
        output = model(*arguments)[:, : config["out_channels"]]
        (vjp,) = torch.autograd.grad(output, x, torch.from_numpy(cotangent).to(dtype))
    finally:
        torch.Tensor.float = single
    return output.detach().numpy(), vjp.numpy()


def distance(a, b):
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def run_case(unet, case, config, out):
    model = build(unet, config)
    state = {name: parameter(case, name, tuple(p.shape)) for name, p in model.state_dict().items()}
    model.load_state_dict(state)
    t = [0.375, 0.8125] if "time_embedding_scale" in config else STEPS
    labels = [3, 8] if config["num_classes"] else None
    exact = evaluate(model, config, case, t, labels, torch.float64)
    single = evaluate(model, config, case, t, labels, torch.float32)
    arrays = {name: value.astype(np.float32) for name, value in zip(("output", "vjp"), exact)}
    safetensors.numpy.save_file(arrays, out / f"{case}.safetensors")
    return {
        "name": case,
        "config": config,
        "t": t,
        "labels": labels,
        "parameters": sum(p.numel() for p in state.values()),
        "float32_to_float64": [distance(a, b) for a, b in zip(single, exact)],
    }


def public_layout(script_util, out):
    """Names and shapes of the public 128x128 network; no memory is allocated."""
    with torch.device("meta"):
        state = script_util.create_model(**PUBLIC_128).state_dict()
    lines = [" ".join([name, *map(str, p.shape)]) for name, p in state.items()]
    (out / "public_128.txt").write_text("\n".join(lines) + "\n")
    return {"tensors": len(lines), "parameters": sum(p.numel() for p in state.values())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("checkout", "commit", "out"):
        parser.add_argument(name)
    args = parser.parse_args()
    checkout, out = pathlib.Path(args.checkout), pathlib.Path(args.out)
    if (checkout / ".git").exists():
        head = subprocess.run(["git", "-C", checkout, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        if not head.stdout.startswith(args.commit):
            sys.exit(f"{checkout} is at {head.stdout.strip()}, not at {args.commit}")
    sys.path.insert(0, str(checkout))
    from guided_diffusion import script_util, unet

    torch.manual_seed(0)
    out.mkdir(parents=True, exist_ok=True)
    report = {
        "made_by": "tools/reference/adm.py",
        "reference": f"guided-diffusion {args.commit}, torch {torch.__version__}, numpy {np.__version__}",
        "public_128": public_layout(script_util, out),
        "cases": [run_case(unet, case, config, out) for case, config in CASES.items()],
    }
    (out / "cases.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
