"""Train a network to remember three bits, and find where it keeps them.

Each of three inputs is a train of rare pulses, +1 or −1; each of three outputs is to hold the sign of its input's last
pulse. What a network needs for it is a stable fixed point for each of the 2³ memories, and between these the saddles
and unstable points that divide them: 3³ = 27 in all where the three bits are kept apart.

    python examples/flip_flop.py
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Trainer, seed_everything

from lightning_alrnn import ALRNNModule, SequenceBatch
from lightning_alrnn.analysis import FixedPointSet, fixed_points
from lightning_alrnn.batch import Split
from lightning_alrnn.datamodules.base import SequenceDataModule, draw_trials, full_lengths
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting import plot_state_space
from lightning_alrnn.plotting.page import save_figure

BITS, STEPS, PULSE_PROBABILITY = 3, 60, 0.1
SIZES: dict[Split, int] = {"train": 2000, "val": 200, "test": 200}


class FlipFlop(SequenceDataModule):
    """Three-bit memory: inputs ``(batch, 60, 3)``, targets of the same shape, at every step."""

    input_size = output_size = BITS
    objective = "regression"
    target_step = "every"

    def __init__(self, batch_size: int = 64, num_workers: int = 0, seed: int = 0) -> None:
        super().__init__(batch_size, num_workers, seed)

    def build(self, split: Split) -> SequenceBatch:
        """All sequences of a split."""
        inputs, targets = draw_trials(SIZES[split], draw, seed=self.seed, split=split)
        return SequenceBatch(inputs, targets, full_lengths(inputs))


def draw(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], ...]:
    """Pulses, the first at step 0 for every bit, and the sign of the last one."""
    pulses = rng.choice([-1.0, 1.0], (size, STEPS, BITS)) * (rng.random((size, STEPS, BITS)) < PULSE_PROBABILITY)
    pulses[:, 0] = rng.choice([-1.0, 1.0], (size, BITS))
    last = np.maximum.accumulate(np.where(pulses != 0, np.arange(STEPS)[:, None], 0), axis=1)
    return pulses.astype(np.float32), np.take_along_axis(pulses, last, axis=1).astype(np.float32)


def main(folder: Path = Path("runs/FlipFlop"), epochs: int = 40) -> FixedPointSet:
    """Train, find the fixed points, print and draw them."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    seed_everything(0)
    data = FlipFlop()
    model = ALRNNModule(
        BITS,
        BITS,
        hidden_size=15,
        nonlinear_units=12,
        objective="regression",
        target_step="every",
        mar_strength=0.0,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.005),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
    )
    trainer = Trainer(
        max_epochs=epochs, gradient_clip_val=1.0, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    trainer.fit(model, data)

    rnn = cast(ALRNN, model.core)
    with torch.no_grad():
        batch = data.build("test")
        prediction = model(batch.inputs)
        error = float((prediction.outputs - batch.targets).square().mean())
        found = cast(FixedPointSet, fixed_points(rnn, readout=model.readout.double()))
    print(f"\ntest error        {error:.3f} (a network that forgets at once: about 1)")
    print(f"fixed points      {len(found.z)}, {found.certificate}; index sum {found.index_sum:+d}")
    for kind in ("stable", "saddle", "unstable", "marginal"):
        print(f"  {kind:<16}{found.stability.count(kind)}")
    print("memories (readout of the stable ones)")
    for kind, readout in zip(found.stability, cast(torch.Tensor, found.readout), strict=True):
        if kind == "stable":
            print("  " + " ".join(f"{value:+.2f}" for value in readout.tolist()))
    save_figure(plot_state_space(prediction.states[:32], batch.lengths[:32], found), folder / "state_space")
    print(f"figure            {folder / 'state_space.png'}")
    return found


if __name__ == "__main__":
    main()
