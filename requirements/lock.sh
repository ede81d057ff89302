#!/usr/bin/env bash
# Pin what pyproject.toml asks for, with hashes, for every platform and Python we support.
#   run.txt  the first run of a user: platform, CPU worker, starter and faster-whisper. No torch.
#   dev.txt  the same, and what the tests need.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command requirements/lock.sh \
        --extra media --extra pocketsphinx --extra faster-whisper --extra embedded "$@"
}
compile --output-file requirements/run.txt
compile --group dev --constraint requirements/run.txt --output-file requirements/dev.txt
