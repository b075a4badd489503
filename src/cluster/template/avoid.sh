# Nodes that job $1 is to be kept off when it is back in the queue: those of $2, which it was kept off from the beginning,
# this one, and one of those before it. No more, and none at all where no other would remain: a job that is kept off every
# node waits for ever, whatever is mended meanwhile.
nodes_to_avoid() {
    local before list tested
    before=$(scontrol show job "$1" | sed -n 's/^ *.*ExcNodeList=\([^ ]*\).*/\1/p' | head -n 1)
    [[ $before = '(null)' ]] && before=
    before=$(names "$before" | grep -vxF -e "$node" -f <(names "$2") | tail -n 1)
    for list in "${before:+$before,}$node" "$node"; do
        list=${2:+$2,}$list
        tested=$(sbatch --test-only --exclude="$list" "$0" 2>&1)
        [[ $tested = *'node configuration is not available'* ]] || { echo "$list"; return; }
    done
    echo "$2"
}

# The nodes of a list such as node[1-3],node9, one a line.
names() { [[ $1 ]] && scontrol show hostnames "$1"; }
