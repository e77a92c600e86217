#!/usr/bin/env bash
# Regenerates every table and figure: ./run_all.sh [smoke|demo|gpu|paper] [options]; ./run_all.sh --help lists them.
set -euo pipefail
cd "$(dirname "$0")"
source tools/environment.sh
mula_environment
exec python -m workbook.cli "$@"
