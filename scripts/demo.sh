#!/usr/bin/env bash
# The whole flow on real recordings in minutes on two CPU cores: two held-out people, three budgets, one seed.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs/demo}
PEOPLE=${PEOPLE:-101309,211619}
BUDGETS=${BUDGETS:-[50,100,200]}
SEEDS=${SEEDS:-0}
MEG_SEEDS=${MEG_SEEDS:-0,1,2}
MEG_FOLDS=${MEG_FOLDS:-0} # cross-validation on the training trials
TASKS=${TASKS:-hcp7} # hcp7: hidden regions; hcp7_next: the next volume
BENCHMARKS=${BENCHMARKS:-demo}
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }
step "prep: raw recordings → shards"
neurofm prep --multirun dataset=hcp7,meg_hmd,ecog_grip

step "train: fMRI of six people, one person left out"
experiments=${TASKS/#hcp7,/hcp7_masked,}
[ "$experiments" = hcp7 ] && experiments=hcp7_masked
neurofm train --multirun experiment="$experiments" runs="$RUNS" held_out="$PEOPLE" seed="$SEEDS" overwrite=true

step "finetune: the person left out, by volumes of calibration"
for task in ${TASKS//,/ }; do
  checkpoints=""
  for person in ${PEOPLE//,/ }; do
    for seed in ${SEEDS//,/ }; do checkpoints+=",$RUNS/$task/$person-seed$seed"; done
  done
  neurofm finetune --multirun experiment=hcp7_new_subject checkpoint="${checkpoints#,}" budgets="$BUDGETS" overwrite=true
done

step "train and finetune: MEG of wrist movements, and two negative controls"
neurofm train --multirun experiment=meg_pretrain runs="$RUNS" seed="$MEG_SEEDS" overwrite=true
checkpoints=""
for seed in ${MEG_SEEDS//,/ }; do checkpoints+=",$RUNS/meg/seed$seed"; done
neurofm finetune --multirun experiment=meg_hmd,meg_control_scp2,meg_control_eyes checkpoint="${checkpoints#,}" \
  cross_validate="$MEG_FOLDS" overwrite=true

step "evaluate: scores, baselines, report"
for benchmark in ${BENCHMARKS//,/ }; do
  neurofm evaluate benchmark="$benchmark" runs="$RUNS" results=runs
done
step "done"
