#!/usr/bin/env bash
# Re-creates the prior of the mini profile: renders the images, trains, writes models/mini-images.yaml and its weights.
# STEPS=n trains another number of steps; PYTHON=python3.12 makes the environment with another interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=target/train
data=$work/mini-images
venv=$work/venv
mkdir -p "$data"

if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv "$venv"
fi
"$venv/bin/pip" install --quiet --requirement tools/train/requirements.txt

if [ ! -f "$data/test_labels.npy" ]; then
    cargo run --release --locked --example export_mini -- "$data"
fi
# A run that was stopped goes on from its checkpoint.
"$venv/bin/python" tools/train/train.py --config mini-images --data "$data" --work "$work/run-mini-images" \
    --steps "${STEPS:-1200}" --export models
"$venv/bin/python" tools/train/sample.py models/mini-images.yaml "$work/mini-images.png"
echo "samples: $work/mini-images.png"
