"""The one JSON file of `make bench`: the machine, and a section for every comparison."""

import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE = ROOT / "target" / "bench" / "bench.json"


def allowed_cores():
    return len(os.sched_getaffinity(0))


def first_value(path, key):
    """What stands behind `key:` in a file of /proc, the first time."""
    for line in pathlib.Path(path).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def kibibytes(path, key):
    return int(first_value(path, key).split()[0]) * 1024


def machine():
    return {
        "cpu": first_value("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": allowed_cores(),
        "memory": kibibytes("/proc/meminfo", "MemTotal"),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
    }


def commit():
    """The commit that is checked out, `-dirty` if files differ from it; none where git cannot tell."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.strip() or None


def spread(ratios):
    """Ratios of pairs: their median, least and largest."""
    return {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "pairs": len(ratios)}


def text(ratio):
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}–{ratio['max']:.2f})"


def busy():
    """A warning where others use the machine: a barrier of threads waits for the one that has no core."""
    # What runs now beside this process; the load average still holds what ended a minute ago.
    running = []
    for _ in range(20):
        time.sleep(0.05)
        running.append(int(pathlib.Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1)
    others = statistics.fmean(running)
    return f"The machine is busy ({others:.1f} other threads run): ratios will scatter.\n" if others > 0.3 else ""


def save(path, section, value):
    """Puts a section into the file, which keeps the others; says where."""
    whole = json.loads(path.read_text()) if path.exists() else {}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    whole[section] = {"finished": now, "commit": commit(), "machine": machine(), **value}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".json.tmp")
    unfinished.write_text(json.dumps(whole, indent=1) + "\n")
    unfinished.replace(path)
    print(f"Saved as `{section}` in {path}.", flush=True)
