"""``python -m bench [NAME ...]``: run some or all measurements.

``--catalogue FILE --model ID`` (once for each model) has ``fidelity`` measure models as well, and
says which models ``devices`` runs on every device at hand. ``--text FILE`` (in ``--language CODE``)
and ``--transcript FILE`` (a JSON one), once for each file, say what ``subtitles`` makes cues of;
without them it takes the texts of the samples.

``accuracy FOLDER`` compares word error rates, ours and the bare library's, with each ``--model`` on
the folder's recordings that have a text beside them; ``--joined`` adds them as one file, and
``--variants`` measures them joined, cut otherwise, faster, slower and noisier instead.

``media FOLDER`` sends the files that FOLDER/words.json names to a platform.

``engines`` compares the engines with the libraries that they use, on real speech (``--audio FILE``,
repeatable) and real weights (``--catalogue FILE --model ID``), and with ``--before`` with those of
another tree.

``live_lanes`` has people speak while chunks of jobs are inferred, on a device that sleeps, and
prints what is left to either.

``live`` prints how soon 50 people who speak read what they say, with a model worker that sleeps, or
how soon ever more do with real models until these are late, and what a talker costs
(``--catalogue FILE --model ID --audio FILE``, the model repeatable).

``live FOLDER`` prints how much of a live text changes after it was shown, and what its finals get
wrong beside the transcript of the whole file, with each ``--model`` on the folder's recordings that
have a text beside them.

``cost`` prints what a job costs the platform, by ``--part`` (repeatable), with the same of another
tree of the source beside it where ``--before`` names one.

``fleet`` prints what a job and a chunk ask of each part of the platform, and what that comes to for
1,000 hours of audio an hour (``--part costs``); and how busy ``--workers`` model workers are whose
device sleeps for ``--batch-s`` a call (``--part fleet``).

``speakers FOLDER`` prints error rates of diarization on the folder's WAVs that have an RTTM beside
them, and with a ``--model`` those of words by speaker where an STM is there too;
``python -m bench.speakers.conversations FOLDER`` writes such recordings.

Ratios are taken side by side in one run; absolute numbers are this machine's.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from bench import (
    accuracy,
    cache,
    devices,
    fairness,
    fidelity,
    flood,
    live_lanes,
    media,
    memory,
    preparation,
    reads,
    sandbox,
    startup,
    streams,
    subtitles,
    uploads,
)
from bench.cost import table as cost
from bench.engines import table as engines
from bench.fleet import table as fleet
from bench.live import steadiness
from bench.live import table as live
from bench.speakers import live as live_speakers
from bench.speakers import table as speakers
from shared.models.catalogue import Catalogue, Model, load_catalogue
from worker.engines import load_engine

MEASUREMENTS = (
    "startup",
    "preparation",
    "sandbox",
    "fidelity",
    "accuracy",
    "media",
    "subtitles",
    "memory",
    "cache",
    "fairness",
    "uploads",
    "flood",
    "reads",
    "streams",
    "live_lanes",
    "live",
    "devices",
    "cost",
    "fleet",
    "engines",
    "speakers",
    "live_speakers",
)


def main() -> None:
    """Run the named measurements, or all."""
    arguments = _parser().parse_args()
    catalogue = load_catalogue(arguments.catalogue)
    models = [catalogue.get(model_id) for model_id in arguments.models]
    folders = [Path(name) for name in arguments.names if name not in MEASUREMENTS]
    names = [name for name in arguments.names if name in MEASUREMENTS]
    # Real speech and weights are not part of the tree.
    usual = [
        name
        for name in MEASUREMENTS
        if {"engines": arguments.audio, "speakers": folders, "live_speakers": folders}.get(
            name, True
        )
    ]
    for name in names or usual:
        print(f"== {name}", flush=True)
        match name:
            case "startup":
                startup.run(arguments.before)
            case "preparation":
                preparation.run()
            case "sandbox":
                sandbox.run()
            case "fidelity":
                fidelity.run({model.id: (load_engine(model), model.window_s) for model in models})
            case "accuracy":
                accuracy.run(
                    folders,
                    models,
                    arguments.language,
                    joined=arguments.joined,
                    variants=arguments.variants,
                )
            case "media":
                media.run(folders)
            case "subtitles":
                subtitles.run(arguments.texts, arguments.transcripts, arguments.language)
            case "memory":
                memory.run()
            case "cache":
                cache.run()
            case "fairness":
                fairness.run()
            case "uploads":
                uploads.run()
            case "flood":
                flood.run()
            case "reads":
                reads.run(arguments.before)
            case "streams":
                streams.run(arguments.before)
            case "live_lanes":
                live_lanes.run()
            case "live":
                _run_live(arguments, folders, models)
            case "devices":
                devices.run(models)
            case "cost" | "fleet":
                _run_cost(name, arguments)
            case "speakers" | "live_speakers":
                _run_speakers(name, folders, catalogue, models)
            case "engines":
                engines.run(arguments.before, arguments.parts, _engines_of(arguments))


def _run_speakers(
    name: str, folders: Sequence[Path], catalogue: Catalogue, models: Sequence[Model]
) -> None:
    diarizer = catalogue.diarizer
    if diarizer is None:
        raise SystemExit("the catalogue has no pinned model that tells speakers apart")
    if name == "speakers":
        speakers.run(folders, diarizer, models)
    else:
        live_speakers.run(folders, diarizer)


def _run_live(
    arguments: argparse.Namespace, folders: Sequence[Path], models: Sequence[Model]
) -> None:
    if folders:
        steadiness.run(folders, models)
    elif arguments.audio:
        live.run_real(arguments.catalogue, arguments.models, arguments.audio[0])
    else:
        live.run()


def _run_cost(name: str, arguments: argparse.Namespace) -> None:
    if name == "cost":
        cost.run(arguments.before, arguments.parts, _cost_of(arguments), arguments.statements)
    else:
        fleet.run(arguments.parts, arguments.workers, arguments.batch_s, arguments.fleet_s)


def _cost_of(arguments: argparse.Namespace) -> cost.Extent:
    return cost.Extent(
        counted_jobs=arguments.counted_jobs,
        timed_jobs=arguments.timed_jobs,
        n_clients=arguments.clients,
        seconds=arguments.seconds,
        n_chunks=arguments.chunks,
        batch_s=arguments.batch_s,
    )


def _engines_of(arguments: argparse.Namespace) -> engines.Extent:
    return engines.Extent(
        arguments.catalogue,
        arguments.models,
        arguments.audio,
        minutes=arguments.minutes,
        rounds=arguments.rounds,
        n_chunks=arguments.n_chunks,
        n_short=arguments.n_short,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "names", nargs="*", metavar="NAME", type=_measurement, help=" ".join(MEASUREMENTS)
    )
    parser.add_argument("--catalogue", type=Path, default=Path("models.toml"))
    parser.add_argument("--model", action="append", default=[], dest="models")
    parser.add_argument("--text", action="append", type=Path, default=[], dest="texts")
    parser.add_argument("--transcript", action="append", type=Path, default=[], dest="transcripts")
    parser.add_argument("--language", default="en")
    parser.add_argument("--joined", action="store_true", help="accuracy: all recordings as one too")
    parser.add_argument(
        "--variants", action="store_true", help="accuracy: with other cuts, speeds and noise"
    )
    usual = cost.Extent()
    of_cost = parser.add_argument_group("cost")
    of_cost.add_argument("--before", type=Path, metavar="DIR", help="another tree to measure")
    of_cost.add_argument(
        "--part",
        action="append",
        choices=(*cost.PARTS, *fleet.PARTS, *engines.PARTS),
        default=[],
        dest="parts",
        help="leave out the others; repeatable",
    )
    of_cost.add_argument(
        "--statements", type=Path, metavar="FILE", help="where to list the SQL statements of a job"
    )
    for option, default, meaning in (
        ("--counted-jobs", usual.counted_jobs, "jobs whose requests are counted"),
        ("--timed-jobs", usual.timed_jobs, "jobs timed one after another, a multiple of 10"),
        ("--clients", usual.n_clients, "clients that send jobs at once"),
        ("--seconds", usual.seconds, "how long they do"),
        ("--chunks", usual.n_chunks, "chunks of the file that an engine transcribes in no time"),
        ("--batch-s", usual.batch_s, "seconds a batch takes where workers are multiplied"),
    ):
        of_cost.add_argument(
            option,
            type=type(default),
            default=default,
            metavar="N",
            help=f"{meaning} [{default:g}]",
        )
    of_fleet = parser.add_argument_group("fleet")
    of_fleet.add_argument("--workers", type=int, default=64, help="model workers [64]")
    of_fleet.add_argument(
        "--fleet-s", type=float, default=60.0, help="how long they are watched [60]"
    )
    of_engines = parser.add_argument_group("engines")
    of_engines.add_argument(
        "--audio", action="append", type=Path, default=[], help="real speech; repeatable"
    )
    of_engines.add_argument("--minutes", type=float, default=60.0, help="of the file [60]")
    of_engines.add_argument("--rounds", type=int, default=3, help="pairs of each row [3]")
    of_engines.add_argument("--n-chunks", type=int, default=16, help="full windows [16]")
    of_engines.add_argument("--n-short", type=int, default=64, help="short items [64]")
    return parser


def _measurement(name: str) -> str:
    if name not in MEASUREMENTS and not Path(name).is_dir():
        raise argparse.ArgumentTypeError(
            f"{name} is no folder, and no measurement: {' '.join(MEASUREMENTS)}"
        )
    return name


if __name__ == "__main__":
    main()
