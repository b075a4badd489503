#!/usr/bin/env bash
# usage: bench.sh [full]      Compares network calls with PyTorch, which it installs into .venv-bench once
# (BENCH_PYTHON=… names a Python that already has torch).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${BENCH_PYTHON:-}
if [ -z "$python" ]; then
  python=.venv-bench/bin/python
  [ -x "$python" ] || python3 -m venv .venv-bench
  "$python" -c 'import torch' 2>/dev/null || "$python" -m pip install -q -r tools/bench/requirements.txt
fi
bench=$(cargo bench --locked --bench network --no-run --profile release --message-format=json |
  "$python" -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "network":
        print(message["executable"])')
rounds=5
[ "${1:-}" = full ] && rounds=20
"$python" tools/bench/bench.py "$bench" --rounds "$rounds"
