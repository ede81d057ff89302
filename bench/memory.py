"""Peak memory of every process while a long file is transcribed, against a short one."""

import subprocess
import tempfile
import time
from pathlib import Path

from bench.audio import write_words
from bench.platform import ROOT, PeakMemory, command, platform

SHORT_MIN, LONG_MIN = 10, 30


def run() -> None:
    """Print each service's peak RSS for both lengths, each on a platform freshly started."""
    peaks: dict[int, dict[str, int]] = {}
    for minutes in (SHORT_MIN, LONG_MIN):
        with tempfile.TemporaryDirectory() as folder:
            audio = Path(folder) / "words.wav"
            n_words = write_words(audio, minutes * 60)
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
            peaks[minutes] = memory.peaks
            right = printed.split() == [f"w{number:05d}" for number in range(n_words)]
            print(
                f"{minutes} min: {n_words} words, {'all in order' if right else 'NOT AS SPOKEN'}, "
                f"{wall_s:.1f} s, RTFx {minutes * 60 / wall_s:.0f} with upload and polling"
            )
    print(f"{'peak RSS, MiB':<16}{SHORT_MIN:>6} min{LONG_MIN:>6} min   ratio")
    for service, short in sorted(peaks[SHORT_MIN].items()):
        long = peaks[LONG_MIN][service]
        print(f"{service:<16}{short / 2**20:>10.0f}{long / 2**20:>10.0f}   {long / short:5.2f}")
