"""The Spectrum callback: what it logs, against brute force on stored states."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from observed import Store, arrays, model, still, validated
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_alrnn.callbacks import Spectrum
from lightning_alrnn.nn import ALRNN


def expected_scalars(states: Tensor, lengths: Tensor, rnn: ALRNN, by_hand: Callable[..., Any]) -> dict[str, float]:
    """By scikit-learn and loops over regimes and eigenvalues."""
    counts = by_hand(states, lengths, rnn.nonlinear_units).counts
    spectra = []
    # of regimes visited equally often, the one with the lower code comes first; the first unit is its lowest bit
    for code in sorted(counts, key=lambda code: (-counts[code], code[::-1]))[:16]:
        with torch.no_grad():
            matrix = rnn.double().regime_matrix(torch.tensor([bit == "1" for bit in code])).numpy()
        spectra.append(np.linalg.eig(matrix))
    values, vectors = spectra[0]
    slowest = min(range(len(values)), key=lambda index: abs(math.log(abs(values[index]))))
    value, vector = values[slowest], vectors[:, slowest]
    valid = torch.arange(states.shape[1]) < lengths.unsqueeze(1)
    pca = PCA(svd_solver="full").fit(states[valid].double().numpy())
    leading = pca.components_[0]
    span = np.stack([vector.real, vector.imag], axis=1)[:, : 2 if value.imag else 1]
    projected = span @ np.linalg.lstsq(span, leading, rcond=None)[0]
    return {
        "spectrum/max_modulus": max(float(np.abs(part.eigenvalues).max()) for part in spectra),
        "spectrum/slowest_timescale": -1 / math.log(abs(value)),
        "spectrum/slowest_eigenvalue_real": value.real,
        "spectrum/slowest_eigenvalue_imag": abs(value.imag),
        "spectrum/pc1_angle": math.degrees(math.acos(min(1.0, np.linalg.norm(projected)))),
        "spectrum/pc1_variance": pca.explained_variance_ratio_[0],
    }


@pytest.mark.parametrize("nonlinear", [0, 3, 6])
def test_scalars_equal_brute_force_on_stored_states(by_hand: Callable[..., Any], nonlinear: int) -> None:
    store, made = Store(), model(nonlinear)
    logged = validated(made, arrays(), Spectrum(), store)
    assert isinstance(made.core, ALRNN)
    for key, value in expected_scalars(store.all_of("states"), store.all_of("lengths"), made.core, by_hand).items():
        assert logged[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def test_states_that_do_not_vary_or_overflow() -> None:
    for made in (still(), model(W=1e15)):
        callback = Spectrum()
        logged = validated(made, arrays(), callback)
        assert math.isnan(logged["spectrum/pc1_angle"])
        assert math.isnan(logged["spectrum/pc1_variance"])
        assert not math.isnan(logged["spectrum/max_modulus"])
        assert set(callback.figures()) == {"spectrum/slowest_mode"}
