#!/usr/bin/env bash
# Three pretrained families under four strategies each, on seven new people's fMRI (hidden regions) and one person's MEG, beside the
# classical bars: one table (benchmark=adaptation_families). Each person is left out of pretraining in turn.
# About half an hour on one quiet thread with one seed. A small try: PEOPLE=101309 MEG_SEEDS=0 STEPS=5 MEG_STEPS=5 BUDGETS='[100]'
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs/evidence_adaptation}
PEOPLE=${PEOPLE:-101309,102311,102816,131217,211619,213522,377451}
SEEDS=${SEEDS:-0}         # of pretraining and adaptation on fMRI
MEG_SEEDS=${MEG_SEEDS:-0,1}
BUDGETS=${BUDGETS:-[100,400]} # volumes
STEPS=${STEPS:-100}           # of pretraining on fMRI, each stage
MEG_STEPS=${MEG_STEPS:-400}   # of pretraining on MEG and EEG, each stage
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }
quiet="overwrite=true trainer.progress=false trainer.count_flops=false"
fmri="held_out=$PEOPLE seed=$SEEDS model.patch_samples=8 trainer.max_steps=$STEPS trainer.validate_every=$STEPS
  trainer.checkpoint_every=$STEPS $quiet"
meg="seed=$MEG_SEEDS trainer.max_steps=$MEG_STEPS trainer.validate_every=$MEG_STEPS trainer.checkpoint_every=$MEG_STEPS $quiet"

# checkpoints of FOLDER whose names begin so: one per person and seed, joined by commas
fmri_checkpoints() {
  local found=""
  for person in ${PEOPLE//,/ }; do for seed in ${SEEDS//,/ }; do found+=",$RUNS/$1/hcp7/$2$person-seed$seed"; done; done
  echo "${found#,}"
}
meg_checkpoints() {
  local found=""
  for seed in ${MEG_SEEDS//,/ }; do found+=",$RUNS/$1/meg/$2seed$seed"; done
  echo "${found#,}"
}

step "prep"
neurofm prep --multirun dataset=hcp7,meg_hmd

step "train: fMRI of six people, one person left out"
# shellcheck disable=SC2086
{
  neurofm train --multirun experiment=hcp7_masked objective.skip=null runs="$RUNS/mvpformer" $fmri
  neurofm train --multirun experiment=hcp7_tokenizer runs="$RUNS/tokenizers" $fmri
  neurofm train --multirun experiment=hcp7_masked_code runs="$RUNS/codes" \
    "objective.tokenizer=$RUNS/tokenizers/hcp7/tokenizer-\${held_out}-seed\${seed}" $fmri
  neurofm train --multirun experiment=hcp7_masked_cbramod runs="$RUNS/patches" $fmri
}

step "train: MEG and EEG, official training trials"
# shellcheck disable=SC2086
{
  neurofm train --multirun experiment=meg_pretrain runs="$RUNS/mvpformer" $meg
  neurofm train --multirun experiment=meg_tokenizer runs="$RUNS/tokenizers" $meg
  neurofm train --multirun experiment=meg_masked_code runs="$RUNS/codes" \
    "objective.tokenizer=$RUNS/tokenizers/meg/tokenizer-seed\${seed}" $meg
  neurofm train --multirun experiment=meg_masked_patch runs="$RUNS/patches" $meg
}

step "finetune: the person left out, by volumes of calibration"
fmri_adapt="experiment=hcp7_adapt adapt=full budgets=$BUDGETS overwrite=true"
# shellcheck disable=SC2086
{
  neurofm finetune --multirun $fmri_adapt beside='[probe,lora,norm]' checkpoint="$(fmri_checkpoints mvpformer '')"
  neurofm finetune --multirun $fmri_adapt beside='[probe,lora,norm]' checkpoint="$(fmri_checkpoints codes masked_code-)"
  neurofm finetune --multirun $fmri_adapt beside='[probe,lora,norm]' checkpoint="$(fmri_checkpoints patches cbramod-)"
}

step "finetune: movement direction, official training trials"
meg_adapt="experiment=meg_hmd adapt=full overwrite=true"
# shellcheck disable=SC2086
{
  neurofm finetune --multirun $meg_adapt beside='[probe,lora,norm]' checkpoint="$(meg_checkpoints mvpformer '')"
  neurofm finetune --multirun $meg_adapt beside='[probe,lora,norm]' checkpoint="$(meg_checkpoints codes masked_code-)"
  neurofm finetune --multirun $meg_adapt beside='[probe,lora,norm]' checkpoint="$(meg_checkpoints patches masked_patch-)"
}

step "evaluate: one table, and whether each claim held"
neurofm evaluate benchmark=adaptation_families runs="$RUNS" results=runs out="$RUNS/report"
step "done"
