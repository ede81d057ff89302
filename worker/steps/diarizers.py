"""Which code tells the speakers of a job apart, by the catalogue's entry."""

from collections.abc import Callable, Sequence

from shared.infra.errors import ModelError
from shared.models.catalogue import Catalogue
from shared.models.entries import DiarizationModel
from shared.speech.speakers.turns import SpeakerHints
from worker.diarization.protocol import Activities, Diarization

Cluster = Callable[[Sequence[Activities], SpeakerHints], Diarization]
"""The ``cluster`` of a diarizer. It needs no weights, so CPU workers have none."""


def entry_of(catalogue: Catalogue, model_id: str) -> DiarizationModel:
    """Return the catalogue's entry.

    Raises:
        ModelError: there is none.
    """
    model = catalogue.diarizers.get(model_id)
    if model is None:
        raise ModelError(f"the catalogue has no model '{model_id}' that tells speakers apart")
    return model


def cluster_of(catalogue: Catalogue, model_id: str) -> Cluster:
    """Return what tells apart the speakers of spans that a model has heard.

    Raises:
        ModelError: the catalogue has no such model.
    """
    from worker.diarization import campplus_seg3, community_1, sortformer, timeline

    tell_apart = {
        "campplus-seg3": campplus_seg3.tell_apart,
        "pyannote-community-1": community_1.tell_apart,
        "sortformer": sortformer.tell_apart,
    }[entry_of(catalogue, model_id).engine]
    return lambda heard, hints: tell_apart(timeline.join(heard), hints)
