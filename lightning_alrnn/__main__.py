"""``python -m lightning_alrnn`` is the ``alrnn`` command."""

from lightning_alrnn.cli import main

if __name__ == "__main__":
    main()
