#!/usr/bin/env bash
# Does masked pretraining help on new people? Simulated motor imagery: tokenizer → masked codes, and masked patches, on 20 people without
# labels, then 2, 5, 10 and 20 trials of each hand of ten new people; against the same networks from scratch, EEGNet, CSP and tangent space.
# Everything that could be tuned stands in conf/ and was chosen on other people:
# EXTRA="dataset.id=motor_dev dataset.source.seed=1000" DATA="data.id=motor_dev data.path=shards/motor_dev" RUNS=runs/dev.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=${PYTHONPATH:-.} # scripts/ imports the checkout
RUNS=${RUNS:-runs/evidence_masked}
SEED=${SEED:-0}
TOKENIZER_STEPS=${TOKENIZER_STEPS:-120} # of stage 1
STEPS=${STEPS:-250}                     # of stage 2
PATCH_STEPS=${PATCH_STEPS:-300}         # of masked patches
EXTRA=${EXTRA:-}                        # further overrides of prep
DATA=${DATA:-}                          # further overrides of data
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

step "prep: simulate 30 people"
# shellcheck disable=SC2086
neurofm prep dataset=sim_motor_imagery $EXTRA

step "train: 20 people without labels"
common="runs=$RUNS seed=$SEED trainer.progress=false trainer.validate_every=1000 overwrite=true $DATA"
# shellcheck disable=SC2086
neurofm train experiment=motor_tokenizer trainer.max_steps="$TOKENIZER_STEPS" $common
# shellcheck disable=SC2086
neurofm train experiment=motor_masked_code objective.tokenizer="$RUNS/motor/tokenizer-seed$SEED" trainer.max_steps="$STEPS" $common
# shellcheck disable=SC2086
neurofm train experiment=motor_masked_patch trainer.max_steps="$PATCH_STEPS" $common
# shellcheck disable=SC2086
neurofm train experiment=motor_eegnet $common

step "finetune: every new person"
for model in masked_code masked_patch eegnet; do
  experiment=motor_few_shot
  [ "$model" = eegnet ] && experiment=motor_few_shot_eegnet
  # shellcheck disable=SC2086
  python scripts/adapt_people.py "$RUNS/motor/few-$model" experiment=$experiment checkpoint="$RUNS/motor/$model-seed$SEED" \
    seed="$SEED" overwrite=true $DATA
done

step "evaluate: paired over people"
neurofm evaluate benchmark=motor_imagery runs="$RUNS" results="$RUNS" out="$RUNS/report"
step "done"
