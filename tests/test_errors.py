"""Errors reach other processes: each can be copied and pickled, with all it says."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pylinker import errors

MADE: dict[str, Callable[[], BaseException]] = {
    "InternalError": lambda: errors.InternalError("a reason"),
    "LibraryNotFoundError": lambda: errors.LibraryNotFoundError(
        "libm.so", searched=[("/lib", "not there")], requester="main"
    ),
    "ParseError": lambda: errors.ParseError("too short", module="a.so", section="type", offset=8),
    "RendezvousTimeout": lambda: errors.RendezvousTimeout("thread 3 did not come", thread=3),
    "SignatureMismatchError": lambda: errors.SignatureMismatchError(
        module="a.so", symbol="f", wanted="(i32) -> i32", provider="b.so", found="() -> i32"
    ),
    "TimeoutExpired": lambda: errors.TimeoutExpired("not done", module="a.so", timeout=0.5),
    "UndefinedSymbolError": lambda: errors.UndefinedSymbolError(
        [
            errors.UndefinedSymbol("a.so", "f", "function"),
            errors.UndefinedSymbol("a.so", "d", "data"),
        ],
        note="a note",
    ),
}
"""Those whose parameters are not those of LinkError."""

KINDS = [
    kind for name in errors.__all__ if issubclass(kind := getattr(errors, name), BaseException)
]


def made(kind: type[BaseException]) -> BaseException:
    other: Callable[[], BaseException] = lambda: kind("a reason", module="a.so", symbol="f")  # type: ignore[call-arg]  # noqa: E731
    return MADE.get(kind.__name__, other)()


def same(one: BaseException, other: BaseException) -> bool:
    return (type(one), str(one), one.args, vars(one)) == (
        type(other),
        str(other),
        other.args,
        vars(other),
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
class TestCopies:
    def test_a_copy_is_the_same(self, kind: type[BaseException]) -> None:
        error = made(kind)
        error.__notes__ = ["a note"]
        for copied in (copy.copy, copy.deepcopy):
            assert same(error, copied(error))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert same(error, pickle.loads(pickle.dumps(error, protocol)))

    def test_that_of_a_users_subclass(self, kind: type[BaseException]) -> None:
        class Own(kind):  # type: ignore[misc, valid-type]
            def __init__(self, one: int, two: int) -> None:
                self.args = (f"{one} and {two}",)
                self.message = self.args[0]
                self.one, self.two = one, two

        error = Own(1, 2)
        assert same(error, copy.copy(error))


POOL = """
import multiprocessing, sys
import test_errors

def fail(name):
    raise test_errors.made(getattr(test_errors.errors, name))

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
        for kind in test_errors.KINDS:
            try:
                pool.apply(fail, (kind.__name__,))
            except kind as error:
                expected = test_errors.made(kind)
                assert (str(error), vars(error)) == (str(expected), vars(expected)), error
        print("all of", len(test_errors.KINDS))
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_of_a_pool_raise_them(tmp_path: Path, method: str) -> None:
    (tmp_path / "pool.py").write_text(POOL)
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    done = subprocess.run(
        [sys.executable, "pool.py", method],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"all of {len(KINDS)}\n", "")
