#!/usr/bin/env bash
# Everything CI checks: style, a smoke run of the whole workbook, unit tests, notebooks against their stored outputs.
set -euo pipefail
cd "$(dirname "$0")"
source tools/environment.sh
mula_environment

echo "== style"
python -m ruff check .

echo "== the whole workbook at smoke size, from nothing"
# notebooks show what is committed, not what was trained here, and leave it as it is
export MULA_RUNS=$PWD/runs/tests MULA_RESULTS=$PWD/runs/tests/results
rm -rf "$MULA_RUNS"
mkdir -p "$MULA_RUNS"
cp -R results "$MULA_RESULTS"
# as committed, where git knows: after a run on another machine, tables may differ from the README by rounding
git ls-files -z results 2>/dev/null | git checkout-index -zf --stdin --prefix="$MULA_RUNS/" 2>/dev/null || true
rm -rf "$MULA_RESULTS/smoke"
python -m workbook.cli smoke

echo "== unit tests, and notebooks against their stored outputs"
# files side by side, each process with one thread: more threads than cores would wait for each other
export OMP_NUM_THREADS=1
exec python -m pytest -n logical --maxprocesses 4 --dist loadfile --nbval-lax --nbval-current-env tests notebooks "$@"
