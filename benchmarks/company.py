"""Threads of the guest that run in a loop of host calls while something is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wasmtime

import pylinker

__all__ = ["BUSY", "LOOP", "SHARED", "looping", "threaded", "write"]

SHARED = '(import "env" "memory" (memory 1 1024 shared))'
"""What a module of a threaded program imports as its memory."""

LOOP = f"""(module
  (@dylink.0 (mem-info (memory 8 2)))
  {SHARED}
  (import "env" "__memory_base" (global $base i32))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (func (export "loop")
    (drop (i32.atomic.rmw.add offset=4 (global.get $base) (i32.const 1)))
    (loop $again
      (drop (call $yield))
      (br_if $again (i32.eqz (i32.atomic.load (global.get $base))))))
  (func (export "begun") (result i32) (i32.atomic.load offset=4 (global.get $base)))
  (func (export "halt") (i32.atomic.store (global.get $base) (i32.const 1))))"""


BUSY = f"""(module
  (@dylink.0 (mem-info (memory 24 3)))
  {SHARED}
  (import "env" "__memory_base" (global $base i32))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (func (export "loop")
    (drop (i32.atomic.rmw.add offset=4 (global.get $base) (i32.const 1)))
    (loop $again
      (drop (call $clock (i32.const 1) (i64.const 1) (i32.add (global.get $base) (i32.const 16))))
      (br_if $again (i32.eqz (i32.atomic.load (global.get $base))))))
  (func (export "begun") (result i32) (i32.atomic.load offset=4 (global.get $base)))
  (func (export "halt") (i32.atomic.store (global.get $base) (i32.const 1))))"""
"""The same with a host call that does not give up the processor."""


def write(directory: Path, name: str, text: str) -> Path:
    """Write the module that ``text`` describes and return its path."""
    path = directory / name
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


@contextmanager
def looping(
    program: pylinker.Program, directory: Path, count: int, text: str = LOOP
) -> Iterator[pylinker.Library]:
    """Have ``count`` threads call ``sched_yield`` in a loop: running groups in each rendezvous.

    Yields the library that they run in, ``text``, which exports what ``LOOP`` does.
    """
    with program.dlopen(write(directory, "libloop.so", text)) as library:
        threads = [program.spawn(library["loop"]) for _ in range(count)]
        while library["begun"]() < count:
            time.sleep(0.001)
        try:
            yield library
        finally:
            library["halt"]()
            for thread in threads:
                thread.join()


def threaded(directory: Path) -> pylinker.Program:
    """Return a program that may have threads, with nothing in it."""
    memory = write(directory, "libmemory.so", f"(module (@dylink.0 (mem-info)) {SHARED})")
    return pylinker.Program(None, preload=[memory], threads=True, stack_size=1 << 14)
