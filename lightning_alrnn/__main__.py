"""``python -m lightning_alrnn``, which is the ``alrnn`` command."""

from lightning_alrnn.commands.main import main

if __name__ == "__main__":
    main()
