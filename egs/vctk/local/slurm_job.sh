#!/usr/bin/env bash
# What a job of slurm.sh runs on its node:   slurm_job.sh THIS_FILE PLACE PROGRAM [ARGUMENT...]
#
# PLACE-<job>[_<task>].status gets the exit status. A training that was asked to stop ends with 75 (saved, come again):
# then the job is queued again. An argument `%` stands for this task's part. On several nodes accelerate's processes
# find each other by Slurm's variables.
set -uo pipefail
if [ "$1" = --step ]; then # one for each node, under srun
    shift
    arguments=()
    for word in "$@"; do
        arguments+=("$word")
        if [ "$word" = accelerate.commands.launch ] && [ "$SLURM_NNODES" -gt 1 ]; then
            first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
            address=$(scontrol show node "$first" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
            arguments+=(--num_machines "$SLURM_NNODES" --machine_rank "$SLURM_NODEID" --main_process_ip "$address")
            arguments+=(--main_process_port $((20000 + SLURM_JOB_ID % 20000)))
        fi
    done
    exec "${arguments[@]}"
fi
self=$1 place=$2
shift 2
place=$place-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
arguments=()
for word in "$@"; do
    if [ "$word" = % ]; then word=$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT; arguments+=("$word" --jobs "${SLURM_CPUS_PER_TASK:-1}"); else arguments+=("$word"); fi
done
rm -f "$place.status"
trap : TERM # the program gets it as well, and says how it ended
[ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
echo "$(date '+%F %T') job $(basename "$place") on $SLURM_JOB_NODELIST${SLURM_RESTART_COUNT:+, start $((SLURM_RESTART_COUNT + 1))}"
srun --nodes="$SLURM_NNODES" --ntasks-per-node=1 --kill-on-bad-exit=1 bash "$self" --step "${arguments[@]}" &
step=$!
wait "$step"
status=$?
while kill -0 "$step" 2>/dev/null; do wait "$step"; status=$?; done
if [ "$status" -eq 75 ]; then
    # What was cancelled must not come back; what was preempted is queued again by Slurm itself
    own=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
    own=${own:-$SLURM_JOB_ID} # not the id alone: an array's is that of one of its tasks as well
    if [ "$(squeue --noheader --jobs="$own" --format=%T)" = RUNNING ]; then scontrol requeue "$own"; fi
    exit 75
fi
echo "$status" >"$place.status"
[ "$status" -ne 3 ] || status=0 # all but what cannot be scored
exit "$status"
