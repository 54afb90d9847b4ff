# Sourced by run.sh for --cmd slurm: the stages as jobs of Slurm, all submitted at once, in steps that wait for each
# other. By sbatch alone: the stages are programs that can be repeated already, so a library that ships Python
# functions to the nodes would have nothing to add.
#
#   share_ PROGRAM ARGUMENT...   an array job whose tasks make --nj parts, and a job that gathers them
#   alone_ PROGRAM ARGUMENT...   one job
#   train_ PROGRAM ARGUMENT...   one job that starts again where it stopped when it was preempted, with --slurm's resources
#   then_                        what follows begins when all jobs so far have succeeded
#   finish_                      wait for all of them, and say what becomes of them
queue_() { squeue --noheader --array --user="$(id -un)" --format='%F %T' 2>/dev/null; }
command -v sbatch >/dev/null || die "--cmd slurm: there is no sbatch here: start it where Slurm's jobs are submitted"
queue_ >/dev/null || die "--cmd slurm: squeue finds no Slurm: start it where jobs are submitted, set SLURM_CONF, or use --cmd local"
slurm_logs=$exp/slurm slurm_options=() slurm_resources=()
while read -r option; do
    case $option in
        '') ;;
        gpus* | gres=* | nodes=* | ntasks* | exclusive*) slurm_resources+=("--$option") ;; # what a training alone needs
        [a-z]*) slurm_options+=("--$option") ;;
        *) die "--slurm: expected KEY=VALUE,KEY=VALUE as sbatch has them, such as partition=gpu,time=8:00:00; found \"$option\"" ;;
    esac
done < <(sed -E 's/,[[:space:]]*([a-z-]+=|exclusive(,|$))/\n\1/g' <<<"$slurm") # a comma may also be within a value
several=' --nodes=([2-9]|[1-9][0-9])'
[[ ! " ${slurm_resources[*]-} " =~ $several || $ngpu -gt 1 ]] ||
    die "--slurm: nodes=... needs --ngpu with the processes of all nodes together"
slurm_all=() slurm_step=() slurm_before='' # ids: of all jobs, of this step's, and of the step's before, joined by colons
declare -A slurm_names=()
slurm_run='' # a folder for exit statuses: this run's alone, since others may be at work, and another cluster counts from 1 again

submit_() { # NAME WAIT_FOR [SBATCH OPTION...] -- PROGRAM ARGUMENT...: sets $id
    local name=$1 before=$2 options=() log
    shift 2
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    [ -n "$slurm_run" ] || { mkdir -p "$slurm_logs" && slurm_run=$(mktemp -d "$slurm_logs/run-XXXXXX"); }
    log=$slurm_logs/$name-%A.log
    case " ${options[*]:-} " in *" --array"*) log=$slurm_logs/$name-%A_%a.log ;; esac
    id=$(sbatch --parsable --requeue --open-mode=append --job-name="$name" --output="$log" --kill-on-invalid-dep=yes \
        ${before:+--dependency=afterok:$before} ${slurm_options[@]+"${slurm_options[@]}"} ${options[@]+"${options[@]}"} \
        "$here/local/slurm_job.sh" "$here/local/slurm_job.sh" "$slurm_run/$name" "$@" 2>"$slurm_run/sbatch.err") || {
        cancel_
        die "--cmd slurm: sbatch refused $name: $(tail -n 1 "$slurm_run/sbatch.err")"
    }
    id=${id%%;*} slurm_all+=("$id") slurm_names[$id]=$name
}
share_() {
    local name
    name=$(basename "$1" .py)
    submit_ "$name" "$slurm_before" --array="1-$nj" -- python "$1" --part "%" "${@:2}"
    submit_ "$name-all" "${slurm_before:+$slurm_before:}$id" -- python "$1" --jobs 1 "${@:2}"
    slurm_step+=("$id")
}
alone_() { submit_ "$(basename "$1" .py)" "$slurm_before" -- python "$@"; slurm_step+=("$id"); }
train_() {
    local launcher=() word name=''
    for word in "$@"; do [ "$name" != --exp ] || break; name=$word; done # the folder of the run
    [ "$ngpu" -eq 0 ] || launcher=(-m accelerate.commands.launch --num_processes "$ngpu")
    [ "$ngpu" -le 1 ] || launcher+=(--multi_gpu)
    # Two minutes before its time is over it is asked to save; then it starts again
    submit_ "train-$(basename "$word")" "$slurm_before" --signal=TERM@120 ${slurm_resources[@]+"${slurm_resources[@]}"} -- \
        python ${launcher[@]+"${launcher[@]}"} "$@"
    slurm_step+=("$id")
}
then_() { [ ${#slurm_step[@]} -eq 0 ] || { slurm_before=$(IFS=:; echo "${slurm_step[*]}"); slurm_step=(); }; }
cancel_() { [ ${#slurm_all[@]} -eq 0 ] || scancel "${slurm_all[@]}" 2>/dev/null || true; }

finish_() {
    [ ${#slurm_all[@]} -gt 0 ] || return 0
    local queue id state failed='' log status ended=()
    declare -A last=()
    echo "slurm: ${#slurm_all[@]} jobs submitted; their logs are in $slurm_logs"
    while :; do
        if [ -n "$stopped" ]; then cancel_; echo "slurm: all jobs are cancelled" >&2; exit $((128 + stopped)); fi
        queue=$(queue_) || { wait_ 5; continue; } # Slurm may be restarting
        local left=''
        for id in "${slurm_all[@]}"; do
            state=$(awk -v id="$id" '$1 == id {n[tolower($2)]++} END {for (s in n) print n[s], s}' <<<"$queue" | sort -k 2 -r | paste -sd,)
            [ -z "$state" ] || left=yes
            state=${state:-ended}
            if [[ $state != "${last[$id]:-}" && ! $state =~ ^[0-9]+\ pending$ ]]; then echo "slurm: ${slurm_names[$id]} ($id): ${state//,/, }"; fi
            last[$id]=$state
            while read -r status; do
                [[ $(cat "$status") == [03] ]] || failed=${failed:-$status}
            done < <(ended_ "$id")
        done
        [ -z "$failed" ] && [ -n "$left" ] || break
        wait_ 2
    done
    if [ -n "$failed" ]; then
        cancel_
        log=$slurm_logs/$(basename "${failed%.status}").log
        die "--cmd slurm: $(basename "${failed%.status}") ended with exit status $(cat "$failed"): $(sed -n 's/^error: //p' "$log" | tail -n 1) ($log)"
    fi
    for id in "${slurm_all[@]}"; do
        for _ in {1..30}; do # a file system may show late what another node has written
            mapfile -t ended < <(ended_ "$id")
            [ ${#ended[@]} -eq 0 ] && [[ $(squeue --noheader --states=all --jobs="$id" --format=%T 2>/dev/null) != *CANCELLED* ]] || break
            wait_ 2
        done
        [ ${#ended[@]} -gt 0 ] || die "--cmd slurm: ${slurm_names[$id]} ($id) was cancelled, or never began: the same command goes on from here"
        ! grep -qx 3 "${ended[@]}" || incomplete=yes
        [ "${slurm_names[$id]}" != report ] || sed 1d "$slurm_logs/report-$id.log" # the tables
    done
    rm -rf "$slurm_run"
    slurm_all=() slurm_step=() slurm_before=''
}
ended_() { # JOB: the files with the exit status of its tasks
    find "$slurm_run" -size +0 \( -name "*-$1.status" -o -name "*-$1_*.status" \) 2>/dev/null
}
wait_() { sleep "$1" & child=$!; wait "$child" || true; child=''; }
