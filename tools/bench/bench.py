"""Forward and forward + input VJP of the CPU networks beside PyTorch (f32, frozen parameters), in one run.

usage: bench.py NETWORK_BENCH [--threads 2] [--rounds 5] [--seconds 1] [--batches 1 16] [CONFIG.json …]

A CONFIG.json is that of an ADM UNet, or {"egnn": …} with that of an EGNN; batches of the latter are 1, 16 and 64 unless
--batches says otherwise. PyTorch evaluates a batch of molecules padded to its largest, with masks.

NETWORK_BENCH is the compiled benches/network.rs. Rounds alternate: one process of ours, then one of PyTorch, so that
both see the same neighbours on the machine; the table has the median over all repetitions of all rounds.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time

import yaml

# Atoms of the molecules of a batch, over and over: the same in benches/network.rs.
ATOMS = [18, 17, 19, 16, 20, 18, 21, 15]
ROOT = pathlib.Path(__file__).resolve().parents[2]


def repeat(body, seconds):
    """Milliseconds of each call in about `seconds`, after a first one."""
    body()
    times, start = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - start < seconds:
        once = time.perf_counter()
        body()
        times.append((time.perf_counter() - once) * 1e3)
    return times


def torch_times(config, batch, threads, seconds):
    """The same figures as benches/network.rs, from PyTorch."""
    import torch

    torch.set_num_threads(threads)
    t = torch.full((batch,), 0.5)
    if "egnn" in config:
        sys.path.insert(0, str(ROOT / "tools" / "reference"))
        from egnn import Egnn, masks

        model = Egnn(config["egnn"])
        atoms = [ATOMS[row % len(ATOMS)] for row in range(batch)]
        mask = masks(atoms, max(atoms), torch.float32)
        x = torch.randn(batch, max(atoms), 8 + config["egnn"]["include_charges"], requires_grad=True)
        arguments = (t, mask)
    else:
        sys.path.insert(0, str(ROOT / "tools" / "train"))
        from adm import Adm

        model = Adm(config)
        size = config["image_size"]
        x = torch.randn(batch, config["in_channels"], size, size, requires_grad=True)
        arguments = (t, torch.zeros(batch, dtype=torch.long) if config.get("num_classes") else None)
    for parameter in model.parameters():
        torch.nn.init.uniform_(parameter, -0.1, 0.1)
        parameter.requires_grad_(False)
    cotangent = torch.randn_like(x)

    def forward():
        with torch.no_grad():
            model(x, *arguments)

    def forward_vjp():
        torch.autograd.grad(model(x, *arguments), x, cotangent)

    return {
        "torch": torch.__version__,
        "forward_ms": repeat(forward, seconds),
        "forward_vjp_ms": repeat(forward_vjp, seconds),
    }


def run(command):
    """JSON of a child process."""
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(name, path, batch, args):
    """One row of the table."""
    arguments = [str(path), str(batch), str(args.threads), str(args.seconds)]
    ours, torch = [], []
    for _ in range(args.rounds):
        ours.append(run([args.bench, *arguments]))
        torch.append(run([sys.executable, __file__, "--torch", *arguments]))
    cells = [name, str(batch)]
    for key in ["forward_ms", "forward_vjp_ms"]:
        a, b = (statistics.median(t for r in results for t in r[key]) for results in (ours, torch))
        cells += [f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}"]
    print("| " + " | ".join(cells) + " |", flush=True)
    return ours[0]["cpu"], torch[0]["torch"]


def main():
    if sys.argv[1:2] == ["--torch"]:
        path, batch, threads, seconds = sys.argv[2:]
        config = json.loads(pathlib.Path(path).read_text())
        print(json.dumps(torch_times(config, int(batch), int(threads), float(seconds))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("configs", nargs="*", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--batches", type=int, nargs="+", help="default: 1 16; of molecules 1 16 64")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "bench")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    shipped = [ROOT / "benches" / name for name in ("adm-4.6m.json", "edm-0.7m.json")]
    configs = [(path.stem, path) for path in args.configs or shipped]
    for model in sorted((ROOT / "models").glob("*.yaml")) if not args.configs else []:
        model_file = yaml.safe_load(model.read_text())
        # Weights of the others are not shipped, and their networks are of the kinds of those that are.
        if "folder" not in model_file:
            network = model_file["network"]
            path = args.work / f"{model.stem}.json"
            path.write_text(json.dumps(network if "egnn" in network else network["adm"]))
            configs.append((f"shipped prior {model.stem}", path))
    print(f"Milliseconds, {args.threads} threads, 32x32 or 18 atoms, f32; ratio below 1: faster than PyTorch.\n")
    print("| network | batch | forward | PyTorch | ratio | forward + VJP | PyTorch | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for name, path in configs:
        is_egnn = "egnn" in json.loads(path.read_text())
        for batch in args.batches or ([1, 16, 64] if is_egnn else [1, 16]):
            versions = compare(name, path, batch, args)
    print(f"\nInstruction set {versions[0]}, torch {versions[1]}; medians over {args.rounds} alternating rounds.")


if __name__ == "__main__":
    main()
