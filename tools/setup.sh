#!/usr/bin/env bash
# Make .venv beside this repository and install rxmdnn with what its demo and tests need, MPI included.
# Run again, it does nothing unless setup.py or the constraints changed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/.installed
want=$(cat setup.py tools/constraints.txt | cksum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ]; then
    echo "Setting up .venv (about a minute)"
    ${PYTHON:-python3} -m venv .venv
    # A system MPI is used where there is one; otherwise MPI comes as a wheel.
    extras=label,fidelity,test,docs,cuda-test
    if ! command -v mpirun >/dev/null 2>&1; then extras=mpi,$extras; fi
    pins=tools/constraints.txt
    if .venv/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
        # Some pinned releases want Python 3.11: on 3.10 pip chooses, but for torch.
        pins=.venv/constraints.txt
        grep '^torch==' tools/constraints.txt > "$pins"
    fi
    pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check -c "$pins")
    "${pip[@]}" torch
    "${pip[@]}" -e ".[$extras]"
    echo "$want" > "$stamp"
fi
