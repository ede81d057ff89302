"""``python -m bench [NAME ...]``: run some or all measurements.

``--catalogue FILE --model ID`` (as often as there are models) has ``fidelity`` measure models, too,
and says which models ``devices`` runs on every device at hand. ``--text FILE`` (in
``--language CODE``) and ``--transcript FILE`` (a JSON one), as often as there are files, say what
``subtitles`` makes cues of; without them it takes the texts of the samples.
``--before FOLDER`` names an older tree of Longhand, which ``reads`` and ``streams`` measure beside
this one.
Ratios are taken side by side in one run; absolute numbers are this machine's.
"""

import argparse
from pathlib import Path

from bench import (
    cache,
    devices,
    fairness,
    fidelity,
    memory,
    preparation,
    reads,
    startup,
    streams,
    subtitles,
)
from shared.models.catalogue import load_catalogue
from worker.engines import load_engine

MEASUREMENTS = (
    "startup",
    "preparation",
    "fidelity",
    "subtitles",
    "memory",
    "cache",
    "fairness",
    "reads",
    "streams",
    "devices",
)


def main() -> None:
    """Run the named measurements, or all."""
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=" ".join(MEASUREMENTS))
    parser.add_argument("--catalogue", type=Path, default=Path("models.toml"))
    parser.add_argument("--model", action="append", default=[], dest="models")
    parser.add_argument("--text", action="append", type=Path, default=[], dest="texts")
    parser.add_argument("--transcript", action="append", type=Path, default=[], dest="transcripts")
    parser.add_argument("--language", default="en")
    parser.add_argument("--before", type=Path, metavar="FOLDER")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(MEASUREMENTS):
        parser.error(f"there is no {' or '.join(sorted(unknown))}, only {' '.join(MEASUREMENTS)}")
    catalogue = load_catalogue(arguments.catalogue)
    models = [catalogue.get(model_id) for model_id in arguments.models]
    for name in arguments.names or MEASUREMENTS:
        print(f"== {name}", flush=True)
        match name:
            case "startup":
                startup.run()
            case "preparation":
                preparation.run()
            case "fidelity":
                fidelity.run({model.id: (load_engine(model), model.window_s) for model in models})
            case "subtitles":
                subtitles.run(arguments.texts, arguments.transcripts, arguments.language)
            case "memory":
                memory.run()
            case "cache":
                cache.run()
            case "fairness":
                fairness.run()
            case "reads":
                reads.run(arguments.before)
            case "streams":
                streams.run(arguments.before)
            case "devices":
                devices.run(models)


if __name__ == "__main__":
    main()
