"""Raising the minimum of a module's memory."""

from __future__ import annotations

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pylinker.errors import LimitError, ParseError
from pylinker.wasm import Limits, MemoryType, parse_module, with_memory_minimum, writer
from pylinker.wasm.reader import sections


def program(memory: str) -> bytes:
    return wasmtime.wat2wasm(f"""(module $program
        (import "env" "f" (func (param i32)))
        (memory (export "memory") {memory})
        (func (export "size") (result i32) (memory.size))
        (data (i32.const 0) "x"))""")


def other_sections(data: bytes) -> list[bytes]:
    return [data[each.header : each.end] for each in sections(data, "m") if each.id != 5]


@settings(max_examples=40, deadline=None)
@given(
    minimum=st.integers(1, 300),
    extra=st.none() | st.integers(0, 40_000),
    pages=st.integers(0, 65_536),
)
def test_the_minimum_is_raised_and_nothing_else_changes(
    minimum: int, extra: int | None, pages: int
) -> None:
    maximum = None if extra is None else minimum + extra
    data = program(f"{minimum} {'' if maximum is None else maximum}")
    if maximum is not None and pages > maximum:
        with pytest.raises(
            LimitError,
            match=f"program: its memory may have at most {maximum} pages, but {pages} are",
        ):
            with_memory_minimum(data, pages, name="program")
        return
    raised = with_memory_minimum(data, pages, name="program")
    assert (raised is data) == (pages <= minimum)
    assert other_sections(raised) == other_sections(data)
    assert parse_module(raised).memories == (MemoryType(Limits(max(minimum, pages), maximum)),)
    wasmtime.Module.validate(wasmtime.Engine(), raised)


def test_the_memory_has_that_size_when_it_runs() -> None:
    store = wasmtime.Store()
    data = with_memory_minimum(program("1"), 300, name="m")
    nothing = wasmtime.Func(store, wasmtime.FuncType([wasmtime.ValType.i32()], []), lambda _: None)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, data), [nothing]).exports(
        store
    )
    assert exports["size"](store) == 300
    assert exports["memory"].read(store, 0, 1) == b"x"


@pytest.mark.parametrize(
    ("before", "pages", "after"),
    [
        ("1 4 shared", 3, Limits(3, 4, shared=True)),
        ("i64 1", 100_000, Limits(100_000, None, is64=True)),
        ("i64 1 200000", 100_000, Limits(100_000, 200_000, is64=True)),
        ("1 (pagesize 1)", 100_000, Limits(100_000, None)),
    ],
)
def test_other_kinds_of_memory_stay_what_they_are(
    before: str, pages: int, after: Limits, wasm_tools
) -> None:
    data = wasmtime.wat2wasm(f"(module (memory {before}))")
    raised = with_memory_minimum(data, pages, name="m")
    wasm_tools("validate", "--features", "all", data=raised)
    assert parse_module(raised).memories[0] == parse_module(data).memories[0]._replace(limits=after)


@pytest.mark.parametrize(
    ("memory", "most"),
    [("1", 2**16), ("1 (pagesize 1)", 2**32 - 1), ("i64 1", 2**48), ("1 2 shared", 2), ("0 0", 0)],
)
def test_no_memory_becomes_larger_than_it_may(memory: str, most: int) -> None:
    data = wasmtime.wat2wasm(f"(module (memory {memory}))")
    assert (
        parse_module(with_memory_minimum(data, most, name="m")).memories[0].limits.minimum == most
    )
    with pytest.raises(LimitError) as caught:
        with_memory_minimum(data, most + 1, name="m")
    assert caught.value.module == "m"


@pytest.mark.parametrize(
    "source",
    ["(module)", '(module (import "env" "memory" (memory 1)))', "(module (table 1 funcref))"],
)
def test_a_module_without_its_own_memory_is_left_alone(source: str) -> None:
    data = wasmtime.wat2wasm(source)
    assert with_memory_minimum(data, 100, name="m") is data
    empty = writer.module([writer.section(5, b"\0")])
    assert with_memory_minimum(empty, 100, name="m") is empty


def test_only_the_first_memory_is_changed() -> None:
    data = wasmtime.wat2wasm("(module (memory 1) (memory 2 3))")
    assert [
        each.limits for each in parse_module(with_memory_minimum(data, 200, name="m")).memories
    ] == [
        Limits(200, None),
        Limits(2, 3),
    ]


def test_malformed_modules() -> None:
    good = program("1")
    memory = next(section for section in sections(good, "m") if section.id == 5)
    for length in range(memory.header + 1, memory.end):
        with pytest.raises(ParseError):
            with_memory_minimum(good[:length], 2, name="m")
    for data in (writer.module([writer.section(5, b"\x01\x40")]), b"\x7fELF", b""):
        with pytest.raises(ParseError) as caught:
            with_memory_minimum(data, 2, name="m")
        assert caught.value.module == "m"
