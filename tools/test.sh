#!/usr/bin/env bash
# Set up .venv and run every ring of tests that this machine can, under mpirun too; ends with pytest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
.venv/bin/ruff check .
.venv/bin/mypy
.venv/bin/codespell
exec .venv/bin/python -m pytest "$@"
