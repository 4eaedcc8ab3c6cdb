"""The part of the packaging that ``pyproject.toml`` cannot say: the C core, and the tag of its wheel."""

import sysconfig

from setuptools import setup

# cffi uses the limited API, so that one wheel serves every CPython from 3.10 on; a free-threaded build has no limited API.
limited = not sysconfig.get_config_var("Py_GIL_DISABLED")

setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if limited else {},
)
