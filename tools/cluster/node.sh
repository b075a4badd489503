#!/usr/bin/env bash
# A fault on one node of the cluster in DIR: node.sh DIR NODE FAULT
#   crash           power loss: slurmd, its slurmstepds and all processes of their tasks are killed
#   lose-daemon     only slurmd is killed; tasks live on and report by themselves
#   freeze          network lost: slurmd and slurmstepds are stopped, tasks go on unseen
#   readonly PATH   slurmd is started anew where PATH is mounted read-only (tasks of the node have to be over)
#   full PATH       slurmd is started anew where PATH is on a full disk (as above)
#   heal            the node is as before: slurmd goes on or is started anew
# `node.sh DIR controller crash|heal` kills and restarts slurmctld.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage="usage: node.sh DIR NODE crash|lose-daemon|freeze|readonly PATH|full PATH|heal"
DIR=$(realpath -m "${1:?$usage}") node=${2:?$usage} fault=${3:?$usage}
. "$here/cluster.sh"
export SLURM_CONF=$DIR/slurm.conf
[[ -e $SLURM_CONF ]] || stop_with "no cluster in $DIR"
pidfile=$DIR/run/slurmd-$node.pid
[[ $node != controller ]] || pidfile=$DIR/run/slurmctld.pid

# Ends the daemon in an orderly way, so that its port is free again.
end_daemon() {
    local pid try
    pid=$(living "$pidfile") || return 0
    kill "$pid"
    for ((try = 0; try < 100; try++)); do
        living "$pidfile" >/dev/null || return 0
        sleep 0.1
    done
    stop_with "slurmd of $node does not end"
}

# shellcheck disable=SC2046 # lists of pids
case $node/$fault in
    controller/crash) kill -KILL "$(living "$pidfile")" ;;
    controller/heal) living "$pidfile" >/dev/null || named slurmctld -f "$SLURM_CONF" ;;
    */crash)
        steps=$(stepds "$node")
        # One that ended by itself meanwhile is no error.
        kill -KILL $(living "$pidfile") $steps $(descendants $steps) 2>/dev/null || :
        ;;
    */lose-daemon) kill -KILL "$(living "$pidfile")" ;;
    */freeze) kill -STOP "$(living "$pidfile")" $(stepds "$node") ;;
    */readonly | */full)
        path=${4:?$usage}
        end_daemon
        start_slurmd "$node" "$fault" "$(realpath "$path")"
        ;;
    */heal)
        if pid=$(living "$pidfile") && [[ $(cat "/proc/$pid/stat") = *') T '* ]]; then
            kill -CONT "$pid" $(stepds "$node")
        else
            end_daemon
            start_slurmd "$node"
        fi
        ;;
    *) stop_with "no fault '$fault' of '$node'; $usage" 2 ;;
esac
