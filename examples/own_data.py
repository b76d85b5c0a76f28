"""Train on arrays of your own, and print which regimes the network uses and where its fixed points lie.

The data stand for yours: 1,000 trials of 20 samples of noisy evidence and a rule, +1 or −1. Under the one rule the
answer is the sign of the summed evidence, under the other the opposite.

    python examples/own_data.py
"""

from __future__ import annotations

import logging
import warnings
from typing import cast

import numpy as np
import torch
from pytorch_lightning import Trainer, seed_everything

from lightning_alrnn import ALRNN, ActiveUnits, ALRNNModule, Arrays, FixedPoints, RegimeOccupancy
from lightning_alrnn.analysis import FixedPointSet, bitcode, fixed_points

UNITS, NONLINEAR = 10, 2


def make_trials(seed: int = 0) -> Arrays:
    """Any arrays will do: inputs (trials, time, channels), a target for each trial and, if there are any, its group."""
    rng = np.random.default_rng(seed)
    evidence = rng.normal(0.3 * rng.choice([-1, 1], (1000, 1)), 1.0, (1000, 20))
    rule = rng.choice([-1, 1], (1000, 1))
    inputs = np.stack([evidence, np.broadcast_to(rule, evidence.shape)], axis=2).astype(np.float32)
    choice = np.where(evidence.sum(axis=1) * rule[:, 0] > 0, "right", "left")
    return Arrays(inputs, targets=choice, group=np.where(rule[:, 0] > 0, "same", "opposite"))


def main(epochs: int = 60) -> dict[str, float]:
    """Fit, test, and print what the network does."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    seed_everything(0)
    data = make_trials()
    model = ALRNNModule(
        data.input_size,
        data.output_size,
        hidden_size=UNITS,
        nonlinear_units=NONLINEAR,
        init="near_identity",
        objective=data.objective,
        target_step=data.target_step,
        group_names=data.group_names,
        mar_strength=0.01,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.005),
    )
    regimes, units = RegimeOccupancy(), ActiveUnits()
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=1.0,
        callbacks=[regimes, units, FixedPoints()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    scores = dict(trainer.test(model, data, verbose=False)[0])

    print(f"\ntest accuracy     {scores['test/accuracy']:.3f}")
    print(f"active units      {units.result.active} of {NONLINEAR}")
    print("regimes visited   share of steps, by which units are on")
    for code, count in zip(regimes.result.codes, regimes.result.counts.tolist(), strict=True):
        print(f"  {bitcode(code)}              {count / regimes.result.steps:.3f}")
    print("fixed points      with the evidence at zero")
    for rule, name in ((1.0, "same"), (-1.0, "opposite")):
        found = cast(FixedPointSet, fixed_points(cast(ALRNN, model.core), torch.tensor([0.0, rule])))
        for code, stability, times in zip(found.code, found.stability, found.timescales, strict=True):
            slowest = float(times.abs().max())
            print(f"  {name:<16}{stability} in regime {bitcode(code)}, its slowest mode {slowest:.0f} steps")
        if not len(found.z):
            print(f"  {name:<16}none, {found.certificate}")
    return scores


if __name__ == "__main__":
    main()
