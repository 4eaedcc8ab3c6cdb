"""The engine shared by all programs of a process, and a fingerprint of its configuration."""

from __future__ import annotations

import hashlib
import platform
import sys

import wasmtime

from pylinker.native.enums import STACK_GUEST
from pylinker.native.epoch import epoch_bump, epoch_tick
from pylinker.runtime.compat import VERSION
from pylinker.runtime.fork import in_child, is_child
from pylinker.runtime.once import once
from pylinker.runtime.private import address_of
from pylinker.runtime.teardown import outlives_interpreter

__all__ = ["FINGERPRINT", "bump_epoch", "compile_module", "engine", "validate_module"]

# Features beyond wasmtime's defaults, by the name of the Config property. Shared memory and threads
# cost nothing in code that does not use them; exceptions need the two proposals they are built on.
_FEATURES = {
    "wasm_threads": True,
    "shared_memory": True,
    "wasm_tail_call": True,
    "wasm_function_references": True,
    "wasm_gc": True,
    "wasm_exceptions": True,
    # A guest that makes no call must be interruptible: by Ctrl-C, by the end of its program, by a
    # rendezvous.
    "epoch_interruption": True,
}

_TICK = 0.05
"""Seconds between two checks of a running guest; Ctrl-C must act within 0.2."""

# Compiled modules depend on wasmtime, the configuration and the kind of machine (wasmtime itself
# checks the processor's features when it loads one).
FINGERPRINT = hashlib.sha256(
    repr((VERSION, sorted(_FEATURES.items()), sys.platform, platform.machine())).encode()
).digest()


def _new_engine(*, parallel: bool) -> wasmtime.Engine:
    config = wasmtime.Config()
    for name, value in _FEATURES.items():
        setattr(config, name, value)
    config.parallel_compilation = parallel
    config.max_wasm_stack = STACK_GUEST  # the core relies on it
    shared = wasmtime.Engine(config)
    outlives_interpreter(shared)
    return shared


@once
def _engine() -> wasmtime.Engine:
    return _new_engine(parallel=True)


@once
def _lone_compiler() -> wasmtime.Engine:
    return _new_engine(parallel=False)


def compile_module(data: bytes) -> wasmtime.Module:
    """Compile a module. Raises WasmtimeError; may take seconds for a large one."""
    if is_child():  # wasmtime would wait for its threads, which are lost
        alone = wasmtime.Module(_lone_compiler(), data)
        outlives_interpreter(alone)
        return wasmtime.Module.deserialize(engine(), alone.serialize())
    return wasmtime.Module(engine(), data)


def validate_module(data: bytes) -> None:
    """Validate a module without compiling it. Raises WasmtimeError."""
    wasmtime.Module.validate(_lone_compiler() if is_child() else engine(), data)


_made: list[bool] = []
"""Not empty once a thread advances the epoch; a child of this process then needs one, too."""


@once
def _ticker() -> None:
    """Start the one thread that advances the epoch, before the engine is returned to callers."""
    epoch_tick(address_of(_engine()), _TICK)
    _made.append(True)


def _tick_in_child() -> None:
    if _made:
        epoch_tick(address_of(_engine()), _TICK)


in_child(_tick_in_child)


def engine() -> wasmtime.Engine:
    """Return the engine of this process.

    Engines are safe to use from all threads; compiled modules belong to one.
    """
    _ticker()
    return _engine()


def bump_epoch() -> None:
    """Make every running guest of this process check now."""
    epoch_bump(address_of(engine()))
