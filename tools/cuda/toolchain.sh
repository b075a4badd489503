#!/usr/bin/env bash
# A CUDA 13.0 compiler from Python wheels and link-time stand-ins for the CUDA libraries, so that the `cuda` feature
# builds on a machine without CUDA and the binary runs with and without a GPU.
# usage: toolchain.sh FOLDER    (git-ignored; x86-64 Linux; prints the exports to use)
set -euo pipefail
folder=${1:?usage: toolchain.sh FOLDER}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
if [ ! -x "$folder/venv/bin/pip" ]; then
    python3 -m venv "$folder/venv"
fi
"$folder/venv/bin/pip" install -q --no-deps \
    nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 \
    nvidia-cuda-cccl==13.0.85 nvidia-cuda-runtime==13.0.96 nvidia-curand==10.4.0.35
cuda=$(echo "$folder"/venv/lib/python3.*/site-packages/nvidia/cu13)
ln -sfn lib "$cuda/lib64"
mkdir -p "$cuda/lib/stubs"
ln -sfn ../libcudart_static.a "$cuda/lib/stubs/libcudart.a"
cudarc=$(cargo metadata --format-version 1 --features cuda --locked |
    python3 -c 'import json,sys,os; print(next(os.path.dirname(p["manifest_path"]) for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
python3 "$here/gen_shim.py" "$cudarc/src" "$folder/shim" a >&2
cp "$folder"/shim/lib*.a "$cuda/lib/stubs/"
echo "export CUDA_HOME='$cuda' PATH='$cuda/bin':\$PATH CUDA_COMPUTE_CAP=90 CUDARC_CUDA_VERSION=13000 CUDAFORGE_THREADS=2"
