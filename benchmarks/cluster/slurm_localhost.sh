#!/usr/bin/env bash
# A Slurm cluster of two nodes on this machine, for as long as a command runs:
#
#   benchmarks/cluster/slurm_localhost.sh                 the study of slurm_study.py, one job killed
#   benchmarks/cluster/slurm_localhost.sh sinfo           any other command
#
# Needs munge, slurmctld, slurmd and slurm-client. On Debian, as root:
#
#   apt-get install --no-install-recommends munge slurmctld slurmd slurm-client
#
# and, in the environment, pip install -c constraints.txt -e '.[dev,slurm]'. The daemons run as the caller, with files,
# key and sockets of their own in a temporary folder, and listen on the loopback address alone; services of the
# packages need not run. All are stopped and the folder is removed at the end; KEEP=1 leaves the folder (logs).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
export PATH="$root/.venv/bin:$PATH:/usr/sbin:/sbin"
if [ $# -eq 0 ]; then
    set -- python "$root/benchmarks/cluster/slurm_study.py"
fi
for program in munged slurmctld slurmd sbatch; do
    command -v "$program" > /dev/null || { echo "$program is missing; see the head of $0" >&2; exit 2; }
done

folder=$(mktemp -d "${TMPDIR:-/tmp}/tood-slurm.XXXXXX")
chmod 711 "$folder"
mkdir "$folder/log" "$folder/state" "$folder/spool"
touch "$folder"/nvidia{0,1}         # what stands for two GPUs on each node: Slurm counts them, nothing opens them

stop() {
    if [ -s "$folder/slurmctld.pid" ] && scancel --user="$(id -un)" 2> /dev/null; then
        for _ in $(seq 40); do [ -z "$(squeue --noheader 2> /dev/null)" ] && break; sleep 1; done
    fi
    for name in slurmd-toy1 slurmd-toy2 slurmctld munged; do
        [ -s "$folder/$name.pid" ] || continue
        pid=$(cat "$folder/$name.pid")
        kill "$pid" 2> /dev/null || continue
        for _ in $(seq 50); do [ -e "$folder/$name.pid" ] || break; sleep 0.1; done
    done
    [ "${KEEP:-0}" = 1 ] && echo "kept: $folder" || rm -rf "$folder"
}
trap stop EXIT

head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 600 "$folder/munge.key"
munged --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/log/munged.log" --seed-file="$folder/munge.seed"

read -r controller first second < <(python3 - << 'PYTHON'
import socket

sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in sockets))
PYTHON
)
user=$(id -un)
host=$(hostname -s)
# The nodes claim what profiles/slurm asks for (config_overrides), so that its requests are tried as they are.
cat > "$folder/slurm.conf" << CONF
ClusterName=toy
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$controller
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
SlurmUser=$user
SlurmdUser=$user
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=3600
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=toy1 NodeHostname=$host NodeAddr=127.0.0.1 Port=$first CPUs=16 RealMemory=128000 Gres=gpu:2
NodeName=toy2 NodeHostname=$host NodeAddr=127.0.0.1 Port=$second CPUs=16 RealMemory=128000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
echo "Name=gpu File=$folder/nvidia[0-1]" > "$folder/gres.conf"
export SLURM_CONF="$folder/slurm.conf"
# Snakemake's plugin takes SLURM_CONF from the environment of a job's steps, so srun brings its own.
mkdir "$folder/bin"
printf '#!/bin/sh\nSLURM_CONF=%s exec %s "$@"\n' "$SLURM_CONF" "$(command -v srun)" > "$folder/bin/srun"
chmod +x "$folder/bin/srun"
export PATH="$folder/bin:$PATH"

slurmctld -c
slurmd -N toy1
slurmd -N toy2
for _ in $(seq 100); do
    [ "$(sinfo --noheader --Node --states=idle --format=%N 2> /dev/null | wc -l)" = 2 ] && break
    sleep 0.1
done
sinfo --Node
"$@"
