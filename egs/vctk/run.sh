#!/usr/bin/env bash
# The whole experiment, from a corpus to a table:   bash egs/vctk/run.sh --stage 0 [--corpus DIR] [...]
#
#   --stage N, --stop-stage N   -1 download VCTK, 0 prepare, 1 corrupt, 2 train, 3 enhance, 4 score, 5 report   (0, 5)
#   --corpus mini|DIR           VCTK 0.92 or 0.80, clean*/ + noisy*/ folders, or a folder per speaker           (mini);
#                               a CSV file or Kaldi data directories; "DIR DIR ...", or --corpus again and
#                               again, for several in one run, each of its own kind
#   --equal-names one|apart     equal speaker names in two corpora: one person, or two                          (one)
#   --data DIR, --exp DIR       where data and results go                              (egs/vctk/data, egs/vctk/exp)
#   --noise FILE                the fixed procedure                                       (egs/vctk/conf/noise.yaml)
#   --split FILE                YAML with lists of speakers: dev: [...], test: [...]                     (by a rule)
#   --subset N                  at most N recordings per speaker                                               (all)
#   --sample-rate HZ            sample rate of the data; other recordings are resampled                      (16000)
#   --experiments "l1 gan ..."  files in recipes/experiments, or anywhere: my/own.yaml
#                                                                      ("l1 gan"; with mini "l1 l1_mrstft gan")
#   --seeds "0 1 ..."                                                                                            (0)
#   --conditions "clean ..."    further tests: clean (no noise is added) and each NAME of conf/noise_NAME.yaml,
#                               for the first seed; "" for none     ("clean zero scale add heavy mixed"; with mini
#                               "", and fewer updates, so that its first table takes minutes)
#   --metrics "wer ..."         judges beside the metrics of every table: dnsmos_ovrl, distill_mos, wer, speaker_ge2e
#                               and others that `gan-denoise score --help` names                              (none)
#   --which last|best           the weights that are tested: the last, or the best on dev                      (last)
#   --external "NAME=DIR ..."   folders of files that other systems enhanced, to be scored and compared        (none)
#   --train-opts "k=v ..."      changes to the experiments, e.g. "precision=bf16 optimizer.lr=1e-3"
#   --nj N                      processes for stages 0, 1, 3 and 4                                       (all cores)
#   --ngpu N                    number of GPUs to train on; 0: one process, on a GPU if there is one             (0)
#   --cmd local|slurm           where stages run; slurm: as jobs, --nj tasks for each of 0, 1, 3, 4           (local)
#   --slurm "key=value,..."     sbatch's options, e.g. "partition=gpu,time=8:00:00,gpus=4,nodes=2"
#
# Every stage can be repeated; a finished one is cheap to run again. Paths are relative to where you are.
[ -n "${BASH_VERSION:-}" ] || { echo "error: this is a script for bash: bash egs/vctk/run.sh" >&2; exit 1; }
set -euo pipefail
unset CDPATH PYTHONSAFEPATH
here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)
root=$(cd "$here/../.." && pwd)
die() { echo "error: $*" >&2; exit 1; }

stage=0 stop_stage=5 corpus='' data=$here/data exp=$here/exp noise='' split='' subset='' sample_rate=''
experiments='l1 gan' which=last external='' seeds=0 conditions='clean zero scale add heavy mixed' metrics=''
train_opts='' nj=$(nproc) ngpu=0 cmd=local slurm='' equal_names=one named=() said=' '
options="stage stop-stage corpus equal-names data exp noise split subset sample-rate experiments which external seeds conditions metrics train-opts nj ngpu cmd slurm"
command="bash egs/vctk/run.sh"
for word in "$@"; do case $word in '' | *[!A-Za-z0-9_./=,:+-]*) command+=" '${word//\'/\'\\\'\'}'" ;; *) command+=" $word" ;; esac; done

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) sed -n '2,/^[^#]/{/^[^#]/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        --*=*) name=${1%%=*} value=${1#*=}; shift ;;
        --*) name=$1; [ $# -ge 2 ] && [[ $2 != --* ]] || die "$name needs a value (--help lists the options)"; value=$2; shift 2 ;;
        *) die "unexpected argument \"$1\": options have the form --option value (--help lists them)" ;;
    esac
    name=${name#--}
    case " $options " in
        *" $name "*) printf -v "${name//-/_}" %s "$value"; said+="$name "; [ "$name" != corpus ] || named+=("$value") ;;
        *) near=$(python3 -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.argv[2:], 1, 0.5))' "$name" $options || true)
            die "unknown option --$name${near:+ (did you mean --$near?)} (--help lists the options)" ;;
    esac
done
for name in stage stop_stage; do [[ ${!name} =~ ^-?[0-9]$ ]] || die "--${name//_/-}: expected a whole number from -1 to 5, found \"${!name}\""; done
[[ $ngpu =~ ^(0|[1-9][0-9]{0,3})$ ]] || die "--ngpu: expected a whole number from 0, found \"$ngpu\""
[ "$stage" -le "$stop_stage" ] && [ "$stage" -le 5 ] && [ "$stop_stage" -ge -1 ] || die "--stage $stage, --stop-stage $stop_stage: there is nothing to do: stages go from -1 to 5"
for name in nj subset sample_rate; do
    [[ ${!name} =~ ^([1-9][0-9]{0,8})?$ ]] || die "--${name//_/-}: expected a whole number from 1, found \"${!name}\""
done
[[ -z $sample_rate || ( $sample_rate -ge 8000 && $sample_rate -le 192000 ) ]] || die "--sample-rate: expected 8000 to 192000 Hz, found $sample_rate"
[ -n "$nj" ] && [ -n "$experiments" ] && [ -n "$seeds" ] && [ -n "$data" ] && [ -n "$exp" ] || die "--nj, --experiments, --seeds, --data and --exp may not be empty"
absolute() { case $1 in '' | /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
case $cmd in local) [ -z "$slurm" ] || die "--slurm: is for --cmd slurm" ;; slurm) ;; *) die "--cmd: expected local or slurm, found \"$cmd\"" ;; esac
data=$(absolute "$data") exp=$(absolute "$exp") noise=$(absolute "$noise") split=$(absolute "$split")
[ -z "$split" ] || [ -f "$split" ] || die "--split: $split: no such file"
corpora=("$corpus")
if [ ${#named[@]} -gt 1 ]; then corpora=("${named[@]}")
elif [[ $corpus == *[[:space:]]* && ! -e $corpus ]]; then read -ra corpora <<<"$corpus"; fi
[[ ${#corpora[@]} -eq 1 || " ${corpora[*]} " != *" mini "* ]] || die "--corpus: mini cannot be combined with other corpora"
for i in "${!corpora[@]}"; do [ "${corpora[i]}" = mini ] || corpora[i]=$(absolute "${corpora[i]}"); done
[[ $said != *" equal-names "* || ${#corpora[@]} -gt 1 || $stage -gt 0 ]] || die "--equal-names: is for several corpora"
[[ $said != *" metrics "* || ( $stage -le 4 && $stop_stage -ge 4 ) ]] || die "--metrics: is for stage 4, which is not among the stages asked for"
case $equal_names in one | apart) ;; *) die "--equal-names: expected one or apart, found \"$equal_names\"" ;; esac
corpus=${corpora[0]}
if [ "$stage" -eq 0 ]; then for dir in "${corpora[@]}"; do case $dir in '' | mini) ;; *) [ -e "$dir" ] || die "$dir: no such corpus folder" ;; esac; done; fi
if [ "$stage" -le 0 ]; then corpus=${corpus:-mini} sample_rate=${sample_rate:-16000}; fi
if [ "$corpus" = mini ]; then corpus=$data/local/mini split=${split:-$here/conf/split_mini.yaml}; fi
mini='' asked=$train_opts
if grep -qsx 'mini: true' "$data/corpus.yaml" ||
    { [ "$stage" -le 0 ] && { [ "$corpus" = "$data/local/mini" ] || { [ ${#corpora[@]} -eq 1 ] && [ -f "$corpus/mini-corpus.txt" ]; }; }; }; then mini=yes; fi
usual=$conditions # with other corpora
if [ -n "$mini" ]; then # for a first look: three trainings of few updates and one test, so that it takes minutes
    train_opts="steps=400 warm_start_steps=300 discriminator_steps=40 ema_decay=0.99 $train_opts"
    [[ $said == *" experiments "* ]] || experiments='l1 l1_mrstft gan'
    [[ $said == *" conditions "* ]] || conditions=''
fi
twice=$(sed -E 's/[[:space:]]+([A-Za-z_][A-Za-z0-9_.]*=)/\n\1/g' <<<"$asked" | sed -n 's/^[[:space:]]*\([A-Za-z_][A-Za-z0-9_.]*\)=.*/\1/p' | sort | uniq -d)
[ -z "$twice" ] || die "--train-opts: $twice is set twice"
names=() files=()
for name in $experiments; do
    case $name in *.yaml) file=$(absolute "$name") ;; *) file=$root/recipes/experiments/$name.yaml ;; esac
    [ -f "$file" ] ||
        die "--experiments: unknown experiment \"$name\" (there are: $(cd "$root/recipes/experiments" && echo *.yaml | sed 's/\.yaml//g'))"
    names+=("$(basename "$file" .yaml)") files+=("$file")
done
case $which in last) weights=model ;; best) weights=model_best ;; *) die "--which: expected last or best, found \"$which\"" ;; esac
guest_names=' ' others=() # NAME=FOLDER of each system from elsewhere, with the folder's whole path
while read -r words; do
    [ -n "$words" ] || continue
    [[ $words == ?*=?* ]] || die "--external: expected NAME=FOLDER, found \"$words\""
    [[ $guest_names != *" ${words%%=*} "* ]] || die "--external: ${words%%=*} is named twice"
    guest_names+="${words%%=*} "
    others+=("${words%%=*}=$(absolute "${words#*=}")")
    [ -d "$(absolute "${words#*=}")" ] || die "--external: ${words#*=}: no such folder"
    [[ " ${names[*]} " != *" ${words%%=*} "* ]] || die "--external: ${words%%=*} is one of --experiments: choose another name"
done < <(sed -E 's/[[:space:]]+([A-Za-z0-9_.-]+=)/\n\1/g; s/^[[:space:]]+|[[:space:]]+$//g' <<<"$external")
for seed in $seeds; do [[ $seed =~ ^(0|[1-9][0-9]*)$ ]] || die "--seeds: expected whole numbers, found \"$seed\""; done
for name in experiments seeds; do # one twice would be two writers of one folder, or one system counted twice
    twice=$(tr -s '[:space:]' '\n' <<<"${!name}" | sort | uniq -d)
    [ -z "$twice" ] || die "--$name: $twice is listed twice"
done
for name in $conditions; do
    [ "$name" = clean ] || [ -f "$here/conf/noise_$name.yaml" ] ||
        die "--conditions: unknown condition \"$name\" (there are: clean$(cd "$here/conf" && echo noise_*.yaml | sed 's/noise_\([a-z0-9_]*\)\.yaml/\1/g; s/^/ /'))"
done

. "$here/path.sh"

# A signal to this script is one to the program that runs; python alone would get it when that has ended
child='' stopped=''
stop() { stopped=$1; [ -z "$child" ] || kill "$child" 2>/dev/null || true; }
for signal in TERM INT HUP; do
    # shellcheck disable=SC2064
    trap "stop $(kill -l $signal)" $signal
done
do_() { # PROGRAM...: as a child that can be stopped; a program that was stopped ends the script with its status
    local status=0
    "$@" & child=$!
    wait "$child" || status=$?
    while kill -0 "$child" 2>/dev/null; do status=0; wait "$child" || status=$?; done
    child=''
    [ -z "$stopped" ] || { [ "$status" -ne 0 ] || status=$((128 + stopped)); exit "$status"; }
    return "$status"
}
# How the stages' programs run; slurm.sh has the same words for jobs
share_() { do_ python "$1" --jobs "$nj" "${@:2}"; }
alone_() { do_ python "$@"; }
train_() {
    local launch=()
    [ "$ngpu" -eq 0 ] || launch=(-m accelerate.commands.launch --num_processes "$ngpu")
    [ "$ngpu" -le 1 ] || launch+=(--multi_gpu)
    do_ python ${launch[@]+"${launch[@]}"} "$@"
}
then_() { :; }
finish_() { :; }
# shellcheck disable=SC1091
if [ "$cmd" = slurm ]; then . "$here/local/slurm.sh"; fi
runs() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
if runs 2 && [ "$cmd" = local ] && [ "$ngpu" -gt 1 ] && [ -z "${ACCELERATE_USE_CPU:-}" ]; then
    gpus=$(python -c 'import torch; print(torch.cuda.device_count())')
    [ "$gpus" -ge "$ngpu" ] || die "--ngpu $ngpu: there are $gpus GPUs here: set --ngpu $gpus, or ACCELERATE_USE_CPU=true"
fi

if runs -1; then [ -n "${corpora[0]}" ] && [ "${corpora[0]}" != mini ] || die "stage -1 downloads VCTK 0.92: name the folder for it with --corpus DIR"; fi
# Settings are separated by blanks before `key=`: gain_db=[-12.0, 6.0] is one
mapfile -t settings < <(sed -E 's/[[:space:]]+([A-Za-z_][A-Za-z0-9_.]*=)/\n\1/g; s/^[[:space:]]+|[[:space:]]+$//g' <<<"$train_opts" | sed '/^$/d')
systems=() first_seeds=() trainings=() incomplete='' # trainings: --run SEED FOLDER FILE of each
for i in "${!names[@]}"; do
    for seed in $seeds; do
        run=$exp/${names[i]}; [ "$seed" = 0 ] || run+=_seed$seed
        systems+=("$run") trainings+=(--run "$seed" "$run" "${files[i]}"); [ "$seed" != "${seeds%% *}" ] || first_seeds+=("$run")
    done
done
if [ "$stage" -eq 5 ] && [[ $said == *" experiments "* || $said == *" seeds "* ]]; then # or the command would name what its figures lack
    for run in "${systems[@]}"; do [ -f "$run/scores.csv" ] || die "$run: has no scores: run stages 2 to 4 for it, or leave it out of --experiments and --seeds"; done
fi
if [ "$stage" -le 2 ]; then # what a stage would refuse after hours
    plan=(${noise:+--noise "$noise"})
    if runs 1; then for name in $conditions; do [ "$name" = clean ] || plan+=(--noise "$here/conf/noise_$name.yaml"); done; fi
    if runs 2; then
        rate=${sample_rate:-$(sed -n 's/^sample_rate: //p' "$data/train/noise.yaml" 2>/dev/null || true)}
        plan+=("${trainings[@]}" ${rate:+--sample-rate "$rate"} ${settings[@]+"${settings[@]}"})
        if [ "$stage" -lt 2 ] || [ ${#systems[@]} -gt 1 ]; then plan+=(--build); fi
        if [ "$cmd" = slurm ]; then plan+=(--side-by-side); fi
    fi
    do_ python "$root/recipes/plan.py" ${plan[@]+"${plan[@]}"}
elif [ -n "$asked" ]; then # or figures of other settings would stand below this command
    do_ python "$root/recipes/plan.py" "${trainings[@]}" "${settings[@]}"
fi

if runs -1; then do_ python "$here/local/download_vctk.py" "$corpus"; fi

prepare=prepare.py from=(${corpus:+--corpus "$corpus"})
if [ ${#corpora[@]} -gt 1 ]; then prepare=combine.py from=(--equal-names "$equal_names"); for dir in "${corpora[@]}"; do from+=(--corpus "$dir"); done; fi
from+=(${split:+--split "$split"} ${subset:+--subset "$subset"} ${sample_rate:+--sample-rate "$sample_rate"})
if runs 0; then
    if [ "$corpus" = "$data/local/mini" ] && [ ! -f "$data/corpus.yaml" ]; then alone_ "$here/local/make_mini.py" --jobs "$nj" "$corpus"; fi
    then_
    share_ "$here/local/$prepare" "${from[@]}" "$data"
    then_
elif [ "$stop_stage" -ge 1 ]; then
    do_ python "$here/local/$prepare" "${from[@]}" --check "$data"
fi

if runs 1; then
    share_ "$here/local/corrupt.py" ${noise:+--noise "$noise"} "$data"/train "$data"/dev "$data"/test
    then_
    # shellcheck disable=SC2086
    [ -z "${conditions// /}" ] || alone_ "$here/local/condition.py" "$data" $conditions
    then_
    for name in $conditions; do
        [ "$name" = clean ] || share_ "$here/local/corrupt.py" --no-audit --noise "$here/conf/noise_$name.yaml" "$data/test_$name"
    done
    then_
elif [ "$stop_stage" -ge 2 ] && [ -n "$noise" ]; then
    do_ python "$here/local/corrupt.py" --noise "$noise" --check "$data"/train "$data"/dev "$data"/test
fi

if [ "$stop_stage" -ge 2 ]; then alone_ "$here/local/same_data.py" --jobs "$nj" "$data" "$exp"; then_; fi

if runs 2; then
    for ((i = 0; i < ${#trainings[@]}; i += 4)); do
        train_ "$root/recipes/train.py" "${trainings[i + 3]}" --data "$data" --exp "${trainings[i + 2]}" --warm-starts "$exp/warm_starts" "seed=${trainings[i + 1]}" ${settings[@]+"${settings[@]}"}
    done
    then_
fi

if runs 3; then
    places=("$data/test" "$exp/oracle_mag" "$exp/oracle_mask")
    for name in $conditions; do places+=("$data/test_$name" "$exp"/oracle_{mag,mask}"/conditions/$name"); done
    share_ "$here/local/oracle.py" "${places[@]}"
    for run in "${systems[@]}"; do
        places=("$data/test" "$run")
        if [[ " ${first_seeds[*]} " == *" $run "* ]]; then
            for name in $conditions; do places+=("$data/test_$name" "$run/conditions/$name"); done
        fi
        share_ "$here/local/enhance.py" "$run/$weights" "${places[@]}"
    done
    [ ${#others[@]} -eq 0 ] || alone_ "$here/local/external.py" "$data/test" "$exp" "${others[@]}"
    then_
elif [ ${#others[@]} -gt 0 ] && [ "$stage" -gt 3 ]; then
    do_ python "$here/local/external.py" --check "$data/test" "$exp" "${others[@]}"
fi

if runs 4; then
    limits=("$exp/noisy" "$exp/oracle_mag" "$exp/oracle_mask") further=() guests=()
    for words in ${others[@]+"${others[@]}"}; do guests+=("$exp/${words%%=*}"); done
    for name in $conditions; do further+=(--then "$data/test_$name" "${limits[@]}" "${first_seeds[@]}"); done
    # 3: all but what cannot be scored
    share_ "$here/local/score.py" --which "$which" ${metrics:+--metrics "$metrics"} "$data/test" "${limits[@]}" "${systems[@]}" ${guests[@]+"${guests[@]}"} ${further[@]+"${further[@]}"} ||
        { status=$?; [ $status -eq 3 ] || exit $status; incomplete=yes; }
    then_
fi

if runs 5; then
    read_from=(); for file in "${files[@]}"; do read_from+=(--experiment "$file"); done
    alone_ "$root/recipes/report.py" --which "$which" --command "$command" --data "$data" "${read_from[@]}" "$exp"
fi
finish_
if runs 5 && [ -n "$mini" ] && [[ $said != *" conditions "* ]]; then
    echo "This was a first look, at one test. For the others too, in minutes: $command --conditions \"$usual\"" >&2
fi
[ -z "$incomplete" ] || die "stage 4: some metrics have no value: the columns <metric>_reason of $exp/*/scores.csv say why"
