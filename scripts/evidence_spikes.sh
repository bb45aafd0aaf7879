#!/usr/bin/env bash
# Issue of populations: what models say of simulated circuits and of new sessions, beside classical baselines and oracles.
#   1. sim_lorenz: co-smoothing by ndt, between smoothing and the oracle
#   2. sim_hub: next spike and connectivity by Neuroformer, beside unigrams and the correlogram
#   3. sim_velocity_hard: 20 subjects pretrain a population decoder; ten new ones with 5, 30, 60 and 300 s:
#      new units only, everything, from scratch, ridge
#   4. grasshopper (real): spikes from the sound, with and without the cell's own, and from another sound
# Which parts: PARTS="lorenz hub velocity grasshopper". One core, about 10, 25, 30 and 15 minutes. Everything that could be tuned stands in
# conf/ and here. Tune on people beyond those of the split (dataset.source.n_subjects=40: 31 to 40): another seed would
# name other units alike.
set -euo pipefail
cd "$(dirname "$0")/.."
PARTS=${PARTS:-lorenz hub velocity grasshopper}
RUNS=${RUNS:-runs/evidence_spikes}
SHARDS=${SHARDS:-shards}
SEED=${SEED:-0}
LORENZ=${LORENZ:-}            # further overrides of each training, e.g. trainer.max_steps=1200
HUB=${HUB:-}
VELOCITY=${VELOCITY:-}
NEW=${NEW:-all}               # subjects to adapt to, e.g. "[01,04]"; all: the ten of the split
BUDGETS=${BUDGETS:-"[5s,30s,60s,300s]"}
STEPS=${STEPS:-100}           # of fine-tuning, per subject and budget
started=$SECONDS
step() { printf '\n== %s (%d s)\n' "$1" "$((SECONDS - started))"; }
prep() { [ -f "$SHARDS/$1/dataset.json" ] || neurofm prep dataset="$1" out="$SHARDS/$1"; }
common="runs=$RUNS seed=$SEED trainer.progress=false trainer.count_flops=false overwrite=true"

for part in $PARTS; do
  case $part in
  lorenz)
    step "sim_lorenz: train ndt, score it on the test trials"
    prep sim_lorenz
    # shellcheck disable=SC2086
    neurofm train experiment=sim_lorenz data.path="$SHARDS/sim_lorenz" $common $LORENZ
    neurofm finetune checkpoint="$RUNS/sim_lorenz/ndt-seed$SEED" loop.steps=0 from_scratch=false overwrite=true
    neurofm evaluate benchmark=sim_lorenz_ndt runs="$RUNS" results="$RUNS/lorenz" out="$RUNS/report_lorenz"
    ;;
  hub)
    step "sim_hub: train neuroformer, read what it knows of the circuit"
    prep sim_hub
    # shellcheck disable=SC2086
    neurofm train experiment=sim_hub data.path="$SHARDS/sim_hub" $common $HUB
    python scripts/hub_connectivity.py "$RUNS/sim_hub/neuroformer-seed$SEED"
    ;;
  grasshopper)
    step "grasshopper: spikes from the sound, five stretches of each sound in turn"
    prep grasshopper
    [ -f "$SHARDS/grasshopper_shifted/dataset.json" ] ||
      neurofm prep dataset=grasshopper dataset.source.shift_s=5 out="$SHARDS/grasshopper_shifted"
    hop() { # name, shards, overrides
      for sound in 1 2; do
        for fold in 0 1 2 3 4; do
          # shellcheck disable=SC2086
          neurofm train experiment=grasshopper_encoding $common name="$1/run$sound-fold$fold" data.path="$SHARDS/$2" \
            data.select.run="$sound" data.split.fold=$fold "${@:3}" >/dev/null
        done
      done
    }
    hop own grasshopper
    hop alone grasshopper model.own_s=0
    hop alone_shifted grasshopper_shifted model.own_s=0
    hop own_shifted grasshopper_shifted
    hop own_5ms grasshopper data.bin_s=0.005 model.stimulus.per_bin=5
    hop alone_5ms grasshopper data.bin_s=0.005 model.stimulus.per_bin=5 model.own_s=0
    python scripts/grasshopper_encoding.py "$RUNS"/{own,alone,own_shifted,alone_shifted,own_5ms,alone_5ms}
    ;;
  velocity)
    step "sim_velocity_hard: pretrain on 20 subjects"
    prep sim_velocity_hard
    data="data=sim_velocity_hard data.path=$SHARDS/sim_velocity_hard"
    # shellcheck disable=SC2086
    neurofm train experiment=sim_velocity_hard data.path="$SHARDS/sim_velocity_hard" $common $VELOCITY
    few="checkpoint=$RUNS/sim_velocity_hard/decoder/seed$SEED $data task=velocity_1s seed=$SEED overwrite=true \
      loop.steps=$STEPS loop.batch_size=16 loop.tail=none"
    step "sim_velocity_hard: new units only"
    # shellcheck disable=SC2086
    neurofm finetune $few held_out="$NEW" suffix='${held_out}' budgets="$BUDGETS" \
      adapt=unit_embedding adapt.prior=known loop.lr_peak=1e-1 loop.prior_strength=0.05 loop.prior_scaled=true \
      from_scratch=false
    step "sim_velocity_hard: everything, and from scratch"
    # shellcheck disable=SC2086
    neurofm finetune $few held_out="$NEW" suffix='${held_out}' budgets="$BUDGETS" adapt=full loop.lr_peak=5e-3
    neurofm evaluate benchmark=sim_velocity_hard runs="$RUNS" results="$RUNS/velocity" out="$RUNS/report_velocity"
    ;;
  *)
    echo "PARTS: '$part' is none of lorenz, hub, velocity, grasshopper" >&2
    exit 1
    ;;
  esac
done
step "done"
