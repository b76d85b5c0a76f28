"""Additions to Lightning: exact resuming, signals, a guard against divergence, whole checkpoints, and SLURM."""
