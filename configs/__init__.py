"""Configurations that come with the package, one YAML a task: ``alrnn configs`` lists them."""

from importlib import resources
from pathlib import Path


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package.

    Returns:
        Path of each by its name, which has no suffix.
    """
    folder = Path(str(resources.files(__name__)))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}
