#!/usr/bin/env bash
# Build the documentation site in build/docs, without warnings; open build/docs/index.html in a browser.
# PYTHON: another interpreter that has rxmdnn and the extra 'docs'.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${PYTHON:-}" ]; then
    bash tools/setup.sh
    PYTHON=.venv/bin/python
fi
"$PYTHON" -m sphinx --fail-on-warning --keep-going --fresh-env --quiet docs "${1:-build/docs}"
echo "wrote ${1:-build/docs}/index.html"
