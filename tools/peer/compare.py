"""Compares a run of `dflow` with the peer on the same samples, weights and draws.

usage: compare.py RUN_DIR PEER.jsonl [--ulp PEER_ULP.jsonl...] [--method NAME] [--evaluations 10] [--tolerance 1e-4]
                  [--psnr 0.01]

D-Flow (PEER.jsonl of peer.py): fails (exit code 1) if one of the first losses differs by more than the tolerance
(relative to the larger of the two and 1 dB: a loss in dB may cross zero), or if fewer samples of a task reach the target
than the peer's. Where --ulp names the peer's own runs with other roundings (`peer.py --ulp`, `--other-kernels`), the
nearest of the peer's runs counts, and a difference may be ten times that between the peer's own: there rounding alone
decides.

OT-ODE, PiGDM and RED-Diff (PEER.jsonl of baselines.py, whose rows name their methods): fails if the PSNR of a sample
differs by more than --psnr dB, or its number of steps at all.
"""

import argparse
import json
import pathlib
import sys

import pyarrow.parquet

COLUMNS = ["task", "method", "sample_id", "status", "stop_reason", "evals", "psnr", "wall_seconds", "trace"]


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_run(folder):
    """The finished rows of a run by task, method and sample."""
    rows = pyarrow.parquet.read_table(folder / "samples.parquet", columns=COLUMNS).to_pylist()
    return {(row["task"], row["method"], row["sample_id"]): row for row in rows if row["status"] == "ok"}


def only_method(run):
    """The method that has a trace, if it is the only one."""
    kinds = {method for (_, method, _), row in run.items() if row["trace"]}
    if len(kinds) != 1:
        sys.exit(f"say --method: the run has {', '.join(sorted(kinds)) or 'no method with a trace'}")
    return min(kinds)


def refuse_missing(run, keys):
    missing = ["/".join(key) for key in keys if key not in run]
    if missing:
        sys.exit(f"the run has no finished row for {', '.join(missing)}")


def distance(a, b):
    return abs(a - b) / max(abs(a), abs(b), 1.0)


def farthest(ours, theirs, args):
    """The largest distance of the first losses of two runs."""
    return max(distance(a, b) for a, b in list(zip(ours, theirs))[: args.evaluations])


def head(titles):
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")


def compare_dflow(run, peer, beside, args):
    """Prints both solves of every sample; whether they differ."""
    method = args.method or only_method(run)
    refuse_missing(run, [(row["task"], method, row["sample"]) for row in peer])
    failed, alone, reached = False, 0, {}
    titles = ["task", "sample", "first losses differ by", "from the nearest", "peers among them", "evaluations", "peer", "stop", "peer"]
    head([*titles, "PSNR", "peer", "seconds", "peer"])
    for row in peer:
        ours = run[row["task"], method, row["sample"]]
        losses = [point["loss"] for point in ours["trace"]]
        others = beside.get((row["task"], row["sample"]), [])
        far, *to_others = (farthest(losses, peers, args) for peers in [row["losses"], *others])
        own = max((farthest(row["losses"], peers, args) for peers in others), default=0.0)
        nearest = min([far, *to_others])
        known = min(len(losses), len(row["losses"]), args.evaluations)
        failed |= nearest > max(args.tolerance, 10 * own) or known < min(args.evaluations, row["evals"], ours["evals"])
        alone += nearest > args.tolerance
        tally = reached.setdefault(row["task"], [0, 0, 0])
        tally[0] += ours["stop_reason"] == "target_psnr"
        tally[1] += row["stop_reason"] == "target_psnr"
        tally[2] += 1
        cells = [row["task"], row["sample"], f"{far:.1e}", *(f"{d:.1e}" if others else "" for d in (nearest, own))]
        cells += [ours["evals"], row["evals"]]
        cells += [ours["stop_reason"], row["stop_reason"], f"{ours['psnr']:.2f}", f"{row['psnr']:.2f}"]
        cells += [f"{ours['wall_seconds']:.1f}", f"{row['seconds']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    print()
    for task, (ours, theirs, count) in reached.items():
        print(f"{task}: {ours} of {count} reach the target, peer {theirs} of {count}")
        failed |= ours < theirs
    print(f"{len(peer) - alone} of {len(peer)} follow one of the peer's runs to {args.tolerance:g}")
    rest = "; the others within 10 times what rounding moves the peer" if beside and alone else ""
    print("DIFFERENT" if failed else "AGREES", f"(first {args.evaluations} losses to {args.tolerance:g} relative{rest})")
    return failed


def compare_baselines(run, peer, args):
    """Prints both PSNRs of every sample; whether they differ."""
    peer = [row for row in peer if args.method in (None, row["method"])]
    if not peer:
        sys.exit(f"the peer has no row of {args.method}")
    refuse_missing(run, [(row["task"], row["method"], row["sample"]) for row in peer])
    largest, failed = {}, False
    head(["task", "method", "sample", "PSNR", "peer", "difference", "steps", "peer", "seconds", "peer"])
    for row in peer:
        ours = run[row["task"], row["method"], row["sample"]]
        difference = ours["psnr"] - row["psnr"]
        failed |= not abs(difference) <= args.psnr or ours["evals"] != row["evals"]
        largest[row["method"]] = max(largest.get(row["method"], 0.0), abs(difference))
        cells = [row["task"], row["method"], row["sample"], f"{ours['psnr']:.3f}", f"{row['psnr']:.3f}"]
        cells += [f"{difference:+.1e}", ours["evals"], row["evals"]]
        cells += [f"{ours['wall_seconds']:.1f}", f"{row['seconds']:.1f}"]
        print("| " + " | ".join(map(str, cells)) + " |")
    print()
    for method, difference in largest.items():
        print(f"{method}: at most {difference:.1e} dB apart")
    print("DIFFERENT" if failed else "AGREES", f"(PSNR of every sample to {args.psnr:g} dB)")
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("peer", type=pathlib.Path)
    parser.add_argument("--ulp", type=pathlib.Path, nargs="+", default=[])
    parser.add_argument("--method")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--psnr", type=float, default=0.01)
    args = parser.parse_args()

    run, peer = read_run(args.run), read_lines(args.peer)
    if any("method" in row for row in peer):
        sys.exit(compare_baselines(run, peer, args))
    beside = {}
    for row in (row for path in args.ulp for row in read_lines(path)):
        beside.setdefault((row["task"], row["sample"]), []).append(row["losses"])
    sys.exit(compare_dflow(run, peer, beside, args))


if __name__ == "__main__":
    main()
