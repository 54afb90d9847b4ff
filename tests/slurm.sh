#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, on loopback, for tests:   bash tests/slurm.sh start|stop FOLDER
#
# start leaves FOLDER/slurm.conf, which SLURM_CONF shall name; nothing outside FOLDER is written. As root,
# with Debian's slurm-wlm and munge. Ports are free ones, so several clusters can live side by side.
set -euo pipefail
[ $# -eq 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$2"
folder=$(cd "$2" && pwd)
export SLURM_CONF=$folder/slurm.conf

stop() {
    scontrol shutdown >/dev/null 2>&1 || true
    for name in slurmd-n1 slurmd-n2 slurmctld munged; do
        pid=$(cat "$folder/run/$name.pid" 2>/dev/null) || continue
        for _ in $(seq 50); do kill "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    done
}

start() {
    local ports host
    host=$(hostname -s)
    read -ra ports < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(each.getsockname()[1] for each in held))')
    mkdir -p "$folder"/{run,state,spool-n1,spool-n2,log}
    chmod 755 "$folder"
    (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    cat >"$SLURM_CONF" <<END
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket,cred_expire=5
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=200000,batch_sched_delay=0,defer=
MpiDefault=none
ReturnToService=2
KillWait=10
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd-%n.pid
SlurmdSpoolDir=$folder/spool-%n
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd-%n
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[1]} CPUs=2
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=${ports[2]} CPUs=2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=off
END
    sed -i 's/,defer=$//' "$SLURM_CONF"
    munged --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" --pid-file="$folder/run/munged.pid" \
        --log-file="$folder/log/munged" --seed-file="$folder/state/munge.seed" --force
    slurmctld -i
    slurmd -N n1
    slurmd -N n2
    for _ in $(seq 200); do
        [ "$(sinfo -h -o '%T %D' 2>/dev/null)" != "idle 2" ] || return 0
        sleep 0.1
    done
    sinfo >&2 || true
    tail -n 5 "$folder"/log/* >&2
    return 1
}

case $1 in
    start) trap stop ERR; start ;;
    stop) stop ;;
    *) echo "error: start or stop, not $1" >&2; exit 2 ;;
esac
