#!/usr/bin/env bash
# What this project does on this machine's GPU, in at most 8 minutes: equality with the CPU, waits, determinism, speed.
#
#     benchmarks/gpu.sh [RESULTS] [WHEELS]
#
# Needs Python 3.11 or newer with PyTorch 2.11 or newer for CUDA, and no network. Packages that are missing are named,
# and installed from the folder WHEELS if it holds them (pip download PACKAGE, on a machine with a network).
# Writes one json file a step, gpu.json with all of them, and prints one table. A step that takes too long is ended and
# stands in the table as such; the others go on. The status is 1 where a promise is not kept or not measured. STEPS="card training" runs some of them, PYTHON names another Python.
set -u
cd "$(dirname "$0")/.."
results=${1:-results/gpu}
wheels=${2:-}
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/src:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
mkdir -p "$results"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "gpu.sh: needs Python 3.11 or newer; name one with PYTHON=..."
    exit 2
}
missing=$("$python" benchmarks/gpu/needs.py) || exit 2
if [ -n "$missing" ] && [ -n "$wheels" ]; then
    "$python" -m pip install --quiet --no-index --find-links "$wheels" --target "$results/packages" $missing || exit 2
    export PYTHONPATH="$PYTHONPATH:$PWD/$results/packages"
    missing=$("$python" benchmarks/gpu/needs.py)
fi
if [ -n "$missing" ]; then
    echo "gpu.sh: these packages are missing: $missing"
    echo "gpu.sh: give a folder with their wheels as second argument: benchmarks/gpu.sh $results WHEELS"
    exit 2
fi

deadline=$((SECONDS + ${SECONDS_IN_ALL:-470}))
"$python" benchmarks/gpu/steps.py list | while read -r step limit; do
    case " ${STEPS:-$step} " in *" $step "*) ;; *) continue ;; esac
    left=$((deadline - SECONDS))
    rm -f "$results/$step.json"
    if [ "$left" -lt 5 ]; then
        echo "$step: not started, no time left"
        continue
    fi
    [ "$left" -lt "$limit" ] && limit=$left
    echo "== $step (at most $limit s)"
    timeout --kill-after=5 "$limit" "$python" benchmarks/gpu/steps.py run "$step" --out "$results" < /dev/null ||
        echo "$step: ended with status $?"
done
"$python" benchmarks/gpu/steps.py table --out "$results"
