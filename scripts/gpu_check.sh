#!/usr/bin/env bash
# What needs a CUDA device, unattended in under ten minutes: the tests marked `cuda`, then one Markdown table: the
# attention by every road and whole training steps (bfloat16, sizes S and M), tokens/s and share of the measured peak.
#
#   bash scripts/gpu_check.sh            # takes the torch that is there (2.8 or later); installs nothing
#   PYTHON=/path/to/python bash scripts/gpu_check.sh
#   DRY_RUN=1 bash scripts/gpu_check.sh  # no device needed: the tests are collected, the table is made at tiny sizes on a CPU
#
# Needs pytest, PyYAML and the packages of neurofm.nn beside torch. Status: 0 all well; 1 a test or a case failed, or time
# ran out; 0 too, with one sentence, where there is no CUDA device, so that the script can stand in a list of checks for
# any machine (REQUIRE_CUDA=1 makes that 1). TESTS_S and BENCH_S are the seconds that the two parts may take.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
DRY_RUN=${DRY_RUN:-0}
TESTS_S=${TESTS_S:-240}
BENCH_S=${BENCH_S:-270} # no further case is begun after so long; one that is running gets another minute
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

"$PYTHON" -c 'import torch' || { echo "gpu_check: $PYTHON has no torch: set PYTHON to one that has"; exit 1; }
if [ "$DRY_RUN" = 0 ] && ! "$PYTHON" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "gpu_check: no CUDA device here, so nothing was checked."
  exit "${REQUIRE_CUDA:-0}"
fi
for module in pytest yaml; do
  "$PYTHON" -c "import $module" || { echo "gpu_check: $PYTHON has no $module: install it, or set PYTHON"; exit 1; }
done

"$PYTHON" - <<'PY'
import datetime
import torch
print("date  ", datetime.date.today().isoformat())
if torch.cuda.is_available():
    print("device", torch.cuda.get_device_name(), "| capability %d.%d" % torch.cuda.get_device_capability())
print("torch ", torch.__version__, "| CUDA", torch.version.cuda)
PY

status=0
# only the files that hold such tests: others may need packages that a GPU image does not have
mapfile -t files < <(grep -rl --include='test_*.py' -E 'mark\.cuda' tests | sort)
[ ${#files[@]} -gt 0 ] || { echo "gpu_check: no test is marked cuda"; exit 1; }
collect=() bench=()
[ "$DRY_RUN" = 0 ] || { collect=(--collect-only -q) bench=(--dry-run); }
timeout "$TESTS_S" "$PYTHON" -m pytest --noconftest -p no:cacheprovider -m cuda -rs "${collect[@]}" "${files[@]}"
tests=$?
[ $tests = 0 ] || status=1
[ $tests != 124 ] || echo "gpu_check: the tests took longer than $TESTS_S s"
echo
timeout $((BENCH_S + 60)) "$PYTHON" scripts/bench/gpu.py --limit-s "$BENCH_S" "${bench[@]}" || status=1
echo
[ $status = 0 ] && echo "gpu_check: all well" || echo "gpu_check: something failed, see above"
exit $status
