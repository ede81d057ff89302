"""A peer to measure against: faster-whisper behind FastAPI, as small servers have it.

A lock lets one request at a time use ``BatchedInferencePipeline``. Beams, word times and voice
activity detection are on. Run it with the model's folder; it prints the URL to send files to.
"""

import io
import socket
import sys
import threading
from typing import Annotated, Any

import numpy as np
import uvicorn
from fastapi import FastAPI, File
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import decode_audio

RATE = 16_000
PATH = "/v1/audio/transcriptions"


def serve(folder: str) -> None:
    """Load the model, hear noise once, and serve on a free port of loopback."""
    model = WhisperModel(folder, device="cpu", compute_type="int8", local_files_only=True)
    pipeline, lock = BatchedInferencePipeline(model), threading.Lock()
    usual: dict[str, Any] = {"language": "en", "beam_size": 5, "word_timestamps": True}
    noise = np.random.default_rng(0).normal(0.0, 0.1, RATE).astype(np.float32)
    list(pipeline.transcribe(noise, vad_filter=False, **usual)[0])
    app = FastAPI()

    # Of a function that is not a coroutine each call has a thread, so requests are decoded at once.
    @app.post(PATH)
    def transcribe(file: Annotated[bytes, File()]) -> dict[str, Any]:
        samples = decode_audio(io.BytesIO(file), sampling_rate=RATE)
        with lock:
            segments = list(pipeline.transcribe(samples, **usual)[0])
        words = [
            {"word": word.word, "start": word.start, "end": word.end}
            for segment in segments
            for word in segment.words or ()
        ]
        return {"text": "".join(segment.text for segment in segments), "words": words}

    listener = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])


if __name__ == "__main__":
    serve(sys.argv[1])
