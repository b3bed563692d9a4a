#!/usr/bin/env bash
# Everything that waits for a GPU, in one go: tests, sanitizer, benchmarks, a run beside the CPU's. It downloads nothing.
#
#     bash tools/gpu_day.sh                # with .venv (bash tools/setup.sh; pip install ".[gpu]" into it)
#     PYTHON=python3 bash tools/gpu_day.sh # with another environment that has rxmdnn's packages, CuPy and torch with CUDA
#     PARTS="tests bench" bash tools/gpu_day.sh
#
# Results: tools/results/gpu_day.log, bench_kernels_cuda.csv, bench_md_cuda.csv, bench_md_cuda_tf32.csv,
# bench_kernels_cuda.png. Each part runs whatever became of the others; the exit code is the number of parts that failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
parts=${PARTS:-device tests ranks sanitizer bench run}
results=tools/results
log=$results/gpu_day.log
failed=()
export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 RXMDNN_REQUIRE_GPU=1 PYTHONPATH=$PWD
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
mkdir -p "$results"
: > "$log"
# An environment that has the packages but not rxmdnn gets a pointer to this folder.
"$python" -c 'import rxmdnn.kernels' 2> /dev/null ||
    "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --editable . || exit 65

step() { # name, command ...
    local name=$1 start=$SECONDS
    shift
    echo "== $name: $*" | tee -a "$log"
    if "$@" 2>&1 | tee -a "$log"; then
        echo "== $name: good, $((SECONDS - start)) s" | tee -a "$log"
    else
        failed+=("$name")
        echo "== $name: FAILED, $((SECONDS - start)) s" | tee -a "$log"
    fi
}

mpirun=$(dirname "$(command -v "$python")")/mpirun
[ -x "$mpirun" ] || mpirun=$(command -v mpirun || true)

device() {
    nvidia-smi || return 1
    "$python" - <<'END'
import cupy
import torch
from rxmdnn.backend import load
from rxmdnn.models import torch_device
backend = load("cuda")
a = backend.from_host(__import__("numpy").arange(6.0))
t = torch_device.tensor(backend, a)
t *= 2
assert t.is_cuda and float(a[5]) == 10.0, "CuPy and torch do not share memory"
torch_device.join(backend)
b = cupy.ones(1 << 20)
assert int(b.sum()) == 1 << 20 and torch.cuda.memory_allocated() >= b.nbytes, "CuPy does not allocate from torch's pool"
print("cupy", cupy.__version__, "torch", torch.__version__, "runtime", cupy.cuda.runtime.runtimeGetVersion(),
      "driver", cupy.cuda.runtime.driverGetVersion(), cupy.cuda.runtime.getDeviceProperties(0)["name"].decode())
END
}

ranks() { # number
    if [ -z "$mpirun" ]; then echo "no mpirun here"; return 1; fi
    "$mpirun" -np "$1" "$python" -m pytest -q -x -m gpu -p no:cacheprovider tests/parallel/test_device_parallel.py
}

sanitize() { # tool
    compute-sanitizer --tool "$1" --error-exitcode 9 --target-processes all \
        "$python" -m pytest -q -m gpu -p no:cacheprovider tests/kernels/test_kernels.py tests/unit/test_device.py \
        -k "every_kernel and cuda or float32_on_the_device or repulsion_is"
}

run() { # the main job on both backends: their energies; and what backend auto chooses
    local out
    out=$(mktemp -d)
    for backend in cpu cuda auto; do
        "$python" -m rxmdnn run --rxmdin input/ammonia/rxmd.in --ntime_step 100 --pstep 10 --outDir "$out/$backend" \
            --backend $backend || return 1
    done
    grep "backend auto: cuda" "$out/auto/run.log" || return 1
    "$python" - "$out" <<'END'
import sys

import numpy as np

from rxmdnn.io.log import read_energies
cpu, cuda = (read_energies(f"{sys.argv[1]}/{name}") for name in ("cpu", "cuda"))
worst = max(float(np.abs(cpu[name] - cuda[name]).max()) for name in cpu if "second" not in name)
print(f"largest difference between the columns of energies.csv: {worst:.3g}")
sys.exit(worst > 1e-2)
END
}

for part in $parts; do
    case $part in
    device) step device device ;;
    tests)
        step tests "$python" -m pytest -q -m gpu -p no:cacheprovider tests/kernels tests/unit/test_device.py
        ;;
    ranks) for n in 1 2 4; do step "ranks $n" ranks $n; done ;;
    sanitizer)
        if command -v compute-sanitizer > /dev/null; then
            for tool in memcheck racecheck; do step "sanitizer $tool" sanitize $tool; done
        else
            echo "== sanitizer: no compute-sanitizer here" | tee -a "$log"
        fi
        ;;
    bench)
        step "bench kernels" "$python" tools/bench_kernels.py --backend cuda --peers
        rm -f $results/bench_md_cuda.csv
        step "bench tf32" "$python" tools/bench_md.py --backend cuda --precision tf32
        [ -f $results/bench_md_cuda.csv ] && mv $results/bench_md_cuda.csv $results/bench_md_cuda_tf32.csv
        step "bench md" "$python" tools/bench_md.py --backend cuda
        ;;
    run) step run run ;;
    *)
        echo "$part: no such part; device tests ranks sanitizer bench run" >&2
        exit 64
        ;;
    esac
done
echo "== failed: ${#failed[@]}${failed:+: ${failed[*]}}" | tee -a "$log"
exit ${#failed[@]}
