#!/usr/bin/env bash
# Measure engines and batcher on this machine's GPU, in less than eight minutes, from a bare clone.
#
#   OUT=FOLDER bench/gpu/run.sh            writes FOLDER/gpu.json and FOLDER/gpu.md as it goes
#   OUT=FOLDER bench/gpu/run.sh --dry      the same on a processor with tiny models: a test of this
#
# PYTHON (python3) needs torch, transformers, tokenizers, safetensors and numpy; the rest is taken from
# the folder that bench/gpu/pack.sh has filled (PACK, .gpu unless named), if it is there.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${OUT:?name a folder for the results: OUT=FOLDER bench/gpu/run.sh}"
PYTHON=${PYTHON:-python3}
PACK=${PACK:-.gpu}
if compgen -G "$PACK/*.whl" >/dev/null; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --target "$site" "$PACK"/*.whl
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
# Nothing is fetched, and libraries need not try.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
"$PYTHON" -m bench.gpu --out "$OUT" --pack "$PACK" "$@"
