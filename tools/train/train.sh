#!/usr/bin/env bash
# Re-creates the shipped networks: models/*.yaml, models/features/*.yaml, models/classifiers/*.yaml and their weights. mini-images always, cifar10
# and the molecule networks if DATA names the folder that holds cifar10_jpeg/ or qm9_test_split/. A run that was stopped
# goes on from its checkpoint.
#
# environment: DATA; STEPS=n trains another number of steps; PYTHON=python3.12 makes the environment with another
# interpreter
set -euo pipefail
cd "$(dirname "$0")/../.."

work=target/train
venv=$work/venv
[ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
"$venv/bin/pip" install --quiet --requirement tools/train/requirements.txt

# prior NAME STEPS OPTION...
prior() {
    local name=$1 steps=${STEPS:-$2}; shift 2
    "$venv/bin/python" tools/train/train.py --config "$name" --data "$work/$name" --work "$work/run-$name" \
        --steps "$steps" --export models "$@"
    "$venv/bin/python" tools/train/sample.py "models/$name.yaml" "$work/$name.png"
    echo "samples: $work/$name.png"
}

# export NAME SPLIT OPTION...
export_images() {
    local name=$1 split=$2; shift 2
    [ -f "$work/$name/${split}_labels.npy" ] ||
        target/release/dflow data export "$name" --split "$split" "$work/$name" "$@"
}

# More procedural images than the training split holds: the stream has no end.
export_images mini-images train --count 40000
export_images mini-images test
prior mini-images 1200

# features NAME DATASET EPOCHS OPTION...
features() {
    local name=$1 dataset=$2 epochs=${EPOCHS:-$3}; shift 3
    "$venv/bin/python" tools/train/train_features.py --config "$name" --data "$work/$dataset" \
        --work "$work/run-features-$name" --epochs "$epochs" --export models "$@"
}
features mini mini-images 8

# molecules TASK STEPS OPTION...
molecules() {
    local task=$1 steps=${STEPS:-$2}; shift 2
    "$venv/bin/python" tools/train/train_molecules.py --task "$task" --data "$DATA" --work "$work/run-molecules" \
        --steps "$steps" --export models "$@"
}

if [ -d "${DATA:-}/cifar10_jpeg" ]; then
    export_images cifar10 train --data "$DATA"
    export_images cifar10 test --data "$DATA"
    prior cifar10 3600 --flip
    features cifar10 cifar10 4 --flip
fi

if [ -d "${DATA:-}/qm9_test_split" ]; then
    for property in alpha gap homo lumo mu cv; do
        molecules "$property" 4800 --batch 32 --no-bf16
    done
    molecules prior 6000 --distance-unit 30 --warmup 200
    "$venv/bin/python" tools/train/sample_molecules.py models/mini-molecules.yaml --data "$DATA"
fi
