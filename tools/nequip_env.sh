#!/usr/bin/env bash
# Make a Python environment with nequip, nequip-allegro and rxmdnn, and run the comparison with them in it:
#     bash tools/nequip_env.sh [FOLDER] [arguments of pytest]        (FOLDER: .venv_nequip by default)
# Only the environment is made with:  RXMDNN_NEQUIP_TESTS=0 bash tools/nequip_env.sh FOLDER
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
folder=${1:-$here/.venv_nequip}
[ $# -eq 0 ] || shift
if [ ! -x "$folder/bin/nequip-train" ]; then
    echo "Setting up $folder (some minutes)"
    ${PYTHON:-python3} -m venv "$folder"
    pip=("$folder/bin/python" -m pip install --quiet --disable-pip-version-check)
    "${pip[@]}" "$(grep '^torch==' "$here/tools/constraints.txt")"
    extras=""
    if ! command -v mpirun >/dev/null 2>&1; then extras="[mpi]"; fi
    "${pip[@]}" -e "$here$extras" "pytest>=8" "nequip>=0.17" "nequip-allegro>=0.8.2"
fi
folder="$(cd "$folder" && pwd)"
"$folder/bin/python" -c "from importlib.metadata import version as v; print(*(f'{p} {v(p)}' for p in (
    'nequip', 'nequip-allegro', 'torch', 'rxmdnn')), sep=', ')"
if [ "${RXMDNN_NEQUIP_TESTS:-1}" != 0 ]; then
    cd "$here"
    RXMDNN_NEQUIP_PYTHON="$folder/bin/python" exec "$folder/bin/python" -m pytest tests/validation -m nequip "$@"
fi
