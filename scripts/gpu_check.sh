#!/usr/bin/env bash
# What needs a CUDA device: the tests marked `cuda`, then the attention's table (bfloat16, layers of S and M).
#
#   bash scripts/gpu_check.sh            # takes the torch that is there (2.8 or later); installs nothing
#   PYTHON=/path/to/python bash scripts/gpu_check.sh
#
# Needs pytest and the packages of neurofm.nn beside torch. Status: 0 all well; 1 a test or the table failed; 0 too,
# with one sentence, where there is no CUDA device, so that the script can stand in a list of checks for any machine
# (REQUIRE_CUDA=1 makes that 1).
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

"$PYTHON" -c 'import torch' || { echo "gpu_check: $PYTHON has no torch: set PYTHON to one that has"; exit 1; }
if ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu_check: no CUDA device here, so nothing was checked."
  exit "${REQUIRE_CUDA:-0}"
fi
"$PYTHON" -c 'import pytest' || { echo "gpu_check: $PYTHON has no pytest: the tests cannot run"; exit 1; }

"$PYTHON" - <<'EOF'
import datetime
import torch
print("date  ", datetime.date.today().isoformat())
print("device", torch.cuda.get_device_name(), "| capability %d.%d" % torch.cuda.get_device_capability())
print("torch ", torch.__version__, "| CUDA", torch.version.cuda)
EOF

status=0
# only the files that hold such tests: others may need packages that a GPU image does not have
mapfile -t files < <(grep -rl --include='test_*.py' -E 'mark\.cuda' tests)
"$PYTHON" -m pytest --noconftest -m cuda -rs "${files[@]}" || status=1
"$PYTHON" scripts/bench/mvpa.py --device cuda || status=1
[ $status = 0 ] && echo "gpu_check: all well" || echo "gpu_check: something failed, see above"
exit $status
