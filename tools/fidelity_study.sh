#!/usr/bin/env bash
# Does sharpness decide how long a run lives? Adam, sharpness-aware Adam and Adam of the same compute, several training
# seeds each: train, measure errors and sharpness, run until failure, report. Goes on where it was killed.
#   tools/fidelity_study.sh [FOLDER]     with SEEDS, RHO, EPOCHS, JOBS, FRAMES, STUDY_FLAGS, RXMDNN from the environment
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
decks=$root/input/ammonia/fidelity
folder=${1:-$decks/tfail_study}
export rxmdnn=${RXMDNN:-$root/.venv/bin/rxmdnn} frames=${FRAMES:-$root/input/ammonia/revpbe_d3bj.xyz}
export folder decks rho=${RHO:-0.005} epochs=${EPOCHS:-30} OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
jobs=${JOBS:-2}
mkdir -p "$folder/models" "$folder/log"
frozen=$folder/frames.xyz  # the set may grow while the study runs
[ -f "$frozen" ] || { cp "$frames" "$frozen.new" && mv "$frozen.new" "$frozen"; }
export frozen

one() { # ARM SEED: a trained model with its errors and sharpness
    local name=$1_$2 model=$folder/models/$1_$2.safetensors flags=()
    case $1 in
        sam) flags=(--sam "$rho" --epochs "$epochs") ;;
        adam2) flags=(--epochs $((2 * epochs))) ;; # SAM's step costs two gradients
        *) flags=(--epochs "$epochs") ;;
    esac
    [ -f "$model" ] || $rxmdnn train "$decks/train_arm.in" --data "$frozen" --seed "$2" --outDir "$folder/train/$name" \
        --model "$model" "${flags[@]}" > "$folder/log/train_$name" 2>&1
    [ -f "$folder/evaluate_$name.json" ] || $rxmdnn evaluate "$model" "$frozen" --part test \
        --out "$folder/evaluate/$name" --json "$folder/evaluate_$name.json" > "$folder/log/evaluate_$name" 2>&1
    [ -f "$folder/sharpness_$name.json" ] || $rxmdnn sharpness "$model" "$frozen" --part training --frames 16 \
        --landscape 0 0 --draws 40 --out "$folder/sharpness/$name" --json "$folder/sharpness_$name.json" \
        > "$folder/log/sharpness_$name" 2>&1
    echo "$name: trained and measured"
}
export -f one

seeds=${SEEDS:-1 2 3 4 5 6 7 8}
for seed in $seeds; do for arm in adam sam adam2; do echo "$arm $seed"; done; done |
    xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1"'

models=()
for seed in $seeds; do for arm in adam sam adam2; do
    models+=(--model "$folder/models/${arm}_$seed.safetensors" "$arm" "$seed")
done; done
launch=()
if [ "$jobs" -gt 1 ]; then launch=("$(dirname "$rxmdnn")/mpirun" --allow-run-as-root --oversubscribe -np "$jobs"); fi
"${launch[@]}" "$rxmdnn" tfail "$decks/study.in" --outDir "$folder/runs" "${models[@]}" ${STUDY_FLAGS:-}
$rxmdnn tfail report "$folder/runs" --out "$folder/report" --sharpness "$folder"/sharpness_*.json \
    --evaluate "$folder"/evaluate_*.json
