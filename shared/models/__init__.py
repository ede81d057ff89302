"""Models: the catalogue, what jobs may ask of them, and which can be used on this machine."""

AUTO = "auto"
"""Stands for a model that ``AUTO_RULE`` chooses. An omitted model means the same."""

AUTO_RULE = (
    "the model that the catalogue prefers for the stated language, if it is served (or usable, "
    "where no platform runs yet); else LONGHAND_DEFAULT_MODEL, if set; else a model that is "
    "served; else the best that is here; never one that lacks the language or what else is asked"
)
"""What ``shared.models.choice`` does, for people. It is here so that ``longhand --help`` loads
nothing else."""
