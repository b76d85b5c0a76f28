"""Names of the metrics of performance, without ``val/`` or ``test/``, and of others that a verdict shows.

They are here because ``alrnn verdict`` does without PyTorch, which takes seconds and hundreds of megabytes.
"""

SHARES = ("sequence_accuracy", "accuracy")

SCORES = (*SHARES, "mse", "task_loss")
"""The score of a network is the first of these that it logs."""

REGIMES_BY_SIZE = ("regime/visited", "regime/effective")
UNITS_BY_SIZE = ("units/active",)
"""The keys of regimes and units whose means for each P are in a verdict."""

_PHRASES = {
    "mean": "always giving the mean of the targets",
    "most frequent class": "always giving the most frequent class",
    "same as the last step": "repeating the last input",
    "linear model": "a linear model",
}


def phrase(name: str) -> str:
    """Return a predictor without a network in words, or the name itself."""
    return _PHRASES.get(name, name)
