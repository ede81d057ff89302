"""``python -m tests.models.recipe``: speak the data, train a model, check it. See the README."""

import argparse
import logging
import time
from pathlib import Path

import torch

from tests.models.recipe import (
    conformer,
    evaluate,
    heldout,
    transducer,
    w2v_bert,
    whisper,
    whisper_export,
)
from tests.models.recipe.data import (
    TRAINED_LENGTHS,
    load_clips,
    read_words,
    save_clips,
    speak_all,
    write_lines,
)
from tests.models.recipe.tokens import make_vocabulary
from tests.models.recipe.training import train

log = logging.getLogger(__name__)

MODELS = Path(__file__).parent.parent
TESTED_LENGTHS = {3: 100, 5: 100, 9: 100}


def main() -> None:
    """Run one step of the recipe."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    words = read_words(arguments.words)
    trained, tested = arguments.data / "trained.npz", arguments.data / "tested.npz"
    seed, out = arguments.seed, arguments.out
    checkpoint = arguments.data / f"{arguments.step}.pt"
    torch.manual_seed(seed)
    started = time.monotonic()
    match arguments.step:
        case "speak":
            arguments.data.mkdir(parents=True, exist_ok=True)
            lines = write_lines(words, TRAINED_LENGTHS, seed)
            save_clips(speak_all(lines), trained)
            known = {line.text for line in lines}
            unknown = [
                x for x in write_lines(words, TESTED_LENGTHS, seed + 1) if x.text not in known
            ]
            save_clips(speak_all(unknown), tested)
            heldout.write_heldout(words, out / "heldout", seed + 2)
        case "whisper":
            clips, vocabulary = load_clips(trained), make_vocabulary(words)
            listener = whisper.Whisper(vocabulary)
            train(listener, clips, whisper.CURRICULUM, seed, checkpoint)
            whisper_export.save(listener, clips, out / "whisper")
            whisper_export.convert(out / "whisper", out / "whisper-ct2")
        case "ctc":
            speller = w2v_bert.W2vBert(words)
            train(speller, load_clips(trained), w2v_bert.CURRICULUM, seed, checkpoint)
            w2v_bert.save(speller, out / "ctc")
        case "conformer":
            model = conformer.Conformer(conformer.make_pieces(words))
            train(model, load_clips(trained), conformer.CURRICULUM, seed, checkpoint)
            conformer.save(model, out / "conformer")
        case "transducer":
            emitter = transducer.Transducer(
                conformer.make_pieces(words), out / "conformer" / "model.onnx"
            )
            transducer.save(emitter, out / "transducer")
        case "evaluate":
            for name, load in evaluate.LOADERS.items():
                if (out / name).exists():
                    figures = evaluate.evaluate(load(out / name), load_clips(tested), n_windows=20)
                    log.info(
                        f"{name}: { {key: round(value, 4) for key, value in figures.items()} }"
                    )
    log.info(f"{arguments.step}: {time.monotonic() - started:.0f} s")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.models.recipe", description=__doc__)
    steps = ["speak", "whisper", "ctc", "conformer", "transducer", "evaluate"]
    parser.add_argument("step", choices=steps)
    parser.add_argument("--words", type=Path, default=MODELS / "words.txt", help="one word a line")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder for speech, kept out of git"
    )
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the models")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
