"""Runs of sweeps that nobody ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lightning_alrnn.sweep.rules import Run, Value


def runs(
    curve: Mapping[int, Sequence[float | None]],
    key: str = "test/accuracy",
    settings: Mapping[str, Value] | None = None,
    validation: float | None = None,
    hidden_size: int = 10,
) -> list[Run]:
    """A run for each score of each P; ``None`` is one that diverged."""
    made = []
    for p, scores in curve.items():
        for seed, score in enumerate(scores):
            metrics = {} if score is None else {key: score, key.replace("test", "val"): validation or score}
            if score is not None:
                metrics |= {"regime/visited": 2.0**p, "units/active": float(p), "regime/effective": p + 1.0}
            made.append(Run("ALRNN", p, seed, settings or {}, metrics, score is None, hidden_size))
    return made


def learned(curve: Mapping[int, Sequence[int | None]], epochs: int = 100) -> list[Run]:
    """A run for each number of epochs to the threshold of each P; ``None`` is one that did not reach it."""
    scores = {p: [0.6 + 0.001 * seed if time is None else 0.99 for seed, time in enumerate(curve[p])] for p in curve}
    made, times = runs(scores), [time for column in curve.values() for time in column]
    return [run._replace(epochs_to_threshold=time, epochs=epochs) for run, time in zip(made, times, strict=True)]


def baseline(core: str, scores: Sequence[float], key: str = "test/accuracy") -> list[Run]:
    """Runs of another core."""
    return [Run(core, None, seed, {}, {key: score}) for seed, score in enumerate(scores)]


def around(mean: float, spread: float, seeds: int, seed: int) -> list[float]:
    """Scores with a mean and a spread."""
    return (mean + spread * np.random.default_rng(seed).normal(size=seeds)).tolist()


def jitter(curve: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    """Scores that differ a little."""
    rng = np.random.default_rng(0)
    return {p: (np.array(scores) + 0.002 * rng.normal(size=len(scores))).tolist() for p, scores in curve.items()}


ADDITION = {0: [0.163, 0.161, 0.165], **{p: around(0.0006, 0.0002, 3, p) for p in (1, 2, 5, 10, 25, 50)}}

# shares solved as they were measured on contextual integration with a bare loop
NEAR_IDENTITY = {0: [0.5] * 5, 1: [0.95] * 5, 2: [0.95] * 5, 5: [0.95] * 5, 10: [0.95, 0.95, 0.95, 0.5, 0.5]}
GAUSSIAN = {0: [0.5] * 5, 5: [0.95, 0.5, 0.5, 0.95, 0.5], 10: [0.5, 0.95, 0.5, 0.5, 0.95]}
