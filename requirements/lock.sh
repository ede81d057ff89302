#!/usr/bin/env bash
# Pin what pyproject.toml asks for, with hashes, for every platform and Python we support.
#   server.txt  the platform's processes, with starter and faster-whisper. No torch.
#   run.txt     the same and the embedded stack: a user's first run.
#   dev.txt     the same and what the tests need. Its torch is in torch.txt: there is one build for
#               CPUs and one for each CUDA, under one version, so that no hash is right for all.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() {
    uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command requirements/lock.sh \
        --extra media --extra pocketsphinx --extra faster-whisper --extra onnx-ctc "$@"
}
compile --extra embedded --group dev --output-file requirements/dev.txt
compile --extra embedded --constraint requirements/dev.txt --output-file requirements/run.txt
compile --constraint requirements/dev.txt --output-file requirements/server.txt
