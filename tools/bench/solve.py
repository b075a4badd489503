"""Samples an hour of whole runs of `dflow`, beside the peer's D-Flow in PyTorch (tools/peer/peer.py), in one run.

usage: solve.py DFLOW [--pipeline benches/solve.yaml] [--samples 2] [--threads N] [--rounds 5] [--minutes 10]
                [--cap EVALUATIONS] [--device cpu] [--work FOLDER] [--json FILE]

Both sides solve the same samples from the same source points until the target PSNR or the cap of evaluations, with the
same number of threads: a round runs for each task one process of `dflow` per D-Flow method of the pipeline and one of the
peer, whose settings are the first method's. The order of the sides turns round with every round. Another round is begun
while it would end within --minutes. A method's figures beside the peer's:

- samples an hour, by the wall time of whole processes; "solving" is without their start and end. A ratio above 1: `dflow`
  solves more.
- evaluations until the target: the median over samples and tasks; a solve that misses its target counts as the cap.
- share of the solves that reach the target; mean PSNR, SSIM (`ssim_tm19`) and PSNR of the hole.
- peak resident memory of a process, from its start to its end, that solves one sample of the first task, tapes (activations)
  kept or computed again: `dflow` until its target, the peer 25 evaluations.

Needs the packages of tools/peer/requirements.txt; reads the network in models/.
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version

import pyarrow.parquet
import yaml

import record
from record import ROOT

PEER = "peer"
# What the peer takes is there after a few; each takes it a second.
PEER_MEMORY_EVALUATIONS = 25
POLL_SECONDS = 0.01
COLUMNS = {
    "sample_id": "sample",
    "status": "status",
    "error": "error",
    "stop_reason": "stop_reason",
    "evals": "evals",
    "observed_psnr": "observed_psnr",
    "psnr": "psnr",
    "ssim_tm19": "ssim",
    "hole_psnr": "hole_psnr",
    "peak_memory": "peak_memory",
}


def call(command, peak=None):
    """Seconds of a child process, whose peak memory in bytes is appended to `peak`; ends this one with the child's last words
    if it fails."""
    command = list(map(str, command))
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT)
        highest = 0
        while peak is not None and child.poll() is None:
            highest = max(highest, high_water(child.pid))
            time.sleep(POLL_SECONDS)
        code = child.wait()
        seconds = time.perf_counter() - start
        if code != 0:
            said.seek(0)
            sys.exit(f"`{' '.join(command)}` failed with {code}:\n{said.read()[-2000:]}")
    if peak is not None:
        peak.append(highest)
    return seconds


def high_water(pid):
    """Peak resident bytes of a process so far; 0 once it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def with_cap(pipeline, cap):
    """The pipeline with no stop rule but its targets and a cap of evaluations."""
    pipeline = json.loads(json.dumps(pipeline))
    for entry in pipeline["methods"]:
        for options in entry.values():
            for own in [options, *(options.get("per_task") or {}).values()]:
                if "stop" in own:
                    own["stop"] = [rule for rule in own["stop"] if "evals" not in rule] + [{"evals": cap}]
    return pipeline


class Sides:
    """The D-Flow methods of a pipeline and the peer: what runs them, and what they tell."""

    def __init__(self, pipeline, samples, work, args):
        self.samples, self.work, self.args = samples, work, args
        work.mkdir(parents=True)
        self.file, self.draws = work / "pipeline.yaml", work / "draws.safetensors"
        self.file.write_text(yaml.safe_dump(pipeline, sort_keys=False))
        self.model = ROOT / "models" / f"{pipeline['model']}.yaml"
        self.methods = [entry["dflow"].get("name", "dflow") for entry in pipeline["methods"] if "dflow" in entry]
        self.tasks = [task["name"] for task in pipeline["tasks"]]
        call([args.dflow, "draws", self.file, self.draws, "--limit", samples, "--home", ROOT, "--quiet"])

    def warm_up(self):
        """Fills the user's cache folder: slots are measured, and distributions fitted, once per machine."""
        for method in self.methods:
            self.dflow(method, self.tasks[0], f"warm-up/{method}")

    def dflow(self, method, task, name, *options, peak=None):
        """One run of `dflow` into a directory of its own."""
        folder = self.work / name
        devices = self.args.device
        if devices == "cpu":
            all_cores = self.args.threads == record.allowed_cores()
            devices = "auto" if all_cores else f"cpu:1x{self.args.threads}"
        command = [self.args.dflow, "run", self.file, "--methods", method, "--tasks", task, "--limit", self.samples]
        command += ["--devices", devices, "--output", folder, "--home", ROOT, "--quiet", *options]
        wall = call(command, peak)
        rows = pyarrow.parquet.read_table(folder / "samples.parquet", columns=list(COLUMNS)).to_pylist()
        for row in rows:
            if row["status"] != "ok":
                sys.exit(f"{folder}: {task}/{method}/{row['sample_id']} failed: {row['error']}")
        if len(rows) != self.samples:
            found = f"{len(rows)} rows of {task}/{method}, not {self.samples}"
            sys.exit(f"{folder}: {found}: give --samples no more than the pipeline's dataset has")
        events = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        end = next(event for event in reversed(events) if event["event"] == "end")
        return {
            "wall_seconds": wall,
            "solving_seconds": end["seconds"],
            "busy_seconds": sum(usage["busy_seconds"] for usage in end["usage"]),
            "network_seconds": sum(usage["network_seconds"] for usage in end["usage"]),
            "rows": [{ours: row[column] for column, ours in COLUMNS.items()} for row in rows],
        }

    def peer(self, task, name, *options, peak=None):
        """One run of the peer."""
        lines = self.work / f"{name}.jsonl"
        lines.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, ROOT / "tools" / "peer" / "peer.py", self.file, self.draws, lines]
        command += ["--model", self.model, "--method", self.methods[0], "--task", task, "--limit", self.samples]
        wall = call([*command, "--threads", self.args.threads, "--device", self.args.device, *options], peak)
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
        kept = [*COLUMNS.values(), "cap", "target", "seconds"]
        return {
            "wall_seconds": wall,
            "solving_seconds": sum(row["whole_seconds"] for row in rows),
            "rows": [{key: row[key] for key in kept if key in row} for row in rows],
        }

    def round(self, number):
        """One run of every side for every task."""
        sides, found = [*self.methods, PEER], []
        for task in self.tasks:
            for side in sides if number % 2 == 0 else reversed(sides):
                name = f"{number}/{task}/{side}"
                run = self.peer(task, name) if side == PEER else self.dflow(side, task, name)
                found.append({"round": number, "task": task, "side": side, **run})
                print(f"{task}, {side}: {run['wall_seconds']:.1f} s", file=sys.stderr, flush=True)
        return found


def mean(values):
    values = [value for value in values if value is not None]
    return statistics.fmean(values) if values else None


def quality(runs, caps):
    """What a side's runs reach. The rounds solve the same samples: each counts."""
    rows = [(run["task"], row) for run in runs for row in run["rows"]]
    reached = [row["stop_reason"] == "target_psnr" for _, row in rows]
    until = [row["evals"] if ok else caps[task] for (task, row), ok in zip(rows, reached)]
    return {
        "evaluations_to_target": statistics.median(until),
        "reached": mean(reached),
        "evaluations": mean(row["evals"] for _, row in rows),
        **{key: mean(row[key] for _, row in rows) for key in ("observed_psnr", "psnr", "ssim", "hole_psnr")},
        "peak_memory": max(row["peak_memory"] for _, row in rows),
    }


def throughput(runs, side, key):
    """Samples an hour of a side in every round."""
    rounds = sorted({run["round"] for run in runs})
    own = [[run for run in runs if (run["round"], run["side"]) == (number, side)] for number in rounds]
    return [3600 * sum(len(run["rows"]) for run in few) / sum(run[key] for run in few) for few in own]


def rates(runs, side):
    """Samples an hour: the median of the rounds."""
    keys = {"samples_per_hour": "wall_seconds", "samples_per_hour_solving": "solving_seconds"}
    return {name: statistics.median(throughput(runs, side, key)) for name, key in keys.items()}


def ratios(runs, method):
    """Samples an hour of a method over those of the peer: pairs are rounds."""
    found = {}
    for name, key in (("whole", "wall_seconds"), ("solving", "solving_seconds")):
        sides = (throughput(runs, side, key) for side in (method, PEER))
        found[name] = record.spread([ours / theirs for ours, theirs in zip(*sides)])
    return found


def summary(runs, methods, tasks, caps):
    """The figures of every side, in all and by task, and the ratios of every method to the peer."""
    groups = {"all": runs} | {task: [run for run in runs if run["task"] == task] for task in tasks}
    found = {}
    for group, members in groups.items():
        found[group] = {}
        for side in [*methods, PEER]:
            own = [run for run in members if run["side"] == side]
            figures = quality(own, caps) | rates(members, side)
            if side != PEER:
                figures["ratio"] = ratios(members, side)
                busy = sum(run["busy_seconds"] for run in own)
                figures["outside_network"] = 1 - sum(run["network_seconds"] for run in own) / busy if busy else None
            found[group][side] = figures
    return found


def memory(pipeline, args):
    """Peak memory in bytes of processes that solve one sample of the first task."""
    sides = Sides(pipeline, 1, args.work / "memory", args)
    task, found = sides.tasks[0], {}
    for method in sides.methods:
        for kept in ("tape", "recompute"):
            peak = found.setdefault(f"{method}, {kept}", [])
            sides.dflow(method, task, f"{method}/{kept}", "--memory", kept, peak=peak)
    cap = ("--cap", PEER_MEMORY_EVALUATIONS)
    sides.peer(task, "tape", *cap, peak=found.setdefault(f"{PEER}, tape", []))
    sides.peer(task, "recompute", *cap, "--checkpoint", peak=found.setdefault(f"{PEER}, recompute", []))
    return {name: max(peak) for name, peak in found.items()}


def show(figures, bytes_of, rounds):
    def cell(value, form):
        return "" if value is None else format(value, form)

    titles = ["task", "side", "samples/h", "ratio (min–max)", "solving", "evaluations to target", "reached"]
    titles += ["PSNR", "SSIM", "PSNR of the hole", "outside the network"]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for group, sides in figures.items():
        for side, own in sides.items():
            ratio = own.get("ratio")
            cells = [group, side, f"{own['samples_per_hour']:.0f}", *(
                record.text(ratio[name]) if ratio else "" for name in ("whole", "solving")
            )]
            cells += [f"{own['evaluations_to_target']:.0f}", f"{own['reached']:.0%}", f"{own['psnr']:.2f}"]
            cells += [cell(own["ssim"], ".4f"), cell(own["hole_psnr"], ".2f"), cell(own.get("outside_network"), ".1%")]
            print("| " + " | ".join(cells) + " |")
    print(f"\nRatio above 1: dflow solves more samples an hour than PyTorch. Alternating rounds: {rounds}.")
    print("Peak memory of a process with one sample: ", end="")
    print("; ".join(f"{name} {size / 2**20:.0f} MiB" for name, size in bytes_of.items()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dflow", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--pipeline", type=pathlib.Path, default=ROOT / "benches" / "solve.yaml")
    parser.add_argument("--samples", type=int, default=2, help="of each task")
    parser.add_argument("--threads", type=int, default=record.allowed_cores(), help="default: all cores")
    parser.add_argument("--device", default="cpu", help="cpu, or a GPU such as cuda:0 (of both sides)")
    parser.add_argument("--rounds", type=int, default=5, help="at most")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--cap", type=int, help="replaces the pipeline's cap of evaluations")
    parser.add_argument("--work", type=pathlib.Path, default=ROOT / "target" / "bench" / "solve")
    parser.add_argument("--json", type=pathlib.Path, default=record.FILE)
    args = parser.parse_args()
    if not os.access(args.dflow, os.X_OK):
        sys.exit(f"{args.dflow} is not a program: build it by `make build`, or name another")
    args.work = args.work.resolve()
    shutil.rmtree(args.work, ignore_errors=True)
    print(record.busy(), end="")
    pipeline = yaml.safe_load(args.pipeline.read_text())
    sides = Sides(with_cap(pipeline, args.cap) if args.cap else pipeline, args.samples, args.work / "runs", args)
    sides.warm_up()
    start, lengths, runs = time.monotonic(), [], []
    while len(lengths) < args.rounds and time.monotonic() - start + max(lengths, default=0) <= 60 * args.minutes:
        began = time.monotonic()
        runs += sides.round(len(lengths))
        lengths.append(time.monotonic() - began)
    caps = {run["task"]: row["cap"] for run in runs if run["side"] == PEER for row in run["rows"]}
    figures = summary(runs, sides.methods, sides.tasks, caps)
    bytes_of = memory(pipeline, args)
    show(figures, bytes_of, len(lengths))
    versions = {name: version(name) for name in ("torch", "torchdiffeq")} | {"python": platform.python_version()}
    versions["dflow"] = subprocess.run([args.dflow, "--version"], capture_output=True, text=True).stdout.split()[-1]
    settings = {"samples": args.samples, "device": args.device, "threads": args.threads, "rounds": len(lengths), "caps": caps}
    value = {"versions": versions, **settings, "summary": figures, "peak_memory": bytes_of, "runs": runs}
    record.save(args.json, "solve", value)


if __name__ == "__main__":
    main()
