"""Compares a run of `dflow` with the peer on the same samples, weights and draws.

usage: compare.py RUN_DIR PEER.jsonl [--ulp PEER_ULP.jsonl] [--method NAME] [--evaluations 10] [--tolerance 1e-4]

Fails (exit code 1) if one of the first losses differs by more than the tolerance (relative to the larger of the two
and 1 dB: a loss in dB may cross zero), or if fewer samples of a task reach the target than the peer's.
Where --ulp names the peer's own run from a start one unit in the last place beside (`peer.py --ulp`), a difference may be
ten times that between the two peers: there rounding alone decides.
"""

import argparse
import json
import pathlib
import sys

import pyarrow.parquet

COLUMNS = ["task", "method", "sample_id", "status", "stop_reason", "evals", "psnr", "wall_seconds", "trace"]


def read_run(folder, method):
    rows = pyarrow.parquet.read_table(folder / "samples.parquet", columns=COLUMNS).to_pylist()
    kinds = {row["method"] for row in rows if row["trace"]}
    if method is None and len(kinds) != 1:
        sys.exit(f"say --method: the run has {', '.join(sorted(kinds)) or 'no method with a trace'}")
    chosen = [row for row in rows if row["method"] == (method or min(kinds)) and row["status"] == "ok"]
    return {(row["task"], row["sample_id"]): row for row in chosen}


def distance(a, b):
    return abs(a - b) / max(abs(a), abs(b), 1.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("peer", type=pathlib.Path)
    parser.add_argument("--ulp", type=pathlib.Path)
    parser.add_argument("--method")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()

    run = read_run(args.run, args.method)
    peer = [json.loads(line) for line in args.peer.read_text().splitlines()]
    beside = [json.loads(line) for line in args.ulp.read_text().splitlines()] if args.ulp else []
    beside = {(row["task"], row["sample"]): row["losses"] for row in beside}
    missing = [(row["task"], row["sample"]) for row in peer if (row["task"], row["sample"]) not in run]
    if missing:
        sys.exit(f"the run has no finished row for {', '.join('/'.join(pair) for pair in missing)}")

    failed, reached = False, {}
    titles = ["task", "sample", "first losses differ by", "peer by one ulp", "evaluations", "peer", "stop", "peer"]
    titles += ["PSNR", "peer", "seconds", "peer"]
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for row in peer:
        ours = run[row["task"], row["sample"]]
        pairs = list(zip((point["loss"] for point in ours["trace"]), row["losses"]))[: args.evaluations]
        far = max(distance(a, b) for a, b in pairs)
        losses = beside.get((row["task"], row["sample"]), [])
        own = max((distance(a, b) for a, b in list(zip(row["losses"], losses))[: args.evaluations]), default=0.0)
        failed |= far > max(args.tolerance, 10 * own) or len(pairs) < min(args.evaluations, row["evals"], ours["evals"])
        tally = reached.setdefault(row["task"], [0, 0, 0])
        tally[0] += ours["stop_reason"] == "target_psnr"
        tally[1] += row["stop_reason"] == "target_psnr"
        tally[2] += 1
        cells = [row["task"], row["sample"], f"{far:.1e}", f"{own:.1e}" if losses else "", ours["evals"], row["evals"], ours["stop_reason"]]
        cells += [row["stop_reason"], f"{ours['psnr']:.2f}", f"{row['psnr']:.2f}"]
        cells += [f"{ours['wall_seconds']:.1f}", f"{row['seconds']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    print()
    for task, (ours, theirs, count) in reached.items():
        print(f"{task}: {ours} of {count} reach the target, peer {theirs} of {count}")
        failed |= ours < theirs
    print("DIFFERENT" if failed else "AGREES", f"(first {args.evaluations} losses to {args.tolerance:g} relative)")
    sys.exit(failed)


if __name__ == "__main__":
    main()
