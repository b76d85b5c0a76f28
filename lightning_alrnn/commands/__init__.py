"""The commands behind ``alrnn``. Help, options and ``alrnn configs`` are here without torch, which takes seconds."""

from lightning_alrnn.commands.functions import analyze_checkpoint, sweep_units

__all__ = ["analyze_checkpoint", "sweep_units"]
