#!/usr/bin/env bash
# Make the models in the package.
#
#   bash recipes/make_box.sh DATA OUT [live|files ...] [key=value ...]
#
# DATA: as stages 0 and 1 of run.sh make it of the corpora (gan_denoise/boxed/CARD.md has the command). NOISE_DIR,
# NOISE2_DIR, SOUNDS_DIR and RIR_DIR name the recordings. Training starts from the models before, recipes/box_start.
# The package holds OUT/files/model, and OUT/live/mean: the mean of what `live` has learnt and of what it was, which
# dev liked better. The same command again goes on where it stopped. `init=null steps=18000` trains from nothing;
# both are in model/ then.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
data=$(realpath "$1") out=$(realpath -m "$2")
shift 2
models=() settings=()
for word in "$@"; do
  case $word in
    live | files) models+=("$word") ;;
    *=*) settings+=("$word") ;;
    *) echo "error: expected live, files or key=value, found $word" >&2; exit 2 ;;
  esac
done
[ ${#models[@]} -gt 0 ] || models=(live files)
for name in NOISE_DIR NOISE2_DIR SOUNDS_DIR RIR_DIR; do
  [ -d "${!name:-}" ] || { echo "error: $name: set it to a folder of recordings (boxed/CARD.md says which)" >&2; exit 1; }
done
cd "$here/.."  # the experiments name box_start from here
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
for model in "${models[@]}"; do
  experiment=boxed
  [ "$model" = live ] || experiment=boxed_files
  python recipes/train.py "recipes/experiments/$experiment.yaml" --data "$data" --exp "$out/$model" \
    ${settings[@]+"${settings[@]}"}
  [ "$model" = live ] || continue
  case " ${settings[*]-} " in *" init="*) continue ;; esac  # which did not start from box_start
  rm -rf "$out/$model/mean"
  python recipes/mean.py "$out/$model/model" "recipes/box_start/$model" "$out/$model/mean"
done
