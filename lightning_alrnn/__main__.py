"""The ``alrnn`` command, which is ``python -m lightning_alrnn``, too.

To import torch and Lightning takes seconds. What need not wait for them comes before.
"""

import sys

from lightning_alrnn.help import FLAGS, find_screen


def main() -> None:
    """Run the ``alrnn`` command, as :func:`lightning_alrnn.cli.main` does, with the arguments of this process."""
    arguments = sys.argv[1:]
    if (screen := find_screen(arguments)) is not None:
        sys.stdout.write(screen)
        return
    if arguments[:1] == ["sweep"] and not FLAGS & set(arguments):
        sys.stderr.write("alrnn sweep: starting; PyTorch and Lightning take some seconds to import\n")
        if not {"inline", "slurm", "--executor=inline", "--executor=slurm"} & set(arguments):
            from lightning_alrnn.sweep.workers import prepare_workers

            prepare_workers()
    from lightning_alrnn import cli

    cli.main()


if __name__ == "__main__":
    main()
