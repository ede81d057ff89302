"""The memory of a real model that is unloaded is the system's again."""

import json
import os
import subprocess
import sys

import pytest

from cli.embedded.services import ALLOCATION
from harness.engines.real_models import TINY_EN, real_catalogue
from harness.repository.tree import ROOT

PROGRAM = """
import json, sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
import numpy as np
from shared.infra.settings import Settings
from shared.models.catalogue import load_catalogue
from worker.batching.load import load
from worker.batching.resident import ResidentModel
from worker.engines.memory import device_memory_bytes
from worker.engines.protocol import DecodeOptions

settings = Settings(device="cpu", idle_unload_s=1e-6)
entry = load_catalogue(Path(sys.argv[1])).get(sys.argv[2])
model = ResidentModel(partial(load, entry, settings), settings, nullcontext())
noise = np.random.default_rng(0).normal(0.0, 0.1, 32_000).astype(np.float32)
held = []
for _ in range(2):
    with model.use() as batcher:
        batcher.submit(noise, DecodeOptions(language="en")).result()
        held.append(device_memory_bytes("cpu"))
    while model.is_loaded:
        model.unload_if_idle()
    held.append(device_memory_bytes("cpu"))
print(json.dumps(held))
"""
"""Loads, uses and unloads a model twice; prints the resident memory after each use and unload."""

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("model_id", ["tiny.en-ct2", "tiny.en-hf"])
def test_a_model_that_is_unloaded_leaves_no_weights_in_memory(model_id: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(real_catalogue()), model_id]
    environment = ALLOCATION | os.environ
    told = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    used, unloaded, used_again, unloaded_again = json.loads(told.stdout)
    assert used - unloaded > TINY_EN.size_bytes
    assert used_again - unloaded_again > TINY_EN.size_bytes
