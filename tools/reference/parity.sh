#!/usr/bin/env bash
# Re-creates the golden files of tests/golden/ from pinned public packages, each in a venv, and shows what changed.
#
# usage: tools/reference/parity.sh        environment: VENVS (default .venv-parity), PYTHON (python3),
#        GUIDED_DIFFUSION (a checkout of github.com/openai/guided-diffusion at the commit below; without it the ADM
#        files are left alone), DFLOW_TEST_DATA (the folder of the public data: its gschnet_qm9/samples.npz and
#        qm9_test_split/test.npz are compared too, its lpips/heads_v0.1 are needed for the perceptual networks)
# needs the program: make build
set -euo pipefail
cd "$(dirname "$0")/../.."

venvs=${VENVS:-.venv-parity}
python=${PYTHON:-python3}
guided_diffusion_commit=22e0df8183507e13a7813f8d38d51b072ca1e67c
here=tools/reference
golden=tests/golden

# venv NAME REQUIREMENT...
venv() {
    local name=$1; shift
    [ -x "$venvs/$name/bin/python" ] || "$python" -m venv "$venvs/$name"
    "$venvs/$name/bin/pip" install --quiet "$@"
}

venv current -r $here/requirements.txt
# The paper's era of torch.optim.LBFGS, and of files: torch 2.10 changed the line search.
venv torch-2.9 torch==2.9.1 numpy==2.4.6 safetensors==0.8.0
current=$venvs/current/bin/python
era=$venvs/torch-2.9/bin/python

for version in 1.3.1 1.9.0; do
    [ -d "$venvs/tm/$version" ] ||
        "$venvs/current/bin/pip" install --quiet --no-deps --target "$venvs/tm/$version" torchmetrics==$version
done

$era $here/weights.py $golden/weights
$era $here/lbfgs.py $golden/lbfgs/torch-2.9.1.json
$current $here/lbfgs.py $golden/lbfgs/torch-2.15.json
$era $here/egnn.py $golden/egnn ${DFLOW_TEST_DATA:+--data "$DFLOW_TEST_DATA"}
$current $here/operators.py $golden/operators/operators.json
$current $here/qm9.py splits $golden/qm9/splits.json
$current $here/images.py $golden/images
$current $here/metrics.py "$venvs/tm" $golden/metrics/metrics.json
$current $here/set_metrics.py $golden/set_metrics/set_metrics.json
$current $here/molecules.py golden $golden/molecules
if [ -n "${DFLOW_TEST_DATA:-}" ]; then
    $current $here/perceptual.py "$venvs/tm/1.9.0" $golden/perceptual/perceptual.safetensors \
        --heads "$DFLOW_TEST_DATA/lpips/heads_v0.1"
else
    echo "DFLOW_TEST_DATA is not set (the LPIPS heads): $golden/perceptual is left as it is"
fi
[ ! -e $here/torchdiffeq_golden.py ] || $current $here/torchdiffeq_golden.py
if [ -n "${GUIDED_DIFFUSION:-}" ]; then
    $era $here/adm.py "$GUIDED_DIFFUSION" $guided_diffusion_commit $golden/adm
else
    echo "GUIDED_DIFFUSION is not set: $golden/adm is left as it is"
fi
if [ -n "${DFLOW_TEST_DATA:-}" ]; then
    $current $here/qm9.py statistics "$DFLOW_TEST_DATA/qm9_test_split/test.npz" datasets/qm9-statistics.json
else
    echo "DFLOW_TEST_DATA is not set: datasets/qm9-statistics.json is not compared"
fi

# The manifests are what the published schemas of Kubernetes take; unknown fields are errors.
for version in 1.33.0 1.37.0; do
    "$venvs/current/bin/kubernetes-validate" --strict --kubernetes-version $version $golden/cluster/*.k8s.yaml
done

# Molecules are also compared in bulk, by the program itself.
samples=${DFLOW_TEST_DATA:+$DFLOW_TEST_DATA/gschnet_qm9/samples.npz}
[ -e "$samples" ] || samples=
$current $here/molecules.py compare target/release/dflow ${samples:+"$samples"}

# The last digits of floating-point results depend on the CPU: the tests, not this difference, say if they matter.
git --no-pager diff --stat -- $golden
