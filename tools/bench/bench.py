"""Forward and forward + input VJP of our networks beside PyTorch (f32, frozen parameters), in one run.

usage: bench.py NETWORK_BENCH [--threads N] [--rounds 5] [--seconds 1] [--batches 1 4 16] [--device cpu]
                [--json FILE] [--name networks] [CONFIG.json|MODEL.yaml …]

A CONFIG.json is that of an ADM UNet, or {"egnn": …} with that of an EGNN, whose batches are 1, 16 and 64 unless
--batches says otherwise; a MODEL.yaml has its network in it; without any, adm-4.6m at 32x32 and 64x64, edm-0.7m and the
shipped priors. PyTorch evaluates a batch of molecules padded to its largest, with masks, and a UNet with the faster of
two forms of attention: a soft-max written out, and scaled_dot_product_attention.

NETWORK_BENCH is the compiled benches/network.rs. Rounds alternate: one process of ours and one of PyTorch, which of them
first changing, so that both see the same neighbours on the machine. A round's ratio is that of the medians of its two
processes; the table has the median of the rounds' ratios, with the least and the largest.
"""

import argparse
import importlib.util
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import yaml

import record
from record import ROOT

# Atoms of the molecules of a batch, over and over: the same in benches/network.rs.
ATOMS = [18, 17, 19, 16, 20, 18, 21, 15]
KEYS = ("forward_ms", "forward_vjp_ms")


def milliseconds(body):
    start = time.perf_counter()
    body()
    return (time.perf_counter() - start) * 1e3


def repeat(bodies, seconds):
    """Milliseconds of each call in about `seconds`, of the body that is fastest in its second call."""
    for body in bodies:
        body()
    body = min(bodies, key=milliseconds) if len(bodies) > 1 else bodies[0]
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        times.append(milliseconds(body))
    return times


def unet_class(folder):
    """`Adm` of tools/FOLDER/adm.py: a file of the same name in two folders."""
    spec = importlib.util.spec_from_file_location(f"{folder}_adm", ROOT / "tools" / folder / "adm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Adm


def torch_times(config, batch, threads, seconds, device):
    """The same figures as benches/network.rs, from PyTorch."""
    import torch

    torch.set_num_threads(threads)
    torch.set_default_device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    t = torch.full((batch,), 0.5)
    if "egnn" in config:
        sys.path.insert(0, str(ROOT / "tools" / "reference"))
        from egnn import Egnn, masks

        models = [Egnn(config["egnn"])]
        atoms = [ATOMS[row % len(ATOMS)] for row in range(batch)]
        mask = masks(atoms, max(atoms), torch.float32)
        x = torch.randn(batch, max(atoms), 8 + config["egnn"]["include_charges"], requires_grad=True)
        arguments = (t, mask)
    else:
        models = [unet_class(folder)(config) for folder in ("train", "peer")]
        size = config["image_size"]
        x = torch.randn(batch, config["in_channels"], size, size, requires_grad=True)
        arguments = (t, torch.zeros(batch, dtype=torch.long) if config.get("num_classes") else None)
    for parameter in (parameter for model in models for parameter in model.parameters()):
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
        parameter.requires_grad_(False)
    cotangent = torch.randn_like(x)

    def finish():
        if x.is_cuda:
            torch.cuda.synchronize()

    def forward(model):
        with torch.no_grad():
            model(x, *arguments)
        finish()

    def forward_vjp(model):
        torch.autograd.grad(model(x, *arguments), x, cotangent)
        finish()

    def times(body):
        return repeat([lambda model=model: body(model) for model in models], seconds)

    return {"torch": torch.__version__, "forward_ms": times(forward), "forward_vjp_ms": times(forward_vjp)}


def run(command):
    """JSON of a child process."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` failed with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def compare(path, batch, args):
    """The figures of one network and batch: those of every round, and the ratios."""
    arguments = [path, batch, args.threads, args.seconds]
    sides = {
        "ours": [args.bench, *arguments, *([] if args.device == "cpu" else [args.device])],
        "torch": [sys.executable, __file__, "--torch", *arguments, args.device],
    }
    results = {side: [] for side in sides}
    for round in range(args.rounds):
        for side in list(sides)[:: 1 if round % 2 == 0 else -1]:
            results[side].append(run(sides[side]))
    row = {}
    for key in KEYS:
        medians = {side: [statistics.median(result[key]) for result in results[side]] for side in sides}
        ratio = record.spread([ours / torch for ours, torch in zip(medians["ours"], medians["torch"])])
        row[key] = {side: statistics.median(values) for side, values in medians.items()}
        row[key] |= {"ratio": ratio, "rounds": medians}
    return row, results["ours"][0]["cpu"], results["torch"][0]["torch"]


def network_of(model):
    network = model["network"]
    return network if "egnn" in network else network["adm"]


def subjects(args):
    """(name, configuration) of the networks to compare."""
    if args.configs:
        read = {".json": json.loads, ".yaml": lambda text: network_of(yaml.safe_load(text))}
        return [(path.stem, read[path.suffix](path.read_text())) for path in args.configs]
    adm, edm = (json.loads((ROOT / "benches" / f"{name}.json").read_text()) for name in ("adm-4.6m", "edm-0.7m"))
    found = [(f"adm-4.6m-{size}", adm | {"image_size": size}) for size in (32, 64)] + [("edm-0.7m", edm)]
    for path in sorted((ROOT / "models").glob("*.yaml")):
        model = yaml.safe_load(path.read_text())
        # Weights of the others are not shipped, and their networks are of the kinds of those that are.
        if "folder" not in model:
            found.append((path.stem, network_of(model)))
    # A GPU evaluates UNets only.
    return [(name, config) for name, config in found if args.device == "cpu" or "egnn" not in config]


def refuse_unknown_device(bench, device):
    """Ends where NETWORK_BENCH has no argument for a device: its figures would be those of the CPU."""
    if device != "cpu" and not device.startswith("cuda"):
        sys.exit(f"--device {device}: write cpu, or a GPU such as cuda:0; --threads says how many cores are used")
    usage = subprocess.run([bench], capture_output=True, text=True).stdout
    if device != "cpu" and "DEVICE" not in usage:
        sys.exit(
            f"--device {device}: {bench} was built without the feature `cuda`; build it by `cargo bench --features cuda "
            "--bench network --no-run`, or leave --device (DEVICES of `make bench`) out to compare on the CPU"
        )


def main():
    if sys.argv[1:2] == ["--torch"]:
        path, batch, threads, seconds, device = sys.argv[2:]
        config = json.loads(pathlib.Path(path).read_text())
        print(json.dumps(torch_times(config, int(batch), int(threads), float(seconds), device)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("configs", nargs="*", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=record.allowed_cores(), help="default: all cores")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--batches", type=int, nargs="+", help="default: 1 4 16; of molecules 1 16 64")
    parser.add_argument("--device", default="cpu", help="cpu, or cuda:0 where NETWORK_BENCH has it")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "bench")
    parser.add_argument("--json", type=pathlib.Path, default=record.FILE)
    parser.add_argument("--name", default="networks", help="section of the JSON file")
    args = parser.parse_intermixed_args()
    refuse_unknown_device(args.bench, args.device)
    args.work.mkdir(parents=True, exist_ok=True)
    print(record.busy() + f"Milliseconds, {args.threads} threads, f32; ratio below 1: faster than PyTorch.\n")
    print("| network | size | batch ", end="")
    print("| forward | PyTorch | ratio (min–max) | forward + VJP | PyTorch | ratio (min–max) |")
    print("|---" * 9 + "|", flush=True)
    rows = []
    for name, config in subjects(args):
        path = args.work / f"{name}.json"
        path.write_text(json.dumps(config))
        size = "18 atoms" if "egnn" in config else "{0}x{0}".format(config["image_size"])
        for batch in args.batches or ([1, 16, 64] if "egnn" in config else [1, 4, 16]):
            row, cpu, torch = compare(path, batch, args)
            rows.append({"network": name, "size": size, "batch": batch, **row})
            cells = [name, size, str(batch)]
            for key in KEYS:
                cells += [f"{row[key]['ours']:.1f}", f"{row[key]['torch']:.1f}", record.text(row[key]["ratio"])]
            print("| " + " | ".join(cells) + " |", flush=True)
    slower = [
        f"{row['network']} batch {row['batch']} {key.removesuffix('_ms')} {row[key]['ratio']['median']:.2f}"
        for row in rows
        for key in KEYS
        if row[key]["ratio"]["median"] > 1
    ]
    print(f"\nInstruction set {cpu}, torch {torch}. Alternating rounds: {args.rounds}.")
    print(f"Slower than PyTorch: {', '.join(slower)}." if slower else "No row is slower than PyTorch.")
    versions = {"torch": torch, "python": platform.python_version()}
    settings = {"threads": args.threads, "rounds": args.rounds, "seconds": args.seconds, "device": args.device}
    value = {"versions": versions, "instruction_set": cpu, **settings, "slower": slower, "rows": rows}
    record.save(args.json, args.name, value)


if __name__ == "__main__":
    main()
