# Shared by up.sh, down.sh and node.sh: the processes of one sandbox cluster, found by its directory $DIR alone.
# shellcheck shell=bash disable=SC2154

PATH=$PATH:/usr/sbin:/sbin
stop_with() { echo "tools/cluster: $1" >&2; exit "${2:-1}"; }

# The pid in a pid file, if that daemon lives: neither a zombie nor another program that got the number later.
living() {
    local pid stat
    read -r pid 2>/dev/null <"$1" && read -r stat 2>/dev/null <"/proc/$pid/stat" || return 1
    [[ $stat =~ \((munged|slurmctld|slurmd)\)\ [^ZX] ]] && echo "$pid"
}

# slurmstepds of one node (or of all): each holds its node's log open, and outlives its slurmd by design.
stepds() {
    local proc name
    for proc in /proc/[0-9]*; do
        read -r name 2>/dev/null <"$proc/comm" || continue
        [[ $name = slurmstepd ]] || continue
        readlink "$proc"/fd/* 2>/dev/null | grep -q "^$DIR/log/slurmd-${1:-.*}\.log$" && echo "${proc#/proc/}"
    done
}

# All processes below the given ones, from one reading of the process table.
descendants() {
    local -A children=()
    local file parent pid
    while read -r file parent; do
        file=${file#/proc/}
        children[$parent]+=" ${file%%/*}"
    done < <(grep -H '^PPid:' /proc/[0-9]*/status 2>/dev/null | tr -d '\t' | sed 's/:PPid:/ /')
    local queue=("$@")
    while ((${#queue[@]})); do
        pid=${queue[0]} queue=("${queue[@]:1}")
        for pid in ${children[$pid]:-}; do
            echo "$pid"
            queue+=("$pid")
        done
    done
}

# Slurm binds its ports to the address of the machine's own name, whatever that is. Its daemons get the name `localhost`,
# each in a namespace of its own, where the machine permits that; elsewhere the address of the name has to do.
if unshare --uts hostname localhost 2>/dev/null; then
    host=localhost address=127.0.0.1
    named() { unshare --uts bash -c 'hostname localhost && exec "$@"' _ "$@"; }
else
    host=$(uname -n)
    address=$(getent ahostsv4 "$host" | sed -n '1s/ .*//p') || :
    host=${host%%.*}
    named() { "$@"; }
fi

# Starts slurmd of a node. With `readonly PATH` or `full PATH` it lives in a mount namespace of its own, in which that
# directory cannot be written: its tasks, and nobody else, meet EROFS or ENOSPC there.
start_slurmd() {
    local node=$1 fault=${2:-} path=${3:-}
    case $fault in
        "") named slurmd -f "$DIR/slurm.conf" -N "$node" ;;
        readonly)
            named unshare --mount --propagation private bash -euc '
                mount --bind "$1" "$1" && mount -o remount,bind,ro "$1"
                exec slurmd -f "$2" -N "$3"' _ "$path" "$DIR/slurm.conf" "$node"
            ;;
        full)
            mkdir -p "$DIR/full-$node"
            # Reads see the shared directory, writes go to a disk of 16 kB that is filled already.
            named unshare --mount --propagation private bash -euc '
                mount -t tmpfs -o size=16k none "$4"
                mkdir "$4/upper" "$4/work"
                mount -t overlay -o "lowerdir=$1,upperdir=$4/upper,workdir=$4/work" none "$1"
                head -c 65536 /dev/zero >"$4/filler" 2>/dev/null || :
                exec slurmd -f "$2" -N "$3"' _ "$path" "$DIR/slurm.conf" "$node" "$DIR/full-$node"
            ;;
        *) stop_with "no fault '$fault'" 2 ;;
    esac
}
