#!/usr/bin/env bash
# Every figure of docs/measurements/2026-11-21-retrieval.md, part by part: bash scripts/evidence_retrieval.sh within|new|speech|grasshopper|meg|fmri|native
# What is finished is not run again. One thread; the whole takes some hours.
set -euo pipefail
export OMP_NUM_THREADS=1
train() { # name, then overrides
  [ -e "runs/$1/finished.json" ] || neurofm train name="$1" trainer.progress=false overwrite=true "${@:2}"
}
score() { # benchmark, folder of runs, folder of the report in it, then overrides
  neurofm evaluate benchmark="$1" runs="$2" results="$2" out="$2/$3" "${@:4}"
}
whole=+benchmark.parts.0.resolved=false # whole trials, no accuracy over time within them
prepared() { [ -e "shards/$1/dataset.json" ] || neurofm prep dataset="$1" "${@:2}"; }

case "$1" in
within) # NICE within each of ten people, three seeds for four of them; for two also with the stimulus's side as it is
  prepared sim_image_eeg
  for who in 01 02 03 04 05 06 07 08 09 10; do train within/sim_image_eeg/$who-seed0 experiment=sim_image_eeg data.split.subject=$who; done
  for who in 01 02 03 04; do
    for seed in 1 2; do train within/sim_image_eeg/$who-seed$seed experiment=sim_image_eeg data.split.subject=$who seed=$seed; done
  done
  score sim_image_eeg runs/within report $whole
  for who in 05 06; do train within_plain/sim_image_eeg/$who-seed0 experiment=sim_image_eeg data.split.subject=$who objective.stimulus_head=null; done
  score sim_image_eeg runs/within_plain report $whole
  ;;
new) # people nobody was trained on: mean responses taken off; nine others
  prepared sim_image_eeg
  centre='data.transforms=[{name: mvnn, centre: true}]'
  for who in 01 06 07 08; do
    train new/sim_image_eeg/$who-seed0 experiment=sim_image_eeg held_out=$who "$centre"
  done
  for seed in 1 2; do train new/sim_image_eeg/01-seed$seed experiment=sim_image_eeg held_out=01 "$centre" seed=$seed; done
  score sim_image_eeg runs/new report $whole
  ;;
speech) # ten passages in turn, three lengths
  prepared naplib_speech
  for task in speech_500ms speech_1s speech_3s; do
    for fold in 0 1 2 3 4 5 6 7 8 9; do
      train speech/naplib_speech/$task-fold$fold experiment=naplib_speech task=$task data.split.fold=$fold
    done
    for centred in false true; do
      score naplib_speech runs/speech $task-$centred $whole benchmark.parts.0.task=$task benchmark.parts.0.centred=$centred
    done
  done
  ;;
grasshopper) # two sounds, five stretches of each in turn; how long to train is chosen on two others of the training part
  prepared grasshopper
  for sound in 1 2; do
    for fold in 0 1 2 3 4; do
      one="experiment=grasshopper data.select.run=$sound data.split.fold=$fold"
      for after in 2 3; do
        # shellcheck disable=SC2086
        train hopper_steps$sound/grasshopper/fold$fold-after$after $one data.split.validation_after=$after trainer.max_steps=120 trainer.validate_every=10
      done
      best=$(grep -h '"best/step"' runs/hopper_steps$sound/grasshopper/fold$fold-after?/finished.json | awk -F'[:,]' '{ n += $2 } END { printf "%d", n / NR + 0.5 }')
      # shellcheck disable=SC2086
      train hopper$sound/grasshopper/fold$fold $one trainer.max_steps="$best"
      # ridge beside the network before the first step: what it begins with
      # shellcheck disable=SC2086
      train hopper_linear$sound/grasshopper/fold$fold $one objective.linear=true trainer.max_steps=0
    done
    for runs in hopper$sound hopper_linear$sound; do score grasshopper runs/$runs report; done
  done
  ;;
meg) # what a clamp is for
  prepared sim_meg
  train meg_clamp/sim_meg/nice experiment=sim_meg
  train meg_none/sim_meg/nice experiment=sim_meg 'data.transforms=[{name: robust_scale, per: subject, clamp: null}]'
  for runs in meg_clamp meg_none; do score sim_meg runs/$runs report; done
  ;;
fmri | native) # a new person from 20 to 1,500 trials, in shared coordinates or in native voxels
  data=$([ "$1" = fmri ] && echo sim_fmri || echo sim_fmri_native)
  prepared $data
  train $data/mindeye experiment=$data
  adapt() { # model, name, overrides
    [ -e "runs/$data/$2/done" ] || neurofm finetune checkpoint=runs/$data/$1 loop.tail=none loop.steps=150 overwrite=true run_dir=runs/$data/$2 "${@:3}"
    touch "runs/$data/$2/done"
  }
  adapt mindeye mean adapt=subject_layer loop.lr_peak=1e-4 from_scratch=false
  adapt mindeye reset adapt=subject_layer adapt.start=reset loop.lr_peak=1e-3 from_scratch=false
  adapt mindeye full adapt=full adapt.start=mean loop.lr_peak=1e-3 from_scratch=true
  if [ "$1" = native ]; then
    # MindBridge with its adaptive pooling, at the size of these data, and its reset-tuning
    train $data/mindbridge experiment=$data model=mindbridge model.n_pooled=128 model.dim=96 model.n_blocks=1 model.bottleneck=32 \
      model.dropout=0.0 model.embedder_dropout=0.1 objective=alignment_mindbridge objective.head=linear objective.temperature=0.03 \
      objective.regression_weight=1.0
    adapt mindbridge mindbridge_reset adapt=subject_layer adapt.start=reset loop.lr_peak=1e-3 loop.steps=600 from_scratch=false
  fi
  python scripts/new_person_table.py runs/$data runs/$data
  ;;
*)
  echo "expected within, new, speech, grasshopper, meg, fmri or native"
  exit 1
  ;;
esac
