"""Names of the metrics that say how well a network does, without ``val/`` or ``test/``."""

SHARES = ("sequence_accuracy", "accuracy")

SCORES = (*SHARES, "mse", "task_loss")
"""The first that a network logs is its score."""
