#!/usr/bin/env bash
# Pin what pyproject.toml asks for, with hashes, in one version for every platform and Python we support.
#   server.txt  the platform's processes, with starter and faster-whisper. No torch.
#   run.txt     the same and the embedded stack: a user's first run.
#   dev.txt     the same and what the tests need. Its torch is in torch.txt: there is one build for
#               CPUs and one for each CUDA, under one version, so that no hash is right for all.
#   deploy.txt  what the tests of deploy/ need: Helm, Kubernetes' schemas, a parser of PromQL.
#   transformers.txt      what the transformers engines need beside run.txt or server.txt, and torch.txt.
#   deploy/torch.txt      the same with torch, in the index's own build, for the image.
#   client/*/requirements.txt  what the tests of a plugin need: the framework.
set -euo pipefail
cd "$(dirname "$0")/.."
lock() {
    uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command requirements/lock.sh "$@"
}
compile() {
    lock pyproject.toml --extra media --extra pocketsphinx --extra faster-whisper --extra onnx-ctc "$@"
}
transformers() {
    lock - --constraint requirements/dev.txt --constraint requirements/torch.txt "$@" \
        <<<$'torch\ntransformers'
}
compile --extra embedded --extra otel --group dev --output-file requirements/dev.txt
compile --extra embedded --constraint requirements/dev.txt --output-file requirements/run.txt
compile --extra otel --constraint requirements/dev.txt --output-file requirements/server.txt
lock --group deploy --constraint requirements/dev.txt --output-file requirements/deploy.txt
transformers --output-file deploy/torch.txt
mapfile -t without < <(sed -nE 's/^(torch|triton|cuda-[^=]+|nvidia-[^=]+)==.*/--no-emit-package=\1/p' deploy/torch.txt)
transformers "${without[@]}" --output-file requirements/transformers.txt
for client in livekit pipecat; do
    lock "client/$client/pyproject.toml" --group "client/$client/pyproject.toml:test" \
        --output-file "client/$client/requirements.txt"
done
