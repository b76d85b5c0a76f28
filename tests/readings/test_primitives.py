"""The section of the report on the computational primitives."""

from __future__ import annotations

from lightning_alrnn.readings.primitives import _combination


def test_a_direction_of_outputs_names_them() -> None:
    assert _combination([0.707, -0.707], ["left", "right"]) == "0.71 left − 0.71 right"
    assert _combination([-0.6, 0.8], ["a", "b"]) == "− 0.60 a + 0.80 b"
    assert _combination([1.0], ["reward"]) == "reward"
    assert _combination([0.9, 0.01, 0.43], ["a", "b", "c"]) == "0.90 a + 0.43 c + …"
    assert _combination([0.3] * 9, list("abcdefghi")).endswith("0.30 f + …")
