"""Packaging beyond ``pyproject.toml``: the C core, the tag of its wheel, a relocated package."""

import sysconfig

from setuptools import find_packages, setup

# cffi uses the limited API, so that one wheel serves every CPython from 3.11 on; a free-threaded
# build has no limited API.
limited = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    # benchmarks/ is installed as pylinker.benchmarks (package-dir in pyproject.toml), where finding
    # packages cannot see it.
    packages=[*find_packages(include=["pylinker", "pylinker.*"]), "pylinker.benchmarks"],
    cffi_modules=["csrc/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if limited else {},
)
