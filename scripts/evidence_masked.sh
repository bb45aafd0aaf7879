#!/usr/bin/env bash
# Does pretraining without labels help on new people? Simulated motor imagery: 20 people without labels, then 2, 5, 10 and 20
# trials of each hand of ten new people; against the same network from scratch and untrained, EEGNet, CSP and tangent space.
# Beside it, as a question of its own: pretraining with the labels of the 20 people.
# Everything that could be tuned stands in conf/ and was chosen on other people (PEOPLE_SEED=1001 to 1005). The ten people of
# PEOPLE_SEED=2000 were opened once, with bars committed before (docs/measurements/2026-11-21-masked.md).
set -euo pipefail
cd "$(dirname "$0")/.."
PEOPLE_SEED=${PEOPLE_SEED:-2000}
ID=motor_$PEOPLE_SEED
RUNS=${RUNS:-runs/evidence_masked/$ID}
SEED=${SEED:-0}
BUDGETS=${BUDGETS:-null} # trials of each hand, e.g. [5]; null: 2, 5, 10 and 20
DATA="data.id=$ID data.path=shards/$ID"
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

step "prep: simulate 30 people"
neurofm prep dataset=sim_motor_imagery dataset.id="$ID" dataset.source.seed="$PEOPLE_SEED"

step "train: 20 people"
common="runs=$RUNS seed=$SEED trainer.progress=false overwrite=true $DATA"
# shellcheck disable=SC2086
neurofm train experiment=motor_log_covariance $common
# shellcheck disable=SC2086
neurofm train experiment=motor_log_covariance name="motor/untrained-seed$SEED" model.start=random $common
# shellcheck disable=SC2086
neurofm train experiment=motor_log_covariance_taught $common
# shellcheck disable=SC2086
neurofm train experiment=motor_eegnet $common

step "finetune: every new person"
adapt() { # model, experiment, further overrides
  # shellcheck disable=SC2086
  neurofm finetune held_out=all run_dir="$RUNS/motor/few-$1" experiment="$2" checkpoint="$RUNS/motor/$1-seed$SEED" \
    seed="$SEED" budgets="$BUDGETS" overwrite=true $DATA "${@:3}"
}
adapt log_covariance motor_few_shot_log_covariance
adapt untrained motor_few_shot_log_covariance from_scratch=false 'beside=[]'
adapt taught motor_few_shot_log_covariance from_scratch=false
adapt eegnet motor_few_shot_eegnet

step "evaluate: paired over people"
neurofm evaluate benchmark=motor_imagery runs="$RUNS" results="$RUNS" out="$RUNS/report"
step "done"
