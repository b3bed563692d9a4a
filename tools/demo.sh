#!/usr/bin/env bash
# Set up .venv and run the main job: solid ammonia, 432 atoms, 2 ranks, 1,000 steps of 0.5 fs at constant energy.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
out=demo_out
run=(.venv/bin/rxmdnn run --rxmdin input/ammonia/rxmd.in --outDir "$out" --start structure)
mpirun=.venv/bin/mpirun
[ -x "$mpirun" ] || mpirun=$(command -v mpirun)
# A container often runs as root, on fewer cores than ranks: Open MPI wants to be told that this is meant.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe OMPI_MCA_rmaps_base_oversubscribe=1
"$mpirun" -np 2 "${run[@]}"
.venv/bin/rxmdnn plot "$out"
echo
echo "Files of the run:"
ls -1 "$out" | grep -v '^0.*xyz$' | sed "s|^|  $out/|"
echo "  $out/*.xyz ($(ls "$out" | grep -c 'xyz$') frames)"
