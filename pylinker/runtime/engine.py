"""The engine all programs of a process share, and what identifies its configuration."""

from __future__ import annotations

import functools
import hashlib
import platform
import sys

import wasmtime

from pylinker.runtime.compat import VERSION
from pylinker.runtime.teardown import outlives_interpreter

__all__ = ["FINGERPRINT", "engine"]

# What is switched on beyond wasmtime's defaults, by the name of the Config property. Shared memory and threads cost nothing in
# code that does not use them; exceptions need the two proposals they are built on.
_FEATURES = {
    "wasm_threads": True,
    "shared_memory": True,
    "wasm_tail_call": True,
    "wasm_function_references": True,
    "wasm_gc": True,
    "wasm_exceptions": True,
}

# A compiled module fits one wasmtime, one configuration and one kind of machine (wasmtime checks the processor's features
# itself when it loads one).
FINGERPRINT = hashlib.sha256(repr((VERSION, sorted(_FEATURES.items()), sys.platform, platform.machine())).encode()).digest()


@functools.lru_cache(maxsize=1)
def engine() -> wasmtime.Engine:
    """Return the engine of this process. Engines are safe to use from all threads; compiled modules belong to one."""
    config = wasmtime.Config()
    for name, value in _FEATURES.items():
        setattr(config, name, value)
    shared = wasmtime.Engine(config)
    outlives_interpreter(shared)
    return shared
