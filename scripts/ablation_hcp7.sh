#!/usr/bin/env bash
# What each part of multivariate parallel attention is worth on seven people's resting fMRI: one row per conf/ablation/.
# The network alone (no closed-form path, which would hide it), trained briefly on six people; two people held out in
# turn, nothing adapted, scored on volumes 330 to 599 of them. The test volumes (600 to 1199) are not read.
# About ten minutes on one quiet thread. A small try: ROWS=full,no_time PEOPLE=101309 STEPS=5
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs/ablation}
PEOPLE=${PEOPLE:-101309,211619}
SEEDS=${SEEDS:-0}
STEPS=${STEPS:-100}
ROWS=${ROWS:-full,no_time,no_channel,coordinates,coordinates_rank,window_0,no_embedding,no_embedding_coordinates}
DATA=${DATA:-} # further overrides of data, e.g. data.path=…
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }
common="held_out=$PEOPLE seed=$SEEDS runs=$RUNS objective.skip=null overwrite=true trainer.max_steps=$STEPS
  trainer.validate_every=$STEPS trainer.checkpoint_every=$STEPS trainer.count_flops=false trainer.progress=false $DATA"

step "prep"
neurofm prep dataset=hcp7
step "hidden regions: train"
# shellcheck disable=SC2086
neurofm train --multirun experiment=hcp7_masked ablation="$ROWS" $common
step "next volume: train"
# shellcheck disable=SC2086
neurofm train --multirun experiment=hcp7_next ablation="$ROWS" objective.residual=true batch_size=4 $common
step "score"
python scripts/ablation_table.py "$RUNS"
step "done"
