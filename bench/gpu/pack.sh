#!/usr/bin/env bash
# Fill a folder with what bench/gpu/run.sh needs beside a clone, for a machine that can fetch nothing:
# the wheels of wheels.txt, for CPython 3.12 on Linux and x86-64, and the tests' sentences as numbers,
# as such a machine has nothing to decode FLAC with.
#
#   bench/gpu/pack.sh [FOLDER]     .gpu unless named; git ignores that one
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.gpu}
python=.venv/bin/python
mkdir -p "$folder"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.12 --implementation cp --platform manylinux_2_28_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 \
    --dest "$folder" --requirement bench/gpu/wheels.txt
"$python" -m bench.gpu.sentences "$folder"
du -sh "$folder"
