"""Arguments that are out of range are named."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lightning_alrnn.datamodules import (
    Addition,
    ContextualIntegration,
    Copy,
    IMDb,
    MultiTask,
    SequenceDataModule,
    SequentialDigits,
    SequentialMNIST,
    SpeechCommands,
    StimulusSelection,
)

CASES: dict[type[SequenceDataModule], list[tuple[dict[str, Any], str]]] = {
    Addition: [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must be at least 0, got -1"),
        ({"seed": -3}, "seed must be at least 0, got -3"),
        ({"markers": "both"}, "markers must be one of 'first_half', 'halves', 'uniform', got 'both'"),
        ({"operation": "mean"}, "operation must be one of 'sum', 'product', got 'mean'"),
        ({"sequence_length": 3}, "sequence_length must be at least 4, got 3"),
        ({"sequence_length": 1, "markers": "halves"}, "sequence_length must be at least 2, got 1"),
    ],
    ContextualIntegration: [
        ({"variant": "x"}, "variant must be one of 'reference', 'mante', got 'x'"),
        ({"sequence_length": 2}, "sequence_length must be at least 3, got 2"),
        ({"invert_prob": 1.5}, "invert_prob must lie between 0 and 1, got 1.5"),
        ({"invert_prob": math.nan}, "invert_prob must lie between 0 and 1, got nan"),
        ({"noise": -0.1}, r"noise \(σ\) must be finite and not negative, got -0.1"),
        ({"noise": math.inf}, r"noise \(σ\) must be finite and not negative, got inf"),
        ({"dt": 10}, "dt is an option of variant 'mante', got dt=10 with variant='reference'"),
        (
            {"variant": "mante", "sequence_length": 5},
            "sequence_length is an option of variant 'reference', got",
        ),
        ({"variant": "mante", "dt": 0}, "dt must be at least 1, got 0"),
        ({"variant": "mante", "durations": [100, 800, 20]}, r"durations must be five numbers, .* got \[100, 800, 20\]"),
        ({"variant": "mante", "durations": [-1, 0, 800, 0, 20]}, "durations: fixation must be at least 0, got -1"),
        (
            {"variant": "mante", "durations": [0, 0, 10, 0, 20]},
            "durations: stimulus must be at least 20, got 10",
        ),
        (
            {"variant": "mante", "durations": [0, 0, 20, 0, 0]},
            "durations: decision must be at least 20, got 0",
        ),
        ({"variant": "mante", "coherences": []}, r"coherences must be one or more positive numbers, got \[\]"),
        (
            {"variant": "mante", "coherences": [0.1, 0.0]},
            r"coherences must be .* positive numbers, got \[0.1, 0.0\]",
        ),
    ],
    Copy: [
        ({"variant": "x"}, "variant must be one of 'reference', .* 'delayed_recall', got 'x'"),
        ({"delay": -1}, "delay must be at least 0, got -1"),
        ({"variant": "arjovsky", "delay": 0}, "delay must be at least 1, got 0"),
        ({"sequence_length": 0}, "sequence_length must be at least 1, got 0"),
        ({"alphabet_size": 1}, "alphabet_size must be at least 2, got 1"),
        ({"variant": "variable_delay", "max_extra_delay": -2}, "max_extra_delay must be at least 0, got -2"),
        ({"max_extra_delay": 5}, "max_extra_delay is an option of variant 'variable_delay', got max_extra_delay=5"),
        ({"variant": "delayed_recall", "delay": 5}, "with variant='delayed_recall': leave it out"),
        ({"lag": 3}, "lag is an option of variant 'delayed_recall', got lag=3 with variant='reference'"),
        ({"variant": "delayed_recall", "lag": -1}, "lag must be at least 0, got -1"),
        ({"variant": "delayed_recall", "sequence_length": 4, "lag": 4}, "lag must be less than sequence_length, 4"),
        ({"time_code": -1}, "time_code must be at least 0, got -1"),
    ],
    SequentialDigits: [
        ({"order": "column"}, "order must be one of 'row', 'pixel', 'permuted', got 'column'"),
        ({"val_fraction": 0.0}, "val_fraction must lie between 0 and 1, got 0.0"),
        ({"test_fraction": 1.5}, "test_fraction must lie between 0 and 1, got 1.5"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "must be less than 1"),
        ({"val_fraction": 0.001}, "each split must have at least 0.01 of the images, got 0.001"),
        ({"val_fraction": 0.5, "test_fraction": 0.495}, "each split must have at least 0.01 of the images, got 0.005"),
    ],
    IMDb: [
        ({"sequence_length": 0}, "sequence_length must be at least 1, got 0"),
        ({"vocab_size": 2}, "vocab_size must be at least 3, got 2"),
        ({"val_fraction": 1.0}, "val_fraction must lie between 0 and 1, got 1.0"),
    ],
    SequentialMNIST: [
        ({"order": "column"}, "order must be one of 'row', 'pixel', 'permuted', got 'column'"),
        ({"val_fraction": 1.0}, "val_fraction must lie between 0 and 1, got 1.0"),
        ({"permutation_seed": -1}, "permutation_seed must be at least 0, got -1"),
    ],
    MultiTask: [
        ({"suite": "twelve"}, "suite must be one of 'eleven', 'yang19', got 'twelve'"),
        ({"durations": "long"}, "durations must be one of 'simple', 'hard', got 'long'"),
        ({"loss": "all"}, "loss must be one of 'last', 'padded_last', 'response', got 'all'"),
        ({"tasks": ["Go"]}, r"tasks of suite 'eleven' must be one or more of 'DelayPro', .*'GoNogo', .*got \['Go'\]"),
        ({"tasks": []}, r"must be one or more of 'DelayPro', .* got \[\]"),
        ({"tasks": ["CatPro", "CatPro"]}, r"each once, got \['CatPro', 'CatPro'\]"),
        ({"suite": "yang19", "tasks": ["GoNogo"]}, r"must be one or more of 'Go', 'RTGo', .*'DNMC', .*\['GoNogo'\]"),
        ({"suite": "yang19", "durations": "hard"}, "durations is an option of suite 'eleven', but suite is 'yang19'"),
        ({"suite": "yang19", "loss": "response"}, "loss is an option of suite 'eleven'"),
        ({"suite": "yang19", "lenient_nogo": True}, "lenient_nogo is an option of suite 'eleven'"),
    ],
    SpeechCommands: [
        ({"words": "yes"}, r"words must be 'ten', 'all' or two or more .*got 'yes'"),
        ({"words": ["yes"]}, r"got \['yes'\]"),
        ({"words": ["yes", "yes"]}, r"got \['yes', 'yes'\]"),
        ({"words": ["yes", "maybe"]}, r"backward, bed, .*got \['yes', 'maybe'\]"),
        ({"features": "mel"}, "features must be one of 'mfcc', 'raw', got 'mel'"),
        ({"hop_length": 0}, "hop_length must be at least 1, got 0"),
        ({"n_fft": 40_000}, "must have more than n_fft // 2 samples"),
        ({"features": "raw", "decimation": 0}, "decimation must be at least 1, got 0"),
    ],
    StimulusSelection: [
        ({"context": "hidden"}, "context must be one of 'explicit', 'inferred', got 'hidden'"),
        ({"context": "inferred", "neural": True}, "leave out context='inferred' or neural"),
        ({"units": 5}, "units=5 needs neural=True"),
        ({"units": 0, "neural": True}, "units must be at least 1, got 0"),
        ({"bin_ms": 0}, "bin_ms must lie between 1 and 250, the length of the sounds, got 0"),
        ({"bin_ms": 251}, "bin_ms must lie between 1 and 250"),
        ({"val_fraction": 0.2}, r"val_fraction is an option of source 'a session', .* source='simulated'"),
    ],
}


@pytest.mark.parametrize(
    ("kind", "arguments", "message"), [(kind, *case) for kind, cases in CASES.items() for case in cases]
)
def test_wrong_arguments(kind: type[SequenceDataModule], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
