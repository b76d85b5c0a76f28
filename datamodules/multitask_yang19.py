"""The twenty tasks of Yang et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.datamodules import multitask_periods as periods

TASKS = (
    *("Go", "RTGo", "DlyGo", "Anti", "RTAnti", "DlyAnti"),
    *("DM1", "DM2", "CtxDM1", "CtxDM2", "MultiDM"),
    *("DlyDM1", "DlyDM2", "CtxDlyDM1", "CtxDlyDM2", "MultiDlyDM"),
    *("DMS", "DNMS", "DMC", "DNMC"),
)
PERIODS = ("fixation", "stimulus", "delay", "second stimulus", "second delay", "response")
RING = 32
_ANGLES = [f"{360 * unit / RING:g}°" for unit in range(RING)]
INPUTS = ("fixation", *(f"{angle} in {modality}" for modality in (1, 2) for angle in _ANGLES), *TASKS)
OUTPUTS = ("fixation", *_ANGLES)
DT = 20  # ms of a step
NOISE = 0.01 * np.sqrt(2 / 0.2)  # of the inputs: 0.01 √(2/α) with α = dt/τ = 0.2
_BASELINE, _HIGH = 0.05, 0.8
_MARGIN = 100 // DT  # steps without a loss at the start and after go
_RESPONSE = 500 // DT


_SHORT, _DELAY = (200, 400, 600), (200, 400, 800, 1600)
_DM, _DELAYED_DM = TASKS[6:11], TASKS[11:16]
# options in ms for the periods before the response, which always takes 500 ms
_PERIODS: dict[tuple[str, ...], tuple[Sequence[int], ...]] = {
    ("Go", "Anti"): (range(300, 700, DT), range(500, 1500, DT)),
    ("RTGo", "RTAnti"): (range(500, 2500, DT),),
    ("DlyGo", "DlyAnti"): ((300, 500, 700), _SHORT, _DELAY),
    _DM: (range(100, 400, DT), (400, 800, 1600)),
    _DELAYED_DM: (_SHORT, _SHORT, _DELAY, _SHORT, range(100, 300, DT)),
    TASKS[16:]: (_SHORT, _SHORT, _DELAY),
}


def ring_bump(angle: NDArray[np.float64]) -> NDArray[np.float32]:
    """0.8 exp(−½ (Δθ/(π/8))²) of each unit of a ring, shape ``(…, 32)``, where unit i prefers 2πi/32."""
    preferred = np.arange(RING) * (2 * np.pi / RING)
    distance = np.abs((angle[..., None] - preferred + np.pi) % (2 * np.pi) - np.pi)
    return (_HIGH * np.exp(-0.5 * (distance / (np.pi / 8)) ** 2)).astype(np.float32)


def draw(rng: np.random.Generator, size: int, chosen: NDArray[np.int64]) -> periods.Trials:
    """Draw trials of the chosen tasks, which are indices into TASKS."""
    group, coin = periods.draw_tasks(rng, size, len(chosen))
    task = chosen[group]
    trial = np.arange(size)

    def of(*names: str) -> NDArray[np.bool_]:
        return np.isin(task, [TASKS.index(name) for name in names])

    delayed = of(*_DELAYED_DM)
    decision = delayed | of(*_DM)
    comparison = of("DMS", "DNMS", "DMC", "DNMC")
    category = of("DMC", "DNMC")

    steps = np.zeros((size, 6), dtype=np.int64)
    steps[:, periods.RESPONSE] = _RESPONSE
    for names, options_by_period in _PERIODS.items():
        family = of(*names)
        for period, options in enumerate(options_by_period):
            steps[family, period] = rng.choice(np.array(options) // DT, int(family.sum()))

    location = rng.uniform(0, 2 * np.pi, (2, size))
    apart = rng.uniform(0.5 * np.pi, 1.5 * np.pi, size), rng.uniform(np.pi / 9, 17 * np.pi / 9, size)
    location[1] = location[0] + np.where(decision, apart[0], np.where(coin, 0, apart[1]))
    # ten locations, five in each category; the second is in the category of the first if the coin says match
    unit = rng.integers(0, 10, size)
    partner = np.where(coin, unit // 5, 1 - unit // 5) * 5 + rng.integers(0, 5, size)
    location = np.where(category, (0.2 * np.stack([unit, partner]) + 0.1) * np.pi, location)

    strength = _strengths(rng, task, delayed, decision)
    modality = rng.integers(0, 2, (2, size))
    strength[0, modality[0], trial] += ~decision
    strength[1, modality[1], trial] += comparison
    # (stimulus, trial, modality × unit)
    rings = (strength.transpose(0, 2, 1)[..., None] * ring_bump(location)[:, :, None]).reshape(2, size, 2 * RING)

    inputs = np.zeros((size, 6, len(INPUTS)), dtype=np.float32)
    ring = inputs[:, :, 1 : 1 + 2 * RING]
    inputs[:, periods.CONTEXT : periods.RESPONSE, 0] = 1.0
    inputs[of("RTGo", "RTAnti"), periods.RESPONSE, 0] = 1.0
    ring[:, periods.STIMULUS] = rings[0] + np.where((decision & ~delayed)[:, None], rings[1], 0)
    ring[delayed, periods.SECOND_STIMULUS] = rings[1, delayed]
    ring[comparison, periods.RESPONSE] = rings[1, comparison]
    lasting = of("Go", "Anti", "RTGo", "RTAnti")
    ring[lasting, periods.RESPONSE] = rings[0, lasting]
    inputs[trial, :, 1 + 2 * RING + task] = 1.0

    # the modality to attend to; both where the task integrates them
    weight = np.stack([~of("DM2", "CtxDM2", "DlyDM2", "CtxDlyDM2"), ~of("DM1", "CtxDM1", "DlyDM1", "CtxDlyDM1")])
    evidence = (strength * weight).sum(axis=1)
    answer = np.where(comparison | (decision & (evidence[1] > evidence[0])), location[1], location[0])
    answer = answer + np.where(of("Anti", "RTAnti", "DlyAnti"), np.pi, 0)
    fixate = comparison & (coin == of("DNMS", "DNMC"))

    targets = np.full((size, 2, len(OUTPUTS)), _BASELINE, dtype=np.float32)
    targets[:, 0, 0] = _HIGH
    targets[fixate, 1, 0] = _HIGH
    targets[~fixate, 1, 1:] += ring_bump(answer[~fixate])
    lengths = steps.sum(axis=1)
    go = lengths - _RESPONSE
    margin = np.full(size, _MARGIN)
    weights = np.zeros((size, 4, len(OUTPUTS)), dtype=np.float32)
    weights[:, 1], weights[:, 3] = 1.0, 5.0
    weights[..., 0] *= 2.0

    longest = {name: sum(max(options) // DT for options in each) for names, each in _PERIODS.items() for name in names}
    time = max(longest[TASKS[index]] for index in chosen) + _RESPONSE
    return periods.Trials(
        inputs=periods.lay_out(steps, inputs, time, noise=(rng, NOISE)),
        targets=periods.lay_out(np.stack([go, lengths - go], axis=1), targets, time),
        mask=periods.lay_out(np.stack([margin, go - margin, margin, lengths - go - margin], axis=1), weights, time),
        lengths=lengths,
        answers=targets[:, 1],
        group=group,
        period=periods.label_steps(steps, time),
    )


def _strengths(
    rng: np.random.Generator, task: NDArray[np.int64], delayed: NDArray[np.bool_], decision: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """The strength of each stimulus in each modality, shape ``(2, 2, trials)``, 0 in tasks without a decision."""
    size = len(task)
    mean = rng.uniform(0.8, 1.2, (2, size))
    coherence = np.where(
        delayed, rng.choice([0.08, 0.16, 0.32], (2, size)), rng.choice([0.01, 0.02, 0.04, 0.08], (2, size))
    )
    difference = coherence * rng.choice([-1, 1], (2, size))
    strength = np.stack([mean + difference, mean - difference])
    # the integration tasks divide one strength between the modalities
    shift = strength[:, 0] * rng.uniform(0.2, 0.8, (2, size)) * rng.choice([-1, 1], (2, size)) / 2
    both = np.isin(task, [TASKS.index("MultiDM"), TASKS.index("MultiDlyDM")])
    strength = np.where(both, np.stack([strength[:, 0] + shift, strength[:, 0] - shift], axis=1), strength)
    strength[:, 1, np.isin(task, [TASKS.index("DM1"), TASKS.index("DlyDM1")])] = 0
    strength[:, 0, np.isin(task, [TASKS.index("DM2"), TASKS.index("DlyDM2")])] = 0
    return np.where(decision, strength, 0.0)
