#!/usr/bin/env bash
# usage: workers.sh      Solves the same 32 samples with one worker of one core and with two, on an otherwise idle machine
# (a minute), and compares: samples an hour, and the rows bit for bit. DFLOW=… names the program.
set -euo pipefail
cd "$(dirname "$0")/../.."
dflow=${DFLOW:-target/release/dflow}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat > "$dir/workers.yaml" <<'END'
name: workers
dataset: { name: mini-images, limit: 32 }
model: mini-images
tasks: [ { name: inpainting-center, operator: { center_mask: { size: 10 } } } ]
methods: [ dflow: { name: d-flow, stop: [ { evals: 30 } ] } ]
output: replaced
END

# Milliseconds of a run on some devices.
milliseconds() {
  local begin=${EPOCHREALTIME/[.,]/}
  "$dflow" run "$dir/workers.yaml" --quiet --devices "$1" --output "$dir/$1" > /dev/null
  echo $(( (${EPOCHREALTIME/[.,]/} - begin) / 1000 ))
}

one=$(milliseconds cpu:1x1)
two=$(milliseconds cpu:2x1)
"$dflow" verify "$dir/cpu:1x1" --same-as "$dir/cpu:2x1"
awk -v one="$one" -v two="$two" \
  'BEGIN { printf "cpu:1x1 %.1f s, cpu:2x1 %.1f s: %.2f times the samples an hour\n", one / 1000, two / 1000, one / two }'
