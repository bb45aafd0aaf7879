#!/usr/bin/env bash
# The full grid: seven people, four budgets, three seeds. One to two hours on two CPU cores.
set -euo pipefail
cd "$(dirname "$0")"
RUNS=runs/results PEOPLE=101309,102311,102816,131217,211619,213522,377451 BUDGETS='[50,100,200,400]' SEEDS=0,1,2 \
  TASKS=hcp7,hcp7_next MEG_FOLDS=5 \
  BENCHMARKS=hcp7,hcp7_next,meg_hmd bash demo.sh
