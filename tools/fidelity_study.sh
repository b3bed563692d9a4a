#!/usr/bin/env bash
# Does sharpness decide how long a run lives? Adam, sharpness-aware Adam and Adam of the same compute, several training
# seeds each, and Adam of fewer weights: train, measure errors and sharpness, run until failure, report. Run it again
# where it was killed: it goes on.
#   tools/fidelity_study.sh [FOLDER]     with SEEDS, FEWER (seeds of the small ones), RHO, EPOCHS, JOBS, FRAMES,
#                                        STUDY_FLAGS, RXMDNN from the environment
{ # read whole before it begins, so that the file may change while the study runs
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
decks=$root/input/ammonia/fidelity
folder=${1:-$decks/tfail_study}
mkdir -p "$folder/models" "$folder/log"
folder=$(cd "$folder" && pwd)
export rxmdnn=${RXMDNN:-$root/.venv/bin/rxmdnn} frames=${FRAMES:-$root/input/ammonia/revpbe_d3bj.xyz}
export folder decks rho=${RHO:-0.05} epochs=${EPOCHS:-16} OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
jobs=${JOBS:-2}
once() { if [ -f "$1" ]; then cat > /dev/null; else cat > "$1.new" && mv "$1.new" "$1"; fi; }
once "$folder/frames.xyz" < "$frames" # the set and the decks may change while the study runs
for deck in train_arm study; do sed "s#\.\./#$decks/../#" "$decks/$deck.in" | once "$folder/$deck.in"; done

say() { echo "$(date -u +%H:%M:%S) $*"; }

one() { # ARM SEED: a trained model with its errors and sharpness; each file appears when it is whole
    local name=$1_$2 model=$folder/models/$1_$2.safetensors flags=(--epochs "$epochs")
    case $1 in
        sam) flags+=(--sam "$rho") ;;
        adam2) flags=(--epochs $((2 * epochs))) ;; # SAM's step costs two gradients
        small) flags+=(--network 1 1 16 4 --mlp 16 1 8) ;;
    esac
    if [ ! -f "$folder/train_$name.json" ]; then
        $rxmdnn train "$folder/train_arm.in" --data "$folder/frames.xyz" --seed "$2" --outDir "$folder/train/$name" \
            --model "$model" --json "$folder/train_$name.part" "${flags[@]}" > "$folder/log/train_$name" 2>&1
        mv "$folder/train_$name.part" "$folder/train_$name.json"
    fi
    if [ ! -f "$folder/sharpness_$name.json" ]; then
        $rxmdnn sharpness "$model" "$folder/frames.xyz" --part training --loss 1 20 --frames 12 --draws 12 --starts 1 \
            --climb-steps 4 --runs 1 --steps 14 --probes 2 --landscape 0 0 --out "$folder/sharpness/$name" \
            --json "$folder/sharpness_$name.part" > "$folder/log/sharpness_$name" 2>&1
        mv "$folder/sharpness_$name.part" "$folder/sharpness_$name.json"
    fi
    say "$name: trained and measured ($(ls "$folder"/sharpness_*.json | wc -l) of $total)"
}
export -f one say

todo=()
for seed in ${SEEDS:-1 2 3 4 5 6 7 8}; do for arm in adam sam adam2; do todo+=("$arm $seed"); done; done
for seed in ${FEWER-1 2 3 4}; do todo+=("small $seed"); done
export total=${#todo[@]}
say "$total models, $jobs at a time"
# shellcheck disable=SC2016
printf '%s\n' "${todo[@]}" | xargs -P "$jobs" -L 1 bash -eEc \
    'trap "say $0 $1 failed, see $folder/log" ERR; one "$0" "$1"'

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
( while sleep 60; do say "$(tail -qn +2 "$folder/runs/results.csv" | wc -l) runs done"; done ) 2> /dev/null &
ticker=$!
trap 'kill $ticker 2> /dev/null || true' EXIT
# shellcheck disable=SC2086
"${launch[@]}" "$rxmdnn" tfail "$folder/study.in" --outDir "$folder/runs" "${models[@]}" ${STUDY_FLAGS:-}
say "report"
$rxmdnn tfail report "$folder/runs" --out "$folder/report" --sharpness "$folder"/sharpness_*.json \
    --evaluate "$folder"/train_*.json "${apart[@]}" | tee "$folder/report.txt"
mkdir -p "$folder/tables" # as tools/results/ wants them
for table in cells models quantities correlations; do
    cp "$folder/report/$table.csv" "$folder/tables/tfail_study_$table.csv"
done
cp "$folder/runs/results.csv" "$folder/tables/tfail_study_runs.csv"
say "done: $folder/report, $folder/tables"
exit
}
