"""Only a wasmtime that was tested is talked to."""

import subprocess
import sys

import pytest

from pylinker.runtime import compat


@pytest.mark.parametrize("version", ["50.0.1", "50.0.2", "50.1.0", "50.9.9", "50.0.1+local", "50.2rc1"])
def test_tested_versions_are_accepted(version):
    assert compat.version_error(version) is None


@pytest.mark.parametrize("version", ["49.0.0", "50.0.0", "51.0.0", "51", "100.0.0", "0", "1.2.3", "garbage"])
def test_other_versions_are_refused_with_what_to_install(version):
    assert "pip install 'wasmtime>=50.0.1,<51'" in compat.version_error(version)


def test_the_installed_version_is_accepted():
    assert compat.version_error(compat.VERSION) is None


def fail_to_import(tmp_path, preparation):
    script = f"{preparation}\ntry:\n    import pylinker\nexcept ImportError as error:\n    print(error)\n"
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    return result.stdout


def test_import_fails_with_another_version(tmp_path):
    preparation = (
        "import importlib.metadata as m\noriginal = m.version\nm.version = lambda name: '49.0.0' if name == 'wasmtime' else original(name)"
    )
    assert "but 49.0.0 is installed" in fail_to_import(tmp_path, preparation)


def test_import_fails_with_another_layout(tmp_path):
    preparation = (
        "import ctypes\nfrom wasmtime import _bindings\n"
        "class Larger(ctypes.Structure):\n    _fields_ = [('words', ctypes.c_uint64 * 9)]\n"
        "_bindings.wasmtime_val_t = Larger"
    )
    assert "wasmtime_val_t has 72 bytes, pylinker was built for 32" in fail_to_import(tmp_path, preparation)


def test_import_fails_without_a_function(tmp_path):
    preparation = (
        "from wasmtime import _ffi\n"
        "class Without:\n"
        "    def __init__(self, dll):\n        self._dll = dll\n"
        "    def __getattr__(self, name):\n"
        "        if name == 'wasmtime_table_grow':\n            raise AttributeError(name)\n"
        "        return getattr(self._dll, name)\n"
        "_ffi.dll = Without(_ffi.dll)"
    )
    assert "has no function wasmtime_table_grow" in fail_to_import(tmp_path, preparation)
