"""``python -m lightning_alrnn``, which is the ``alrnn`` command."""

from lightning_alrnn.commands.entry import main

if __name__ == "__main__":
    main()
