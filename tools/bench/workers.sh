#!/usr/bin/env bash
# usage: workers.sh [ROUNDS]      Solves the same 32 samples with one worker of one core, with one of two cores and with two
# of one, ROUNDS times in turn (default: 1; a minute each) on an otherwise idle machine, and compares: samples an hour, and the
# rows bit for bit. DFLOW=… names the program, DFLOW_SLOTS=… the samples that a worker solves at a time.
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
  rm -rf "${dir:?}/$1"
  "$dflow" run "$dir/workers.yaml" --quiet --slots "${DFLOW_SLOTS:-auto}" --devices "$1" --output "$dir/$1" > /dev/null
  echo $(( (${EPOCHREALTIME/[.,]/} - begin) / 1000 ))
}

# What is measured of the machine once is none of the comparison.
for devices in cpu:1x1 cpu:1x2; do milliseconds "$devices" > /dev/null; done
for _ in $(seq "${1:-1}"); do
  one=$(milliseconds cpu:1x1)
  wide=$(milliseconds cpu:1x2)
  two=$(milliseconds cpu:2x1)
  awk -v one="$one" -v wide="$wide" -v two="$two" \
    'BEGIN { printf "cpu:1x1 %.1f s, cpu:1x2 %.1f s: %.2f times the samples an hour, cpu:2x1 %.1f s: %.2f times\n",
                    one / 1000, wide / 1000, one / wide, two / 1000, one / two }'
done
for devices in cpu:1x2 cpu:2x1; do "$dflow" verify "$dir/cpu:1x1" --same-as "$dir/$devices"; done
