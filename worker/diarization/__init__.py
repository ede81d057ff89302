"""Who speaks when: diarizers, and how a catalogue entry becomes a loaded one."""

from shared.infra.errors import ModelError
from shared.models.engine_packages import missing_engine
from shared.models.entries import DiarizationModel
from shared.models.weights import pinned
from worker.diarization.protocol import Diarizer


def load_diarizer(model: DiarizationModel, *, threads: int = 1) -> Diarizer:
    """Load a model that tells speakers apart.

    Args:
        model: the catalogue entry.
        threads: processors that one call of ``local`` uses.

    Raises:
        ModelError: a library or the weights are missing.
    """
    if (missing := missing_engine(model)) is not None:
        raise ModelError(f"model '{model.id}': {missing}")
    if model.engine == "pyannote-community-1":
        from worker.diarization.community_1 import Community1

        return Community1(pinned(model), threads)
    if model.engine == "sortformer":
        from worker.diarization.sortformer import Sortformer

        return Sortformer.load(pinned(model), threads)
    from worker.diarization.campplus_seg3 import CampplusSeg3

    return CampplusSeg3(pinned(model), threads)
