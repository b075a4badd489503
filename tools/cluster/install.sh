#!/usr/bin/env bash
# Installs the Debian packages of the sandbox cluster where they are missing; starts none of their services.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=
for program in munged slurmctld slurmd sbatch; do command -v $program >/dev/null || missing+=" $program"; done
[[ -n $missing ]] || exit 0
packages="slurmctld slurmd slurm-client munge"
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "tools/cluster: missing here:$missing; as root on Debian: apt-get install $packages" >&2
    exit 1
fi
# Services of packages are started as they are installed, unless this file forbids it; one that is there comes back.
policy=/usr/sbin/policy-rc.d
kept=$(mktemp -d)
restore() {
    rm -f "$policy"
    [[ ! -e $kept/policy-rc.d ]] || mv "$kept/policy-rc.d" "$policy"
    rmdir "$kept"
}
trap restore EXIT
[[ ! -e $policy ]] || mv "$policy" "$kept/policy-rc.d"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod +x "$policy"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $packages
