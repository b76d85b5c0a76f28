"""Names of the metrics of performance, without ``val/`` or ``test/``."""

SHARES = ("sequence_accuracy", "accuracy")

SCORES = (*SHARES, "mse", "task_loss")
"""The score of a network is the first of these that it logs."""
