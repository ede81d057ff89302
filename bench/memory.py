"""Peak memory of every process while ten hours are transcribed, against ten minutes."""

import subprocess
import tempfile
import time
from pathlib import Path

from bench.audio import write_words
from bench.platform import ROOT, PeakMemory, command, platform
from worker.engines.oracle import word_text

SHORT_MIN, LONG_MIN = 10, 600


def run() -> None:
    """Print each service's peaks for both lengths, each on a platform freshly started."""
    short, long = measure(SHORT_MIN), measure(LONG_MIN)
    lengths = f"{SHORT_MIN:>4} min{LONG_MIN / 60:>6g} h  ratio"
    print(f"{'peak, MiB':<16}{'RSS':^23}{'its own':^23}\n{'':<16}{lengths}{lengths}")
    for service in sorted(short.peaks):
        line = f"{service:<16}"
        for few, many in ((short.peaks, long.peaks), (short.own_peaks, long.own_peaks)):
            before, after = few[service], many[service]
            line += f"{before / 2**20:>8.0f}{after / 2**20:>8.0f}{after / before:>7.2f}"
        print(line)


def measure(minutes: int) -> PeakMemory:
    """Transcribe a file of this length with the oracle, check its words, return the peaks."""
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "words.wav"
        words = [word_text(number) for number in write_words(audio, minutes * 60)]
        with platform(Path(folder) / "data", "oracle") as running:
            memory = PeakMemory(running.data)
            started = time.monotonic()
            with memory.sampling():
                printed = subprocess.run(
                    command("transcribe", str(audio), "--server", running.url),
                    cwd=ROOT,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    check=True,
                ).stdout
            wall_s = time.monotonic() - started
    print(
        f"{minutes} min: {len(words)} words, "
        f"{'all in order' if printed.split() == words else 'NOT AS SPOKEN'}, "
        f"{wall_s:.1f} s, RTFx {minutes * 60 / wall_s:.0f} with upload and polling",
        flush=True,
    )
    return memory
