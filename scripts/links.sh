#!/usr/bin/env bash
# Directed links of simulated networks: one small MVPFormer per network, its attention and influence beside the oracle and
# the baselines, and a report. About six minutes on one quiet thread. Simulator, oracle, baselines and the experiment were
# fixed before the first model was scored.
set -euo pipefail
cd "$(dirname "$0")/.."
RUNS=${RUNS:-runs}
SEEDS=${SEEDS:-0}
NETWORKS=${NETWORKS:-01,02,03,04}
quoted="'${NETWORKS//,/\',\'}'" # or Hydra reads numbers
neurofm prep dataset=sim_links
neurofm train --multirun experiment=sim_links data.select.subject="$quoted" seed="$SEEDS" runs="$RUNS" overwrite=true \
  trainer.progress=false trainer.validate_every=400 trainer.count_flops=false
python scripts/links.py shards/sim_links --runs "$RUNS/links" --out "$RUNS/report-links"
