#!/usr/bin/env bash
# Stops the cluster that up.sh started in DIR, with all its jobs: down.sh DIR. May be called twice, and after a crash.
# Processes are found by the pid files and the open log files of DIR, never by name.
set -u
here=$(cd "$(dirname "$0")" && pwd)
DIR=$(realpath -m "${1:?usage: down.sh DIR}")
. "$here/cluster.sh"
export SLURM_CONF=$DIR/slurm.conf

# Daemons first: what is killed after them is neither requeued nor reported.
for signal in TERM KILL; do
    for file in "$DIR"/run/{slurmctld,slurmd-*,munged}.pid; do
        pid=$(living "$file") && kill -CONT "$pid" && kill -$signal "$pid"
    done
    for ((try = 0; try < 50; try++)); do
        left=
        for file in "$DIR"/run/*.pid; do left+=$(living "$file"); done
        [[ -n $left ]] || break
        sleep 0.1
    done
done
steps=$(stepds)
# shellcheck disable=SC2086 # lists of pids
[[ -z $steps ]] || kill -KILL $steps $(descendants $steps) 2>/dev/null
rm -f "$DIR"/run/*.pid "$DIR/run/munge.sock" "$DIR/slurm.conf"
exit 0
