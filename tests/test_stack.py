"""A recursing guest traps on any thread's stack; a thread with too small a stack is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_BEGIN = """
import pylinker, resource, sys, threading, wasmtime

def module(text, name=None):
    data = wasmtime.wat2wasm(text)
    if name is None:
        return data
    with open(name, "wb") as file:
        file.write(data)
    return "./" + name

def on(size, function):
    # The C library may reuse the stack of an exited thread, of up to four times the size.
    results = []
    def run():
        try:
            results.append(function())
        except BaseException as error:
            results.append(error)
    thread = threading.Thread(target=run)
    threading.stack_size(size << 10)
    thread.start()
    threading.stack_size(0)
    thread.join()
    return results[0]

def tell(*results):
    for result in results:
        kind = type(result).__name__
        text = str(result)
        text = "left" if "KiB of it are left" in text else text
        text = "stack overflow" if "call stack exhausted" in str(result) else text
        is_trap = isinstance(result, wasmtime.Trap) and text != "stack overflow"
        print(kind if is_trap else f"{kind}: {text}", flush=True)

DEEP = '''(func $deep (export "deep") (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "answer") (result i32) (i32.const 42))'''
LIBRARY = f'(module (@dylink.0 (mem-info (memory 0 0) (table 0 0))) {DEEP})'
"""

_OVERFLOW = "Trap: stack overflow"
_ANSWER = "int: 42"
_REFUSED = "StackSizeError: left"


def _run(directory: Path, script: str, *, stack: int | None = None) -> list[str]:
    """Run a script in its own process with a stack of so many KiB, and return its output."""
    command = [sys.executable, "-c", _BEGIN + script]
    if stack is not None:
        command = ["sh", "-c", f'ulimit -S -s {stack} && exec "$@"', "sh", *command]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()


def test_a_thread_with_a_small_stack_is_told_what_to_do(tmp_path: Path) -> None:
    script = """
library = pylinker.CDLL(module(LIBRARY, "deep.so"))
for size in (128, 256, 512):
    tell(on(size, lambda: library["deep"](0)), on(size, lambda: library["answer"]()))
    tell(on(size, lambda: library["answer"].bind()()))
tell(on(1024, lambda: library["deep"](0)), on(1024, library["answer"]), library["answer"]())
print(on(128, library["answer"]))
"""
    *told, message = _run(tmp_path, script)
    assert told == [_REFUSED] * 9 + [_OVERFLOW, _ANSWER, _ANSWER]
    assert "a guest may need 768;" in message  # as docs/api.md has it
    assert "threading.stack_size" in message
    assert "ulimit -s" in message


def test_a_guests_thread_has_the_same_stack_whatever_the_limit_says(tmp_path: Path) -> None:
    script = """
PROGRAM = '''(module
  (import "env" "memory" (memory 1 16 shared))
  (import "wasi" "thread-spawn" (func $spawn (param i32) (result i32)))
  (func $deep (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "wasi_thread_start") (param i32 i32)
    (drop (call $deep (i32.const 0))))
  (func (export "_start")
    (drop (call $spawn (i32.const 0)))
    (drop (memory.atomic.wait32 (i32.const 16) (i32.const 0) (i64.const -1)))))'''
tell(on(8192, lambda: pylinker.Program(module(PROGRAM)).run()))
"""
    assert _run(tmp_path, script, stack=512) == [_OVERFLOW]


def test_the_first_thread_has_what_its_limit_allows(tmp_path: Path) -> None:
    script = """
def load():
    return pylinker.CDLL(module(LIBRARY, "deep.so"))
try:
    load()
except BaseException as error:
    tell(error)
resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
library = load()
tell(library["answer"]())
try:
    library["deep"](0)
except BaseException as error:
    tell(error)
"""
    assert _run(tmp_path, script, stack=512) == [_REFUSED, _ANSWER, _OVERFLOW]


def test_a_load_on_a_small_stack_leaves_the_linker_as_it_was(tmp_path: Path) -> None:
    """Start functions, constructors and the compiler run on the thread that loads."""
    script = """
program = pylinker.Program()
START = LIBRARY[:-1] + "(func $start (drop (call $deep (i32.const 0)))) (start $start))"
CONSTRUCTOR = '(func (export "__wasm_call_ctors") (drop (call $deep (i32.const 0)))))'
paths = [module(LIBRARY, "deep.so"), module(START, "start.so")]
paths += [module(LIBRARY[:-1] + CONSTRUCTOR, "constructed.so")]
before = program.statistics().modules
for _ in range(2):
    for path in paths:
        tell(on(128, lambda: program.dlopen(path)))
for path in paths[1:]:
    tell(type(on(1024, lambda: program.dlopen(path))).__name__)
for path in paths:
    tell(on(128, lambda: program.dlopen(path)))
print(program.statistics().modules - before, program.dlopen(paths[0])["answer"]())
"""
    told = _run(tmp_path, script)
    assert told == [_REFUSED] * 6 + ["str: InitializationError"] * 2 + [_REFUSED] * 3 + ["0 42"]


def test_a_call_within_a_call_is_checked_too(tmp_path: Path) -> None:
    """The guest of another program may use as much again; the same program's has what is left."""
    script = """
def other(depth):
    return second["answer"]()
def same(depth):
    return first["deep"](0)
WITH = '''(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
  (import "env" "host" (func $host (param i32) (result i32)))
  (func $down (export "down") (param i32) (result i32)
    (if (result i32) (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))))
      (else (call $host (i32.const 0)))))
  (func $deep (export "deep") (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1))))'''
second = pylinker.CDLL(module(LIBRARY, "deep.so"))
path = module(WITH, "with.so")
for host in (other, same):
    first = pylinker.CDLL(path, imports={"host": host})
    down = first["down"]
    tell(on(8192, lambda: down(4000)), on(900, lambda: down(0)), on(900, lambda: down(4000)))
tell(second["answer"]())
"""
    assert _run(tmp_path, script) == [
        _ANSWER,
        _ANSWER,
        _REFUSED,
        _OVERFLOW,
        _OVERFLOW,
        _OVERFLOW,
        _ANSWER,
    ]


def test_a_host_function_has_room_where_the_guest_has_none(tmp_path: Path) -> None:
    """At the guest's deepest, on the smallest stack that is accepted: WASI and Python."""
    script = """
import json, re
PROGRAM = '''(module
  (import "env" "host" (func $host (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (table (export "__indirect_function_table") 2 funcref)
  (data (i32.const 100) "file")
  (func $down (export "down") (param i32 i32) (result i32)
    (if (result i32) (local.get 0) (then (call $down (i32.sub (local.get 0) (i32.const 1))
      (local.get 1))) (else
      (if (local.get 1) (then
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4) (i32.const 9)
          (i64.const 64) (i64.const 0)
          (i32.const 0) (i32.const 80)))
        (i32.store (i32.const 8) (i32.const 100)) (i32.store (i32.const 12) (i32.const 4))
        (drop (call $write (i32.load (i32.const 80)) (i32.const 8) (i32.const 1) (i32.const 84)))))
      (call $host (local.get 1))))))'''
def host(busy):
    if busy:
        json.loads("[" * 200 + "]" * 200)
        re.compile("((a|b)*(c|d)+){3}" * 20)
    return busy
program = pylinker.Program(module(PROGRAM), imports={"host": host}, dirs={"/": "."})
down = program.main["down"]
def deepest():
    works, fails = 0, 1 << 16
    while fails - works > 1:
        middle = (works + fails) // 2
        try:
            down(middle, 0)
            works = middle
        except wasmtime.Trap:
            fails = middle
    return works > 1000 and [down(works - 100, 1) for _ in range(3)]
print(on(800, deepest))
print(open("file").read())
"""
    assert _run(tmp_path, script) == ["[1, 1, 1]", "file"]


def test_a_thread_of_python_is_told_by_join(tmp_path: Path) -> None:
    script = """
PROGRAM = '''(module
  (import "env" "memory" (memory 1 64 shared))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (func (export "answer") (result i32) (i32.const 42)) (func (export "_start")))'''
program = pylinker.Program(module(PROGRAM), threads=True)
def joined(size):
    threading.stack_size(size << 10)
    try:
        return program.spawn("answer").join()
    except BaseException as error:
        return error
    finally:
        threading.stack_size(0)
tell(joined(128), joined(1024), joined(128), joined(0), program.run())
"""
    assert _run(tmp_path, script) == [_REFUSED, _ANSWER, _REFUSED, _ANSWER, "int: 0"]
