#!/usr/bin/env bash
# Everything CI checks: style, a smoke run of the whole workbook, unit tests, notebooks against their stored outputs.
set -euo pipefail
cd "$(dirname "$0")"
source tools/environment.sh
mula_environment

echo "== style"
python -m ruff check .

echo "== the whole workbook at smoke size, from nothing"
rm -rf runs/smoke runs/notebooks/smoke results/smoke
./run_all.sh smoke

echo "== unit tests, tables and notebooks"
exec python -m pytest --nbval-lax --nbval-current-env tests notebooks "$@"
