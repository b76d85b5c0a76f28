"""What a user installs: the wheel holds the tree, and nothing beside the package."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("callbacks", "configs", "datamodules")


def build_wheel(folder: Path, compiler: str) -> Path:
    """Build a wheel from a copy of the tree, so that nothing is left in it, by the function that pip calls."""
    ignore = shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "site", "__pycache__", "*.so")
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=ignore)
    (folder / "cc").write_text(compiler)
    (folder / "cc").chmod(0o755)
    command = [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('..')"]
    environment = os.environ | {"CC": str(folder / "cc")}
    subprocess.run(command, cwd=folder / "tree", check=True, capture_output=True, env=environment)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # what is to be compiled is the same without optimization, which takes half a minute
    return build_wheel(tmp_path_factory.mktemp("wheel"), '#!/bin/sh\nexec cc "$@" -O0\n')


def test_without_a_compiler_the_wheel_holds_the_rest(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(build_wheel(tmp_path, "#!/bin/false\n")) as without:
        missing = set(archive.namelist()) - set(without.namelist())
    assert [name.split(".")[0] for name in missing] == ["lightning_alrnn/nn/scan/_kernel"]


def test_wheel_holds_every_module_and_config(wheel: Path) -> None:
    package = ROOT / "lightning_alrnn"
    paths = {path for pattern in ("*.py", "*.pyi", "py.typed") for path in package.rglob(pattern)}
    expected = {
        path.relative_to(ROOT).as_posix() for path in paths if path.relative_to(package).parts[0] not in FOLDERS
    }
    for folder, pattern in itertools.product(FOLDERS, ("*.py", "*.yaml")):
        expected |= {f"lightning_alrnn/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / folder).rglob(pattern)}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name for name in names if not name.endswith((".so", ".pyd"))} == expected


def test_wheel_installs_one_package_and_one_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        (points,) = [archive.read(name).decode() for name in archive.namelist() if name.endswith("entry_points.txt")]
        metadata = next(archive.read(n).decode() for n in archive.namelist() if n.endswith("METADATA"))
    assert tops == {"lightning_alrnn", "lightning_alrnn-0.1.0.dist-info"}
    assert "alrnn = lightning_alrnn.__main__:main" in points
    assert "License-Expression: Apache-2.0" in metadata


@pytest.mark.parametrize("folder", ["callbacks", "datamodules"])
def test_folders_cannot_be_imported_under_their_short_name(folder: str) -> None:
    spec = importlib.util.spec_from_file_location(folder, ROOT / "lightning_alrnn" / folder / "__init__.py")
    with pytest.raises(ImportError, match=rf"lightning_alrnn\.{folder}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
