"""The compiled part: everything else stands in pyproject.toml."""

import sys

from setuptools import Extension, setup

flags = [] if sys.platform == "win32" else ["-O3", "-pthread"]

setup(
    ext_modules=[
        Extension(
            "lightning_alrnn.nn.scan._kernel",
            ["lightning_alrnn/nn/scan/_kernel.c"],
            extra_compile_args=flags,
            extra_link_args=flags[1:],
            py_limited_api=True,
            optional=True,  # without a compiler the package installs, and runs the recurrence in PyTorch
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
