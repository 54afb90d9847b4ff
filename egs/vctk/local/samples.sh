#!/usr/bin/env bash
# Make the page of samples, egs/vctk/examples/index.html, from the models in the package.
#
#   bash egs/vctk/local/samples.sh DATA WORK
#
# DATA: section all's data, as stages 0 and 1 of run.sh make them with --conditions "heavy recorded" and NOISE_DIR
# set. WORK: a folder for what is enhanced on the way.
set -eu
[ $# -eq 2 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd) data=$1 work=$2
utterances=" l1320_122612_0009 l6829_68769_0002 o0003_0051 o3023_0018 p228_001 p314_036 s12_001 s24_002 "
models="box=files
box live=live
l1=l1
l1_mrstft=l1_mrstft
gan=gan
mrd=mrd
pmsqe_l1=pmsqe_l1"

copy() { # SCP FOLDER: those utterances
  mkdir -p "$2"
  while read -r utterance path; do
    case $utterances in *" $utterance "*) cp "$path" "$2/$utterance.wav" ;; esac
  done <"$1"
}

for condition in default heavy recorded; do
  damaged=$data/test_$condition folder=$work/$condition
  [ $condition != default ] || damaged=$data/test
  copy "$data/test/wav.scp" "$folder/clean"
  copy "$damaged/noisy.scp" "$folder/noisy"
  while IFS== read -r name model; do
    gan-denoise enhance --quiet --overwrite --model "$model" "$folder/noisy" "$folder/$name"
  done <<<"$models"
done
python "$here/../../recipes/samples.py" --title "Clean, noisy, enhanced: real speech" \
  --note "$here/examples/ATTRIBUTION.txt" "$here/examples/index.html" "$work"/{default,heavy,recorded}
