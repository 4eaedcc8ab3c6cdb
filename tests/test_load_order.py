"""A load reads, finds what is needed, resolves every import, validates, and only then compiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from fields import MEMORY, TABLE
from fields import wasm as written
from guests import orderly
from pylinker.linker.modules.locator import Locator
from pylinker.linker.plan.resolver import Resolver
from pylinker.runtime import code
from running import sizes

ANSWER = '(func (export "answer") (result i32) (i32.const 42))'
MAIN = ('(memory (export "memory") 1)', '(func (export "_start"))')
FIXED = (
    *MAIN,
    '(table (export "__indirect_function_table") 1 funcref)',
    '(global (export "__stack_pointer") (mut i32) (i32.const 65536))',
)


def wasm(path: Path, *fields: str, **keywords: Any) -> Path:
    """Write a module with unique bytes: a process keeps the code of modules that it compiled."""
    return written(path, *fields, f'(@custom "of" "{path}")', **keywords)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


class Steps(list[tuple[str, object]]):
    """Events in order: ("find", name), ("decide", name), ("validate", data), ("compile", data)."""

    def of(self, path: Path) -> list[str]:
        """The events of a file's bytes."""
        return [what for what, about in self if about == path.read_bytes()]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps = Steps()
    original = wasmtime.Module

    class Noting(original):
        def __init__(self, engine: wasmtime.Engine, data: bytes) -> None:
            steps.append(("compile", bytes(data)))
            super().__init__(engine, data)

        @classmethod
        def validate(cls, engine: wasmtime.Engine, data: bytes) -> None:
            steps.append(("validate", bytes(data)))
            original.validate(engine, data)

    monkeypatch.setattr(code.wasmtime, "Module", Noting)

    def noting(
        what: str, function: Callable[..., Any], name: Callable[..., object]
    ) -> Callable[..., Any]:
        def noted(*arguments: Any, **keywords: Any) -> Any:
            steps.append((what, name(*arguments)))
            return function(*arguments, **keywords)

        return noted

    monkeypatch.setattr(Locator, "find", noting("find", Locator.find, lambda _, name: name))
    monkeypatch.setattr(
        Resolver,
        "resolve",
        noting("decide", Resolver.resolve, lambda resolver: resolver._module.name),
    )
    return steps


def invalid(path: Path) -> Path:
    """Write a library that is well-formed but for a function that returns no i32 as declared."""
    data = wasm(path, ANSWER).read_bytes()
    assert b"\x41\x2a\x0b" in data
    path.write_bytes(data.replace(b"\x41\x2a\x0b", b"\x01\x01\x0b"))
    return path


def test_each_step_is_done_for_all_modules_before_the_next(tmp_path: Path, steps: Steps) -> None:
    one = wasm(
        tmp_path / "libone.so", '(import "env" "answer" (func (result i32)))', needed=("libtwo.so",)
    )
    two = wasm(tmp_path / "libtwo.so", ANSWER)
    with pylinker.Program(library_path=[tmp_path], cache=False) as program:
        steps.clear()
        program.dlopen("libone.so")
    done = [
        (what, about)
        for what, about in steps
        if about in ("libone.so", "libtwo.so", one.read_bytes(), two.read_bytes())
    ]
    assert done == [
        ("find", "libone.so"),
        ("find", "libtwo.so"),
        ("decide", "libtwo.so"),
        ("decide", "libone.so"),
        *[(what, each.read_bytes()) for what in ("validate", "compile") for each in (one, two)],
        ("decide", "libtwo.so"),  # for good, while the others wait
        ("decide", "libone.so"),
    ]


def test_with_code_at_hand_nothing_is_done_twice(tmp_path: Path, steps: Steps) -> None:
    library = wasm(tmp_path / "libone.so", ANSWER)
    pylinker.CDLL(library, cache=tmp_path / "cache").close()
    assert steps.of(library) == ["validate", "compile"]
    for cache in (tmp_path / "cache", str(tmp_path / "link")):  # in memory, and on disk
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to("cache")
        with pylinker.Program(library_path=[tmp_path], cache=cache) as program:
            for _ in range(2):
                steps.clear()
                with program.dlopen("libone.so") as opened:
                    assert opened.answer() == 42
                assert steps.of(library) == []
                assert steps.count(("decide", "libone.so")) == 1


UNLINKABLE = {
    "undefined data": (
        pylinker.UndefinedSymbolError,
        {},
        '(import "GOT.mem" "nothing" (global (mut i32)))',
    ),
    "undefined function": (
        pylinker.UndefinedSymbolError,
        {"bind_now": True},
        '(import "env" "nothing" (func))',
    ),
    "undefined global": (
        pylinker.UndefinedSymbolError,
        {},
        '(import "env" "nothing" (global i32))',
    ),
    "undefined tag": (pylinker.UndefinedSymbolError, {}, '(import "env" "nothing" (tag))'),
    "another kind": (
        pylinker.SignatureMismatchError,
        {},
        '(import "GOT.mem" "answer" (global (mut i32)))',
    ),
    "a memory of 64 bits": (
        pylinker.UnsupportedError,
        {},
        '(import "env" "memory" (memory i64 1))',
    ),
}


@pytest.mark.parametrize("kind", UNLINKABLE)
def test_what_cannot_be_linked_is_not_compiled(tmp_path: Path, steps: Steps, kind: str) -> None:
    error, keywords, field = UNLINKABLE[kind]
    library = wasm(tmp_path / "libone.so", field, ANSWER)
    user = wasm(
        tmp_path / "libuser.so",
        '(import "env" "answer" (func (result i32)))',
        needed=("libone.so",),
    )
    with pylinker.Program(library_path=[tmp_path], cache=False, **keywords) as program:
        before = sizes(program)
        for name in ("libone.so", "libone.so", "libuser.so"):
            with pytest.raises(error):
                program.dlopen(name)
            assert sizes(program) == before
        assert steps.of(library) == steps.of(user) == []
        wasm(tmp_path / "libone.so", ANSWER)
        assert program.dlopen("libuser.so")
    wasm(tmp_path / "libone.so", field, ANSWER)
    for start in (
        lambda: pylinker.CDLL(user, cache=False, **keywords),
        lambda: pylinker.Program(user, cache=False, **keywords),
    ):
        steps.clear()
        with pytest.raises(error):
            start()
        assert steps.of(library) == steps.of(user) == []


def test_a_library_that_is_missing_is_known_before_anything_is_compiled(
    tmp_path: Path, steps: Steps
) -> None:
    library = wasm(tmp_path / "libone.so", ANSWER, needed=("libnone.so",))
    main = wasm(tmp_path / "main.wasm", *MAIN, needed=("libone.so",))
    fixed = wasm(tmp_path / "fixed.wasm", *FIXED, dynamic=False)
    for start in (
        lambda: pylinker.CDLL(library, cache=False),
        lambda: pylinker.Program(main, cache=False),
        lambda: pylinker.Program(fixed, preload=["libone.so"], cache=False),
    ):
        with pytest.raises(pylinker.LibraryNotFoundError, match="libnone"):
            start()
    assert steps.of(library) == steps.of(main) == steps.of(fixed) == []


def test_a_module_that_is_not_valid_is_known_before_anything_is_compiled(
    tmp_path: Path, steps: Steps
) -> None:
    bad = invalid(tmp_path / "libbad.so")
    library = wasm(tmp_path / "libone.so", ANSWER, needed=("libbad.so",))
    main = wasm(tmp_path / "main.wasm", *MAIN, needed=("libone.so",))
    fixed = wasm(tmp_path / "fixed.wasm", *FIXED, dynamic=False)
    with pylinker.Program(library_path=[tmp_path], cache=False) as program:
        before = sizes(program)
        for _ in range(2):
            with pytest.raises(pylinker.ParseError, match=r"libbad\.so"):
                program.dlopen("libone.so")
            assert sizes(program) == before
    for start in (
        lambda: pylinker.CDLL(library, cache=False),
        lambda: pylinker.Program(main, cache=False),
        lambda: pylinker.Program(fixed, preload=["libone.so"], cache=False),
    ):
        with pytest.raises(pylinker.ParseError, match=r"libbad\.so"):
            start()
    assert "compile" not in [*steps.of(library), *steps.of(main), *steps.of(fixed)]
    assert steps.of(bad) == ["validate"]  # once in this process


def test_a_rehearsal_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No slot, tag, callback, pointer to a host function, or binding in another module is left.

    Rehearsals of several threads may run at the same time: they hold the read lock.
    """
    wasm(tmp_path / "libbase.so", ANSWER, TABLE)
    fields = (
        '(import "GOT.func" "answer" (global (mut i32)))',
        '(import "GOT.func" "host" (global (mut i32)))',
        '(import "env" "host" (func (param i32)))',
        '(import "env" "__cpp_exception" (tag (param i32)))',
        MEMORY,
        TABLE,
    )
    wasm(
        tmp_path / "libbad.so", *fields, '(import "GOT.mem" "nothing" (global (mut i32)))', slots=3
    )
    wasm(tmp_path / "libgood.so", *fields, slots=3)
    with pylinker.Program(
        library_path=[tmp_path],
        preload=["libbase.so"],
        imports={"host": lambda _: None},
        cache=False,
    ) as program:
        linker = program._linker
        assert linker is not None
        before = sizes(program)
        for _ in range(2):
            with pytest.raises(pylinker.UndefinedSymbolError):
                program.dlopen("libbad.so")
            assert sizes(program) == before
            assert not linker.state.imports.pointers
            assert not linker.state.imports._callbacks
            assert not linker.state.tags
        seen: list[int] = []
        validate = code.Uncompiled.validate

        def noting(self: code.Uncompiled) -> None:
            assert linker is not None
            seen.append(len(linker.state.tags) + len(linker.state.imports._callbacks))
            validate(self)

        monkeypatch.setattr(code.Uncompiled, "validate", noting)
        for _ in range(3):
            program.dlopen("libgood.so").close()
        assert seen[0] == 0  # between the rehearsal and the load
        assert sizes(program)[:2] == before[:2]
