"""Read a trained network, in twenty lines: its regimes, units, fixed points and slow modes.

alrnn fit --config addition_quick
python examples/read_network.py runs/Addition/version_0/checkpoints/last.ckpt
"""

from __future__ import annotations

import argparse

import torch

from lightning_alrnn import Addition, ALRNNModule
from lightning_alrnn.analysis import ablated_states, bitcode, count_regimes, fixed_points, linearise, slow_modes


def main(checkpoint: str) -> None:
    """Print what a network does that was trained on the addition task."""
    model = ALRNNModule.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    rnn, batch = model.core, Addition(sequence_length=50).build("test")
    with torch.no_grad():
        states, last = rnn(batch.inputs, lengths=batch.lengths)

        def error(last: torch.Tensor) -> float:
            return float((model.readout(last) - batch.targets).square().mean())

        print(f"test error {error(last):.2g}")
        for unit in range(rnn.nonlinear_units):
            without = ablated_states(rnn, batch.inputs, linearise(unit), batch.lengths)
            print(f"  {error(without.last):.2g} with nonlinear unit {unit} made linear")
    visited = count_regimes(states, rnn.nonlinear_units, batch.lengths)
    modes = slow_modes(rnn, visited.codes[:3], count=2)
    for code, count, times in zip(visited.codes, visited.counts, modes.timescales, strict=False):  # the first three
        share, slowest = float(count) / visited.steps, ", ".join(f"{time:.3g}" for time in times.tolist())
        print(f"regime {bitcode(code)}: {share:.1%} of the steps; slowest modes {slowest} steps")
    found = fixed_points(rnn, visited=visited.codes)
    print(f"fixed points ({found.certificate}): {', '.join(found.stability) or 'none'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Read a network that was trained on the addition task.")
    parser.add_argument("checkpoint", help="such as runs/Addition/version_0/checkpoints/last.ckpt")
    main(parser.parse_args().checkpoint)
