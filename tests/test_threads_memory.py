"""Threads that find no address space: their starter is told, and the program goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import os, resource, sys, pylinker, wasmtime
PROGRAM = '''(module
  (import "env" "memory" (memory 1 4000 shared))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (func $wait (export "wait")
    (drop (i32.atomic.rmw.add (i32.const 32) (i32.const 1)))
    (drop (memory.atomic.wait32 (i32.const 16) (i32.const 0) (i64.const -1))))
  (func (export "wasi_thread_start") (param i32 i32) (call $wait))
  (func (export "spawn") (result i32) (call $spawn (i32.const 0)))
  (func (export "begun") (result i32) (i32.atomic.load (i32.const 32)))
  (func (export "answer") (result i32) (i32.const 42))
  (func (export "_start")))'''
program = pylinker.Program(wasmtime.wat2wasm(PROGRAM), threads=True, stack_size=4096,
  limits=pylinker.Limits(threads=100000))
by_guest, answer = program.main["spawn"], program.main["answer"]

def by_python():
    try:
        return program.spawn("wait").tid
    except pylinker.LimitError:
        return -1

spawn = {"guest": by_guest, "python": by_python}[sys.argv[1]]
def run(count):
    "Start so many threads, one beside the other; return how many there are, and begun."
    global threads
    started = sum(spawn() > 0 for _ in range(count))
    threads += started
    while program.main["begun"]() < threads:  # until then they take memory
        os.sched_yield()
    return started

threads = 0
assert run(1) == 1
refused = 0
# Each step of a thread's start is once the one without memory.
for room in range(64 << 10, 20 << 20, 200 << 10):
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
    started = run(3)
    assert answer() == 42
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    refused += started < 3
assert run(3) == 3
program.close()
print(refused > 50)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limit and the size of the process are Linux's"
)
@pytest.mark.parametrize("starter", ["guest", "python"])
def test_a_thread_without_address_space_is_an_error(starter: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, starter],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
