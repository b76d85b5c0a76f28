"""What Lightning prints that no user of the command can act on."""

from __future__ import annotations

import warnings

import pytest

from lightning_alrnn.extensions.messages import without_advertisements


@pytest.mark.parametrize(
    "message",
    [
        "The number of training batches (7) is smaller than the logging interval Trainer(log_every_n_steps=50).",
        "The dirpath has changed from 'a' to 'b', therefore `best_model_score` won't be reloaded.",
    ],
)
def test_advice_that_does_not_fit_is_dropped_within_a_command_only(message: str) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with without_advertisements():
            warnings.warn(message, stacklevel=1)
            warnings.warn("something else", stacklevel=1)
        warnings.warn(message, stacklevel=1)
    assert [str(each.message) for each in said] == ["something else", message]
