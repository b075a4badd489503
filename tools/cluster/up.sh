#!/usr/bin/env bash
# Starts a real Slurm on loopback of this machine: munged, slurmctld and one slurmd per node, each node with fake GPUs.
#   up.sh DIR [--nodes N] [--gpus N] [--cpus N] [--set KEY=VALUE]...
# `. DIR/env` then points sbatch, squeue and scontrol at it; `down.sh DIR` stops it. Nothing outside of DIR is written,
# no other Slurm or munge on the machine is touched, and every port is bound to 127.0.0.1 (cluster.sh: named).
# --set replaces one line of slurm.conf, such as SlurmdTimeout=30.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
DIR=$(realpath -m "${1:?usage: up.sh DIR [--nodes N] [--gpus N] [--cpus N] [--set KEY=VALUE]...}")
shift
. "$here/cluster.sh"

nodes=3 gpus=2 cpus=8
declare -A replaced=()
while (($#)); do
    (($# > 1)) || stop_with "$1 needs a value" 2
    case $1 in
        --nodes) nodes=$2 ;;
        --gpus) gpus=$2 ;;
        --cpus) cpus=$2 ;;
        --set) replaced[${2%%=*}]=${2#*=} ;;
        *) stop_with "no option '$1'" 2 ;;
    esac
    shift 2
done

[[ $(id -u) = 0 ]] || stop_with "must be run as root: slurmd starts the tasks, and fake GPUs are device nodes"
for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || stop_with "no $program here: run tools/cluster/install.sh"
done
[[ ! -e $DIR/slurm.conf ]] || stop_with "$DIR holds a cluster already: run down.sh on it, and remove it"
# munge.sock below it has to fit into the 108 bytes of a socket's address.
((${#DIR} <= 80)) || stop_with "the path $DIR is longer than 80 characters, too long for a socket below it"

trap '(($? == 0)) || "$here/down.sh" "$DIR"' EXIT
mkdir -p "$DIR"/{munge,state,dev,log,run}
chmod 700 "$DIR/munge"
# Slurm hands out a GPU only if its file is a character device; a second null device will do.
for ((g = 0; g < gpus; g++)); do
    mknod "$DIR/dev/gpu$g" c 1 3 ||
        stop_with "cannot make a device node under $DIR: mknod is not permitted on this machine, and a fake GPU needs one"
done

# The first of N free ports in a row, below the range from which the kernel takes ports by itself.
free_ports() {
    local used base port try
    used=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | sed -n 's/^ *[0-9]*: [0-9A-F]*:\([0-9A-F]*\) .*/\1/p')
    for ((try = 0; try < 100; try++)); do
        base=$((20000 + RANDOM % 12000))
        for ((port = base; port < base + $1; port++)); do
            grep -qx "$(printf %04X "$port")" <<<"$used" && continue 2
        done
        echo "$base"
        return
    done
    stop_with "no $1 free ports in a row between 20000 and 32000"
}
ports=$(free_ports $((nodes + 1)))
[[ -n $address ]] ||
    stop_with "the name of this machine, $(uname -n), has no address (add it to /etc/hosts), and unshare --uts is not permitted"

# Timeouts are shortened for tests; cred_expire is also the wait before a requeued job may start again (default 120 s).
{
    while IFS= read -r line; do
        key=${line%%=*}
        echo "$key=${replaced[$key]-${line#*=}}"
        unset "replaced[$key]"
    done <<CONF
ClusterName=sandbox
SlurmctldHost=$host($address)
SlurmctldPort=$ports
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket=$DIR/run/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$DIR/state
SlurmctldPidFile=$DIR/run/slurmctld.pid
SlurmctldLogFile=$DIR/log/slurmctld.log
SlurmdPidFile=$DIR/run/slurmd-%n.pid
SlurmdSpoolDir=$DIR/spool-%n
SlurmdLogFile=$DIR/log/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true
MpiDefault=none
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$DIR/log/jobcomp.txt
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
JobRequeue=1
SlurmdTimeout=10
SlurmctldTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=3600
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
MaxArraySize=1001
SlurmdParameters=config_overrides
CONF
    for key in "${!replaced[@]}"; do echo "$key=${replaced[$key]}"; done
    for ((n = 1; n <= nodes; n++)); do
        echo "NodeName=node$n NodeHostname=$host NodeAddr=$address Port=$((ports + n)) CPUs=$cpus" \
            "RealMemory=16000 Gres=gpu:fake:$gpus State=UNKNOWN"
    done
    echo "PartitionName=overnight Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=10"
    echo "PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF"
} >"$DIR/slurm.conf"
echo "NodeName=node[1-$nodes] Name=gpu Type=fake File=$DIR/dev/gpu[0-$((gpus - 1))]" >"$DIR/gres.conf"
# Read by slurmd even where no plugin uses cgroups.
printf '%s\n' CgroupPlugin=cgroup/v1 CgroupAutomount=no Constrain{Devices,Cores,RAMSpace}=no >"$DIR/cgroup.conf"
echo "export SLURM_CONF=$DIR/slurm.conf" >"$DIR/env"
. "$DIR/env"

# A munge of its own: own key, own socket.
(umask 077 && head -c 128 /dev/urandom >"$DIR/munge/key")
munged --force --num-threads=2 --origin=127.0.0.1 --key-file="$DIR/munge/key" \
    --socket="$DIR/run/munge.sock" --pid-file="$DIR/run/munged.pid" \
    --log-file="$DIR/log/munged.log" --seed-file="$DIR/munge/seed"
named slurmctld -f "$SLURM_CONF" -c
for ((n = 1; n <= nodes; n++)); do
    mkdir -p "$DIR/spool-node$n"
    start_slurmd "node$n"
done
for ((deadline = SECONDS + 30; SECONDS < deadline; )); do
    if (($(timeout 5 sinfo -h -N -p overnight -t idle -o %N 2>/dev/null | wc -l) == nodes)); then
        sinfo -N -p overnight -o "%N %t %c %G"
        exit 0
    fi
    sleep 0.1
done
timeout 5 sinfo -N -l >&2 || :
tail -n 5 "$DIR"/log/*.log >&2
stop_with "the nodes did not come up within 30 s"
