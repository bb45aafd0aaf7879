#!/usr/bin/env bash
# Does masked pretraining help on new people? Simulated motor imagery: 20 people without labels, then 2, 5, 10 and 20 trials of
# each hand of ten new people; against the same network from scratch and untrained, EEGNet, CSP and tangent space.
# Everything that could be tuned stands in conf/ and was chosen on other people:
# EXTRA="dataset.id=motor_dev dataset.source.seed=1000" DATA="data.id=motor_dev data.path=shards/motor_dev" RUNS=runs/dev.
# Masked codes (experiment=motor_tokenizer, motor_masked_code) and masked samples (motor_masked_patch) stayed at chance on the
# other people and are not run here (docs/measurements/2026-11-21-masked.md).
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs/evidence_masked}
SEED=${SEED:-0}
EXTRA=${EXTRA:-}        # further overrides of prep
DATA=${DATA:-}          # further overrides of data
BUDGETS=${BUDGETS:-null} # trials of each hand, e.g. [5]; null: 2, 5, 10 and 20
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

step "prep: simulate 30 people"
# shellcheck disable=SC2086
neurofm prep dataset=sim_motor_imagery $EXTRA

step "train: 20 people without labels"
common="runs=$RUNS seed=$SEED trainer.progress=false trainer.validate_every=1000 overwrite=true $DATA"
# shellcheck disable=SC2086
neurofm train experiment=motor_masked_summary $common
# one step at the start of the warm-up: as good as random
# shellcheck disable=SC2086
neurofm train experiment=motor_masked_summary name="motor/untrained-seed$SEED" trainer.max_steps=1 optim.lr_peak=1e-9 $common
# shellcheck disable=SC2086
neurofm train experiment=motor_eegnet $common

step "finetune: every new person"
adapt() { # model, experiment, further overrides
  # shellcheck disable=SC2086
  neurofm finetune held_out=all run_dir="$RUNS/motor/few-$1" experiment="$2" checkpoint="$RUNS/motor/$1-seed$SEED" \
    seed="$SEED" budgets="$BUDGETS" overwrite=true $DATA "${@:3}"
}
adapt masked_summary motor_few_shot_summary
adapt untrained motor_few_shot_summary from_scratch=false 'beside=[]'
adapt eegnet motor_few_shot_eegnet

step "evaluate: paired over people"
neurofm evaluate benchmark=motor_imagery runs="$RUNS" results="$RUNS" out="$RUNS/report"
step "done"
