"""Data of one's own with known answers, for ``alrnn ask``: four files of NumPy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_linear(path: Path, trials: int = 900) -> None:
    """A leaky integral of two of three channels, at every step, with noise: no nonlinearity is needed."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(trials, 40, 3)).astype("float32")
    state, targets = np.zeros((trials, 1)), np.zeros((trials, 40, 1), "float32")
    for t in range(40):
        state = 0.9 * state + inputs[:, t, :1] - 0.5 * inputs[:, t, 1:2]
        targets[:, t] = state + rng.normal(scale=0.3, size=state.shape)
    np.savez(path, inputs=inputs, targets=targets)


def write_gate(path: Path, trials: int = 2000) -> None:
    """The sum of one of two channels, which a context chooses: the choice needs a gate."""
    rng = np.random.default_rng(1)
    inputs = np.zeros((trials, 20, 4), "float32")
    inputs[:, :, :2] = rng.normal(scale=0.5, size=(trials, 20, 2))
    context = rng.integers(2, size=trials)
    inputs[np.arange(trials), :, 2 + context] = 1
    sums = inputs[np.arange(trials), :, context].sum(axis=1)
    np.savez(path, inputs=inputs, targets=(sums / 2).astype("float32"), group=context)


def write_lorenz(path: Path, steps: int = 20_000) -> None:
    """A recording of the Lorenz system, 0.05 time units a step."""
    state, rows, dt = np.array([1.0, 1.0, 20.0]), [], 0.005

    def velocity(s: np.ndarray) -> np.ndarray:
        return np.array([10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]])

    for _ in range(steps + 100):
        for _ in range(10):
            k1 = velocity(state)
            k2 = velocity(state + dt / 2 * k1)
            k3 = velocity(state + dt / 2 * k2)
            state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + velocity(state + dt * k3))
        rows.append(state)
    np.savez(path, inputs=np.array(rows[100:], "float32"))


def write_noise(path: Path, trials: int = 600) -> None:
    """Two classes that have nothing to do with the inputs."""
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(trials, 30, 5)).astype("float32")
    np.savez(path, inputs=inputs, targets=rng.integers(2, size=trials))
