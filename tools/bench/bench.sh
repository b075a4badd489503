#!/usr/bin/env bash
# usage: bench.sh [full]      Compares dflow with PyTorch: network calls, then whole runs. Writes target/bench/bench.json.
# Environments are made in .venv-bench once: `networks` with the newest torch, `peer` with the one whose LBFGS dflow follows
# (BENCH_PYTHON=… and BENCH_PEER_PYTHON=… name Pythons that have the packages already; DFLOW=… and NETWORK_BENCH=… programs
# that are built). `full`: more rounds and samples, and the ADM of 421 M parameters.
# DEVICES=cuda:0 compares on that GPU, with what is built with the feature `cuda`: the UNets, the ADM of 421 M parameters in
# batches of 1, 8 and 32, and whole runs.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-quick} in
  quick | full) ;;
  *) echo "BENCH=$1: write full, or nothing" >&2; exit 2 ;;
esac

# environment NAME REQUIREMENTS: made anew when the requirements have changed
environment() {
  if cmp -s "$2" ".venv-bench/$1/complete"; then return; fi
  rm -rf ".venv-bench/$1"
  python3 -m venv ".venv-bench/$1"
  ".venv-bench/$1/bin/python" -m pip install -q -r "$2"
  cp "$2" ".venv-bench/$1/complete"
}
networks=${BENCH_PYTHON:-.venv-bench/networks/bin/python}
peer=${BENCH_PEER_PYTHON:-.venv-bench/peer/bin/python}
if [ -z "${BENCH_PYTHON:-}" ]; then environment networks tools/bench/requirements.txt; fi
if [ -z "${BENCH_PEER_PYTHON:-}" ]; then environment peer tools/peer/requirements.txt; fi
device=${DEVICES:-cpu} features=()
case $device in
  cpu) ;;
  # Beside, not in the place of, the program for CPUs.
  cuda:[0-9]*) features=(--features cuda --target-dir target/cuda) ;;
  *) echo "DEVICES=$device: write cpu, or one GPU such as cuda:0" >&2; exit 2 ;;
esac
dflow=${DFLOW:-target/release/dflow}
if [ "$device" != cpu ] && [ -z "${DFLOW:-}" ]; then
  cargo build --release --locked "${features[@]}" --bin dflow
  dflow=target/cuda/release/dflow
fi
network=${NETWORK_BENCH:-}
if [ -z "$network" ]; then
  network=$(cargo bench --locked "${features[@]}" --bench network --no-run --profile release --message-format=json |
    "$networks" -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "network":
        print(message["executable"])')
fi

calls=(--rounds 5 --seconds 0.5) runs=(--samples 2 --rounds 5 --minutes 10)
if [ "${1:-}" = full ]; then
  calls=(--rounds 20 --seconds 1) runs=(--samples 8 --rounds 5 --minutes 120)
fi
rm -f target/bench/bench.json
# What the program keeps for a user stays out of it, and is not found from before.
export XDG_CACHE_HOME=$PWD/target/bench/cache
rm -rf "$XDG_CACHE_HOME"
if [ "$device" != cpu ]; then calls+=(--device "$device" --batches 1 8 32); fi
"$networks" tools/bench/bench.py "$network" "${calls[@]}"
if [ "$device" != cpu ]; then
  "$networks" tools/bench/bench.py "$network" "${calls[@]}" --name imagenet128 models/imagenet128.yaml
fi
"$peer" tools/bench/solve.py "$dflow" "${runs[@]}" --device "$device"
if [ "${1:-}" = full ] && [ "$device" = cpu ]; then
  "$networks" tools/bench/adm128.py models/imagenet128.yaml --dflow "$dflow" --threads "$(nproc)"
fi
