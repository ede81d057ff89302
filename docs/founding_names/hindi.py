"""The names of the service for Hindi."""

from docs.founding_kinds import FormField, Kind, Member, Route, Service, Setting, Shown
from docs.founding_names.entries import here, left_out, model, renamed

HINDI = Service(
    "Hindi ONNX service",
    (
        here(Kind.ENDPOINT, "POST /transcribe", Route("POST", "/transcribe")),
        here(Kind.FIELD, "file (.wav)", FormField("file"), "WAV, and any other format"),
        here(Kind.FIELD, "text in a JSON answer", Member("Transcription", "text")),
        model("stt_hi_conformer_ctc_medium", "conformer-hindi", "to be exported and pinned first"),
        here(
            Kind.BEHAVIOUR,
            "export to ONNX",
            Shown(
                "tests/unit/models/test_export_nemo.py",
                "test_an_exported_model_is_pinned_and_usable",
            ),
            "`deploy/export_nemo.py`",
        ),
        here(
            Kind.BEHAVIOUR,
            "resampling to 16 kHz",
            Shown("tests/unit/media/test_decode.py", "test_resampling_keeps_level_and_length"),
        ),
        here(
            Kind.BEHAVIOUR,
            "stereo to mono",
            Shown(
                "tests/unit/engines/test_channels.py", "test_the_mix_is_the_mean_of_the_channels"
            ),
            "or each channel by itself, with `multichannel`",
        ),
        left_out(
            Kind.BEHAVIOUR,
            "clips are cut at 10 s",
            "no file is cut: longer ones are heard in chunks, to `LONGHAND_MAX_DURATION_S`",
        ),
        renamed(
            Kind.OPTION,
            "CPUExecutionProvider",
            Setting("device"),
            "`LONGHAND_DEVICE=cpu`, or `auto` where there is no GPU",
        ),
        here(
            Kind.BEHAVIOUR,
            "a container on port 8000",
            Shown(
                "tests/integration/deploy/test_confinement.py",
                "test_nothing_is_published_beyond_loopback",
            ),
            "published on loopback only",
        ),
        here(
            Kind.BEHAVIOUR,
            "concurrent requests",
            Shown(
                "tests/integration/calls/test_api_calls.py",
                "test_equal_calls_are_one_job_with_one_file",
            ),
        ),
    ),
)
