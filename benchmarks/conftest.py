"""The small library under measurement, in the forms that each contender wants."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

from pylinker.benchmarks.guests import Guests

LIBRARY = r"""(module
  (@dylink.0 (mem-info (memory 16 2)))
  (import "env" "memory" (memory 1))
  (import "env" "__memory_base" (global $base i32))
  (import "env" "sink" (func $sink (param i32) (result i32)))
  (data (global.get $base) "sixteen bytes ..")
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "nothing"))
  (func (export "through") (param i32) (result i32) (call $sink (local.get 0))))"""


@pytest.fixture(scope="session")
def library_bytes() -> bytes:
    """A dylink.0 library with some data, three functions, and one import that is bound late."""
    return bytes(wasmtime.wat2wasm(LIBRARY))


@pytest.fixture(scope="session")
def library_path(tmp_path_factory: pytest.TempPathFactory, library_bytes: bytes) -> Path:
    """The library as a file."""
    path = tmp_path_factory.mktemp("benchmark") / "libsmall.so"
    path.write_bytes(library_bytes)
    return path


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Guests:
    """The WASIX program that reads its own clock."""
    return Guests(tmp_path_factory.mktemp("guests"))
