"""What the package adds to Lightning or repairs in it: none of it looks at what a network does.

Runs that resume exactly, signals that wait for the end of a step, a guard against divergence, checkpoints that are
whole or not there, and the log directories of SLURM's jobs.
"""
