#!/usr/bin/env bash
# Does sharpness decide how long a run lives? Adam, sharpness-aware Adam and Adam of the same compute, several training
# seeds each, and Adam of fewer weights: train, measure errors and sharpness, run until failure, report. Run it again
# where it was killed: it goes on.
#   tools/fidelity_study.sh [FOLDER]     with SEEDS, FEWER (seeds of the small ones), RHO, EPOCHS, JOBS, FRAMES,
#                                        STUDY_FLAGS, RXMDNN from the environment
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
decks=$root/input/ammonia/fidelity
folder=${1:-$decks/tfail_study}
mkdir -p "$folder/models" "$folder/log"
folder=$(cd "$folder" && pwd)
export rxmdnn=${RXMDNN:-$root/.venv/bin/rxmdnn} frames=${FRAMES:-$root/input/ammonia/revpbe_d3bj.xyz}
export folder decks rho=${RHO:-0.05} epochs=${EPOCHS:-16} OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
jobs=${JOBS:-2}
frozen=$folder/frames.xyz  # the set may grow while the study runs
[ -f "$frozen" ] || { cp "$frames" "$frozen.new" && mv "$frozen.new" "$frozen"; }
export frozen

say() { echo "$(date -u +%H:%M:%S) $*"; }
export -f say

one() { # ARM SEED: a trained model with its errors and sharpness; each file appears when it is whole
    local name=$1_$2 model=$folder/models/$1_$2.safetensors flags=(--epochs "$epochs")
    case $1 in
        sam) flags+=(--sam "$rho") ;;
        adam2) flags=(--epochs $((2 * epochs))) ;; # SAM's step costs two gradients
        small) flags+=(--network 1 1 16 4 --mlp 16 1 8) ;;
    esac
    [ -f "$folder/train_$name.json" ] || {
        $rxmdnn train "$decks/train_arm.in" --data "$frozen" --seed "$2" --outDir "$folder/train/$name" \
            --model "$model" --json "$folder/train_$name.part" "${flags[@]}" > "$folder/log/train_$name" 2>&1
        mv "$folder/train_$name.part" "$folder/train_$name.json"
    }
    [ -f "$folder/sharpness_$name.json" ] || {
        $rxmdnn sharpness "$model" "$frozen" --part training --loss 1 20 --frames 12 --draws 12 --starts 1 \
            --climb-steps 4 --runs 1 --steps 14 --probes 2 --landscape 0 0 --out "$folder/sharpness/$name" \
            --json "$folder/sharpness_$name.part" > "$folder/log/sharpness_$name" 2>&1
        mv "$folder/sharpness_$name.part" "$folder/sharpness_$name.json"
    }
    say "$name: trained and measured ($(ls "$folder"/sharpness_*.json | wc -l) of $total)"
}
export -f one

todo=()
for seed in ${SEEDS:-1 2 3 4 5 6 7 8}; do for arm in adam sam adam2; do todo+=("$arm $seed"); done; done
for seed in ${FEWER-1 2 3 4}; do todo+=("small $seed"); done
export total=${#todo[@]}
say "$total models, $jobs at a time"
printf '%s\n' "${todo[@]}" | xargs -P "$jobs" -L 1 bash -c 'one "$0" "$1"'

models=() apart=()
for item in "${todo[@]}"; do
    read -r arm seed <<< "$item"
    models+=(--model "$folder/models/${arm}_$seed.safetensors" "$arm" "$seed")
    [ "$arm" != small ] || apart=(--apart small)
done
launch=()
if [ "$jobs" -gt 1 ]; then
    launch=("$(dirname "$rxmdnn")/mpirun")
    [ -x "${launch[0]}" ] || launch=(mpirun)
    launch+=(--allow-run-as-root --oversubscribe -np "$jobs")
fi
say "runs until failure"
( while sleep 60; do say "$(($(wc -l < "$folder/runs/results.csv") - 1)) runs done"; done ) 2> /dev/null &
ticker=$!
trap 'kill $ticker' EXIT
# shellcheck disable=SC2086
"${launch[@]}" "$rxmdnn" tfail "$decks/study.in" --outDir "$folder/runs" "${models[@]}" ${STUDY_FLAGS:-}
say "report"
$rxmdnn tfail report "$folder/runs" --out "$folder/report" --sharpness "$folder"/sharpness_*.json \
    --evaluate "$folder"/train_*.json "${apart[@]}" | tee "$folder/report.txt"
mkdir -p "$folder/tables" # as tools/results/ wants them
for table in cells models quantities correlations; do cp "$folder/report/$table.csv" "$folder/tables/tfail_study_$table.csv"; done
cp "$folder/runs/results.csv" "$folder/tables/tfail_study_runs.csv"
say "done: $folder/report, $folder/tables"
