#!/usr/bin/env bash
# Builds the library and the program with the `cuda` feature; without a CUDA toolkit it first makes one (toolchain.sh).
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! command -v nvcc >/dev/null; then
    eval "$(tools/cuda/toolchain.sh target/cuda-toolchain)"
fi
cargo build --release --locked --features cuda --target-dir target/cuda
target/cuda/release/dflow devices
