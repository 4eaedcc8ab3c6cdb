"""Objects whose identity matters are made once in a process, whichever threads ask first."""

from __future__ import annotations

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pylinker.runtime import types
from pylinker.runtime.once import once
from pylinker.wasm import Limits

ROOT = Path(__file__).parent.parent

_THREADS = """
import sys, threading
sys.setswitchinterval(1e-6)

def together(call):
    barrier, results = threading.Barrier(8), []
    def run():
        barrier.wait()
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)
    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
"""

_MAKERS = """
from pylinker.runtime.engine import engine
from pylinker.runtime.types import function_type, i32_global_type, tag_type
from pylinker.wasm import FuncType, TagType
signature = FuncType(("f64",), ("f32",))
tag = TagType(FuncType(("f64",), ()))
types = lambda: function_type(signature), lambda: tag_type(tag)
for make in (engine, *types, lambda: i32_global_type(mutable=True)):
    print(len(set(together(make))))
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120
    )


def test_eight_threads_get_the_same_object() -> None:
    for _ in range(10):
        done = _run(_THREADS + _MAKERS)
        assert (done.returncode, done.stdout.split()) == (0, ["1"] * 4), done.stderr


def test_the_first_programs_of_a_process_may_be_made_by_many_threads() -> None:
    script = f"""{_THREADS}
import pylinker
from pylinker.demo import DIRECTORY
path = DIRECTORY / "libgreet.so"
def program():
    with pylinker.CDLL(path) as library:
        return library.name
results = together(program)
print(results if len(set(results)) > 1 else "same")
"""
    for _ in range(6):
        done = _run(script)
        assert (done.returncode, done.stdout.strip()) == (0, "same"), (done.stdout, done.stderr)


def test_a_thread_waits_for_the_one_that_makes_the_object() -> None:
    begun, finish, results, calls = threading.Event(), threading.Event(), [], []

    @once
    def make() -> object:
        calls.append(1)
        begun.set()
        finish.wait(30)
        return object()

    threads = [threading.Thread(target=lambda: results.append(make())) for _ in range(2)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    threads[1].join(
        0.1
    )  # it has no way to tell that it waits; without a lock it makes a second object now
    finish.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert results[0] is results[1]


def test_what_failed_is_made_by_the_next_call() -> None:
    made = iter([MemoryError("once"), None])

    @once
    def make() -> int:
        error = next(made)
        if error is not None:
            raise error
        return 7

    with pytest.raises(MemoryError):
        make()
    assert make() == 7


def test_an_object_made_within_its_own_making_is_the_one() -> None:
    """As a signal handler does that makes a program while the main thread makes the first."""
    inner: list[object] = []

    @once
    def make() -> object:
        if not inner:
            inner.append(None)
            inner[0] = make()
        return object()

    assert make() is inner[0]
    assert make() is inner[0]


def test_a_table_type_belongs_to_its_user() -> None:
    """The linker keeps the type in the record for new groups: other uses of it do not free it."""
    kept = types.table_type(Limits(0, 7))
    others = [types.table_type(Limits(0, size)) for size in range(200)]
    assert len({types.address_of(each) for each in [kept, *others]}) == 201


def test_caches_that_may_make_an_object_twice_are_known() -> None:
    """``functools.cache`` and ``lru_cache`` are for values, not for objects passed by address."""
    found: dict[str, int] = {}
    package = ROOT / "pylinker"
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = (
                node.attr
                if isinstance(node, ast.Attribute)
                else node.name
                if isinstance(node, ast.alias)
                else None
            )
            assert named != "cached_property", f"{path}: made_once does without its lock"
            if named in ("cache", "lru_cache"):
                name = path.relative_to(package).as_posix()
                found[name] = found.get(name, 0) + 1
    assert found == {"runtime/wasi.py": 1, "runtime/code.py": 1, "runtime/outline.py": 1}
