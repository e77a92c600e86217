#!/usr/bin/env bash
# Everything CI checks: style, a smoke run of the whole workbook, unit tests, notebooks against their stored outputs.
set -euo pipefail
cd "$(dirname "$0")"
source tools/environment.sh
mula_environment
mula_hold python runs/.tests.lock "these tests"

echo "== style"
python -m ruff check .

echo "== the whole workbook at smoke size, from nothing"
python - <<'END'
import shutil
from mula_lib.files import locked
from workbook.runs import RUNS

with locked(RUNS / ".smoke.lock", "profile smoke"):
    for folder in ("runs/smoke", "runs/notebooks/smoke", "results/smoke"):
        shutil.rmtree(folder, ignore_errors=True)
END
./run_all.sh smoke

echo "== unit tests, tables and notebooks"
exec python -m pytest --nbval-lax --nbval-current-env tests notebooks "$@"
