#!/usr/bin/env bash
# Does pretraining help on new people? Simulated depth electrodes: pretrained on 20 people without labels, then one, two and
# four seizures of each of ten new people; MVPFormer against itself from scratch, a channel-pooled CNN, a plain transformer.
# Everything that could be tuned stands in conf/ and was fixed before the new people were scored. Tune on other people:
# EXTRA="dataset.id=ieeg_dev dataset.source.seed=21" DATA=data.path=shards/ieeg_dev RUNS=runs/dev.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs/evidence_ieeg}
SEEDS=${SEEDS:-0}
STEPS=${STEPS:-600}           # of pretraining
FEW_STEPS=${FEW_STEPS:-100}   # of fine-tuning, per person and budget
EXTRA=${EXTRA:-}              # further overrides of prep, e.g. for a smoke run
DATA=${DATA:-}                # further overrides of data, e.g. data.path=…
NEW=${NEW:-all}               # people to adapt to, e.g. "[01,04]"; all: the ten of the split
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }

step "prep: simulate 30 people"
# shellcheck disable=SC2086
neurofm prep dataset=ieeg_few_shot $EXTRA

common="data=ieeg_few_shot runs=$RUNS trainer.progress=false overwrite=true $DATA"
for seed in ${SEEDS//,/ }; do
  step "train: without labels, seed $seed"
  # shellcheck disable=SC2086
  neurofm train experiment=ieeg_pretrain $common seed="$seed" name=ieeg/mvpformer/seed"$seed" trainer.max_steps="$STEPS"
  # shellcheck disable=SC2086
  neurofm train experiment=ieeg_pretrain_transformer $common seed="$seed" name=ieeg/token_transformer/seed"$seed" \
    trainer.max_steps="$STEPS"
  # shellcheck disable=SC2086
  neurofm train experiment=ieeg_pooled_cnn $common seed="$seed" name=ieeg/pooled_cnn/seed"$seed"

  step "finetune: every new person, seed $seed"
  for model in mvpformer token_transformer pooled_cnn; do
    adapt="adapt=full"
    [ "$model" = pooled_cnn ] && adapt="adapt=scratch from_scratch=false"
    # shellcheck disable=SC2086
    neurofm finetune experiment=ieeg_few_shot checkpoint="$RUNS/ieeg/$model/seed$seed" held_out="$NEW" \
      $adapt loop.steps="$FEW_STEPS" seed="$seed" overwrite=true $DATA
  done
done

step "evaluate: areas under the adaptation curve, paired over people"
neurofm evaluate benchmark=ieeg_few_shot runs="$RUNS" results="$RUNS" out="$RUNS/report"
step "done"
