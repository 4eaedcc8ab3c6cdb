"""Atomic waits and notifications rewritten as host calls, checked by wasm-tools and wasmtime."""

from __future__ import annotations

import difflib
import logging
import random
import re
from typing import Any

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pylinker.errors import LimitError, ParseError
from pylinker.wasm import (
    WAIT_TYPES,
    WAITS_EXPORT,
    Export,
    FuncType,
    Kind,
    Limits,
    WaitSlot,
    has_thread_locals,
    has_waits_table,
    parse_module,
    rewrite_waits,
    writer,
)
from pylinker.wasm.reader import Reader, sections
from toolchain import Scenario

WAIT = re.compile(r"memory\.atomic\.(wait32|wait64|notify)")


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_threads = True
    config.shared_memory = True
    config.wasm_tail_call = True
    config.wasm_exceptions = True
    config.wasm_gc = True
    config.wasm_function_references = True
    config.wasm_memory64 = True
    return wasmtime.Engine(config)


@pytest.fixture(scope="module")
def library(scenario: Scenario) -> bytes:
    """A library as clang and wasm-ld make it."""
    return (scenario("waits") / "libwaits.so").read_bytes()


def rewritten(data: bytes) -> bytes:
    """The rewritten module, which must have changed."""
    result = rewrite_waits(data, name="m")
    assert result is not data
    return result


def code_of(data: bytes) -> tuple[int, list[bytes]]:
    """Where the code section's contents start, and the function bodies, each with its size."""
    (section,) = (each for each in sections(data, "m") if each.id == 10)
    reader = Reader(data)
    reader.position = section.start
    bodies = []
    for _ in range(reader.u32()):
        start = reader.position
        reader.take(reader.u32())
        bodies.append(data[start : reader.position])
    assert reader.position == section.end
    return section.start, bodies


def other_sections(data: bytes) -> list[bytes]:
    """All sections but those that grow, in order."""
    return [
        data[each.header : each.end]
        for each in sections(data, "m")
        if each.id not in (1, 3, 4, 7, 10)
    ]


def functions(text: str) -> dict[str, str]:
    """The functions in the output of ``wasm-tools print``, by index."""
    pattern = re.compile(
        r"^  \(func (?:\$\S+ )?\(;(\d+);\).*\n(?:    .*\n)*(?:  \)\n)?", re.MULTILINE
    )
    return {match[1]: match[0] for match in pattern.finditer(text)}


# Real modules


def test_only_functions_that_wait_change_and_nothing_moves(library: bytes, wasm_tools) -> None:
    result = rewritten(library)
    for data in (library, result):
        wasm_tools("validate", "--features", "all", data=data)
    before, after = parse_module(library), parse_module(result)
    assert after.imports == before.imports
    assert {
        name: export for name, export in after.exports.items() if name != WAITS_EXPORT
    } == before.exports
    assert (after.start, after.element_slots, after.module_name, after.dylink is not None) == (
        before.start,
        {},
        before.module_name,
        True,
    )
    assert has_thread_locals(after) == has_thread_locals(before) is True
    assert other_sections(result) == other_sections(library)
    assert next(sections(result, "m")).id == 0  # dylink.0 comes first

    imported = before.imported_count(Kind.FUNC)
    named = {
        export.index - imported: name
        for name, export in before.exports.items()
        if export.kind is Kind.FUNC
    }
    named[before.start - imported] = "start"
    start_before, bodies_before = code_of(library)
    start_after, bodies_after = code_of(result)
    added = len(bodies_after) - len(bodies_before)
    changed = {
        named[index] for index, body in enumerate(bodies_before) if bodies_after[index] != body
    }
    assert changed == {
        "start",
        "wait32",
        "wait32_at",
        "wait64",
        "wait64_at",
        "notify",
        "notify_twice",
    }
    assert [len(body) for body in bodies_after[:-added]] == [len(body) for body in bodies_before]
    # wait32 and wait64 and notify, each with and without an offset; the start function has offset 0
    assert added == 6
    # offsets of instructions, which DWARF counts from the start of the section, are what they were
    assert (
        library.index(bodies_before[0], start_before) - start_before
        == result.index(bodies_after[0], start_after) - start_after
    )


def test_the_text_differs_where_it_should(library: bytes, wasm_tools) -> None:
    before, after = (
        wasm_tools("print", data=data).splitlines() for data in (library, rewritten(library))
    )
    first_added = next(number for number, line in enumerate(after) if line.startswith("  (func (;"))
    lines = [line for line in difflib.ndiff(before, after[:first_added]) if line[0] in "+-"]
    removed = [line[1:].split() for line in lines if line[0] == "-"]
    waits = [line for line in removed if WAIT.fullmatch(line[0])]
    assert len(waits) == 9
    added = [line[1:].split() for line in lines if line[0] == "+"]
    assert [line[0] for line in added if line[0] == "call"] == ["call"] * 9
    assert [line[0] for line in added if line[0] != "call"] == ["(type"] * 6 + ["(table", "(export"]


def test_the_start_function_of_wasm_ld_is_the_one_that_waits(library: bytes, wasm_tools) -> None:
    """It waits only after it lost the exchange from 0 to 1, and found 1: another thread is at it.

    See the module's docstring.
    """
    text = functions(wasm_tools("print", data=library))[str(parse_module(library).start)]
    operations = [line.split()[0] for line in text.splitlines()]
    assert (
        operations.index("i32.atomic.rmw.cmpxchg")
        < operations.index("br_table")
        < operations.index("memory.atomic.notify")
    )
    assert operations.index("memory.atomic.notify") < operations.index("memory.atomic.wait32")
    assert "br_table 0 (;@3;) 1 (;@2;) 2 (;@1;)" in text  # 0: initialise, 1: wait, 2: it is done


def test_a_second_time_changes_nothing(library: bytes) -> None:
    result = rewritten(library)
    assert rewrite_waits(result, name="m") is result
    assert rewrite_waits(library, name="m", info=parse_module(library)) == result


def test_modules_with_nothing_to_do_come_back(scenario: Scenario) -> None:
    for data in ((scenario("waits") / "libnowaits.so").read_bytes(), wasmtime.wat2wasm("(module)")):
        assert rewrite_waits(data, name="m") is data


# Running


class Running:
    """The library in wasmtime, its table empty until :meth:`fill`; ``calls`` has the arguments."""

    def __init__(self, engine: wasmtime.Engine, data: bytes) -> None:
        self.store = wasmtime.Store(engine)
        linker = wasmtime.Linker(engine)
        environment = wasmtime.Module(
            engine,
            """(module
                (memory (export "memory") 2 1024 shared)
                (global (export "__memory_base") i32 (i32.const 1024))
                (global (export "__table_base") i32 (i32.const 0))
                (global (export "__stack_pointer") (mut i32) (i32.const 65536))
                (func (export "store") (param i32 i64) (i64.store (local.get 0) (local.get 1))))""",
        )
        provider = linker.instantiate(self.store, environment)
        linker.define_instance(self.store, "env", provider)
        self.put = provider.exports(self.store)["store"]
        self.exports = linker.instantiate(self.store, wasmtime.Module(engine, data)).exports(
            self.store
        )
        self.calls: list[tuple[int, ...]] = []

    def call(self, name: str, *arguments: int) -> int:
        return self.exports[name](self.store, *arguments)

    def fill(self) -> None:
        for slot, function in zip(WaitSlot, WAIT_TYPES, strict=True):
            self.exports[WAITS_EXPORT].set(self.store, slot, self.host(slot, function))

    def host(self, slot: WaitSlot, function: FuncType) -> wasmtime.Func:
        def called(*arguments: int) -> int:
            self.calls.append((slot, *arguments))
            return 40 + slot

        types = {"i32": wasmtime.ValType.i32(), "i64": wasmtime.ValType.i64()}
        params, results = ([types[each] for each in part] for part in function)
        return wasmtime.Func(self.store, wasmtime.FuncType(params, results), called)


@pytest.fixture
def running(engine: wasmtime.Engine, library: bytes) -> Running:
    return Running(engine, rewritten(library))


def test_the_host_gets_the_arguments(running: Running) -> None:
    running.fill()
    asked = [
        ("wait32", (4096, -7, 10**12)),
        ("wait32_at", (4096, 2**31 - 1, -1)),
        ("wait64", (4096, -(2**40), 0)),
        ("wait64_at", (4096, 2**63 - 1, 5)),
        ("notify", (4096, -1)),
        ("notify_twice", (4096, 3)),
    ]
    answers = [running.call(name, *arguments) for name, arguments in asked]
    assert answers == [40, 40, 41, 41, 42, 84]
    assert running.calls == [
        (WaitSlot.WAIT32, 4096, -7, 10**12),
        (WaitSlot.WAIT32, 4096 + 20, 2**31 - 1, -1),
        (WaitSlot.WAIT64, 4096, -(2**40), 0),
        (WaitSlot.WAIT64, 4096 + 48, 2**63 - 1, 5),
        (WaitSlot.NOTIFY, 4096, -1),
        (WaitSlot.NOTIFY, 4096, 3),
        (WaitSlot.NOTIFY, 4096 + 20, 3),
    ]
    assert (running.call("get_calls"), running.call("triple", 5)) == (6, 15)


def test_an_address_has_33_bits_with_its_offset(running: Running) -> None:
    running.fill()
    for address in (-4, -48, 0x7FFF_FFFC):
        running.call("wait64_at", address, 0, 0)
    assert [call[1] for call in running.calls] == [2**32 - 4 + 48, 2**32, 0x7FFF_FFFC + 48]


@pytest.mark.parametrize("rewrite", [False, True])
def test_an_empty_slot_is_the_instruction(
    rewrite: bool, engine: wasmtime.Engine, library: bytes
) -> None:
    running = Running(engine, rewritten(library) if rewrite else library)
    running.put(running.store, 4096, 1)
    running.put(running.store, 4096 + 16, 7 << 32)
    running.put(running.store, 4096 + 48, 2**40)
    assert running.call("wait32", 4096, 1, 0) == 2
    assert running.call("wait32", 4096, 2, -1) == 1
    assert running.call("wait32_at", 4096, 7, 0) == 2
    assert running.call("wait32_at", 4096, 8, -1) == 1
    assert running.call("wait64", 4096, 1, 1000) == 2
    assert running.call("wait64_at", 4096, 2**40, 0) == 2
    assert running.call("wait64_at", 4096, 0, -1) == 1
    assert running.call("notify", 4096, -1) == 0
    assert running.call("notify_twice", 4096, 1) == 0
    for name, arguments in (
        ("wait32_at", (-16, 0, 0)),
        ("wait64_at", (-48, 0, 0)),
        ("notify_twice", (-16, 1)),
        ("notify", (2**20, 1)),
    ):
        with pytest.raises(wasmtime.Trap, match="out of bounds memory access"):
            running.call(name, *arguments)
    with pytest.raises(wasmtime.Trap, match="unaligned"):
        running.call("wait32", 4097, 0, 0)
    assert not running.calls
    assert (
        running.call("get_calls") == 8
    )  # thread-local data was initialised by the start function, and counted


def test_each_slot_counts_for_itself(running: Running) -> None:
    running.exports[WAITS_EXPORT].set(
        running.store, WaitSlot.NOTIFY, running.host(WaitSlot.NOTIFY, WAIT_TYPES[WaitSlot.NOTIFY])
    )
    assert running.call("wait32", 4096, 1, -1) == 1
    assert running.call("notify", 4096, 1) == 42


def test_a_function_of_another_type_traps(running: Running) -> None:
    running.exports[WAITS_EXPORT].set(
        running.store, WaitSlot.WAIT32, running.host(WaitSlot.NOTIFY, WAIT_TYPES[WaitSlot.NOTIFY])
    )
    with pytest.raises(wasmtime.Trap, match="indirect call type mismatch"):
        running.call("wait32", 4096, 0, 0)


# Made modules


# One of everything that counts indices, and functions between those that wait.
CROWDED = """(module
    (rec (type $a (struct (field (ref null $b))))
      (type $b (func (param (ref null $a)) (result i32))))
    (type $none (func))
    (import "m" "f" (func $f))
    (import "m" "t" (table $t 1 funcref))
    (import "m" "tag" (tag $tag (param i32)))
    (import "m" "memory" (memory 1 2 shared))
    (func $first (export "first") (result i32)
      (memory.atomic.notify offset=4 (i32.const 8) (i32.const 1)))
    (table $own (export "own") 3 funcref)
    (tag $another (type $none))
    (global $g (export "g") (mut i32) (i32.const 5))
    (start $start)
    (elem (table $own) (i32.const 0) func $first $last)
    (elem declare func $between)
    (func $between (export "between") (result i32)
        (drop (ref.func $between)) (call_indirect $own (result i32) (i32.const 1)))
    (func $start (global.set $g (i32.const 6)))
    (func $last (export "last") (result i32)
        (memory.init $data (i32.const 0) (i32.const 0) (i32.const 0))
        (memory.atomic.wait32 (i32.const 8) (i32.const 0) (i64.const 0)))
    (data $data "\\fe\\01\\02\\00")
    (@custom "after" (after code) "\\fe\\00\\02\\00")
    (@custom "early" (before first) "early"))"""


def test_indices_are_what_they_were_in_a_crowded_module(wasm_tools) -> None:
    data = wasmtime.wat2wasm(CROWDED)
    result = rewritten(data)
    wasm_tools("validate", "--features", "all", data=result)
    assert other_sections(result) == other_sections(data)
    before, after = (functions(wasm_tools("print", data=each)) for each in (data, result))
    assert after.keys() - before.keys() == {"5", "6"}
    assert {index for index in before if before[index] != after[index]} == {"1", "4"}
    info = parse_module(result)
    assert info.exports[WAITS_EXPORT] == Export(WAITS_EXPORT, Kind.TABLE, 2)
    assert info.function_type(5) == FuncType(("i32", "i32"), ("i32",))
    assert info.function_type(6) == FuncType(("i32", "i32", "i64"), ("i32",))


MEMORY = writer.section(5, b"\1" + writer.limits(Limits(1, 1, shared=True)))


def made(*bodies: bytes) -> bytes:
    """A module of functions () -> () with these instructions and a shared memory."""
    return with_code(len(bodies), writer.vector([writer.function_body(body) for body in bodies]))


def with_code(functions: int, contents: bytes) -> bytes:
    """A module of so many functions () -> () with a shared memory and this code section."""
    kinds = writer.section(3, writer.vector([b"\0"] * functions))
    return writer.module(
        [writer.section(1, b"\1\x60\0\0"), kinds, MEMORY, writer.section(10, contents)]
    )


def instruction(slot: WaitSlot, memory_immediate: bytes, *, second: int = 1) -> bytes:
    """Operands, the instruction with its second opcode in so many bytes, and a drop."""
    opcode = {WaitSlot.NOTIFY: 0, WaitSlot.WAIT32: 1, WaitSlot.WAIT64: 2}[slot]
    return (
        operands(slot)
        + b"\xfe"
        + writer.unsigned(opcode, length=second)
        + memory_immediate
        + b"\x1a"
    )


def operands(slot: WaitSlot) -> bytes:
    wait = (b"\x42" if slot is WaitSlot.WAIT64 else b"\x41") + b"\0\x42\0"
    return b"\x41\x08" + (b"\x41\x01" if slot is WaitSlot.NOTIFY else wait)


def bodies_after(data: bytes, count: int) -> list[bytes]:
    """The instructions of the first functions after rewriting; they are short, without locals."""
    return [body[2:-1] for body in code_of(rewritten(data))[1][:count]]


@pytest.mark.parametrize(
    ("immediate", "second", "call"),
    [
        (b"\x02\x00", 1, b"\x10\x81\x80\x00"),
        (b"\x02\x85\x01", 1, b"\x10\x81\x80\x80\x00"),
        (b"\x02\xff\xff\xff\xff\x0f", 1, b"\x10\x81\x80\x80\x80\x00\x01\x01"),
        (b"\x42\x00\x05", 1, b"\x10\x81\x80\x80\x00"),
        (b"\xc2\x80\x00\x80\x00\x85\x00", 3, b"\x10\x81\x80\x80\x80\x00" + b"\x01" * 5),
        (b"\x02\x00", 5, b"\x10\x81\x80\x80\x80\x00\x01\x01"),
    ],
)
def test_a_call_is_as_long_as_the_instruction(
    immediate: bytes, second: int, call: bytes, wasm_tools
) -> None:
    for slot in (WaitSlot.WAIT32, WaitSlot.NOTIFY):
        data = made(instruction(slot, immediate, second=second))
        wasm_tools("validate", "--features", "all", data=data)
        assert bodies_after(data, 1) == [operands(slot) + call + b"\x1a"]
        wasm_tools("validate", "--features", "all", data=rewritten(data))
    wide = made(
        instruction(WaitSlot.WAIT64, bytes([immediate[0] + 1]) + immediate[1:], second=second)
    )
    assert bodies_after(wide, 1) == [operands(WaitSlot.WAIT64) + call + b"\x1a"]


@pytest.mark.parametrize(
    "immediate",
    [
        b"\x42\x01\x00",  # of memory 1
        b"\x01\x00",  # not the natural alignment, so not valid
        b"\x02\x80\x80\x80\x80\x10",  # an offset of 2**32, not valid either
    ],
)
def test_other_instructions_stay(immediate: bytes) -> None:
    left, changed = (
        instruction(WaitSlot.WAIT32, immediate),
        instruction(WaitSlot.WAIT32, b"\x02\x00"),
    )
    data = made(left)
    assert rewrite_waits(data, name="m") is data
    assert bodies_after(made(left + changed), 1)[0].startswith(
        left + operands(WaitSlot.WAIT32) + b"\x10"
    )


@pytest.mark.parametrize(
    "memory",
    [
        "",
        "(memory 1)",
        '(import "m" "m" (memory 1))',
        "(memory i64 1 1 shared)",
        "(memory 1) (memory 1 1 shared)",
        '(import "m" "m" (memory i64 1 1 shared))',
    ],
)
def test_without_a_shared_32_bit_memory_there_is_nothing_to_do(memory: str) -> None:
    wait = "(drop (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))"
    data = wasmtime.wat2wasm(f"(module {memory} (func {wait}))")
    assert b"\xfe\1\2\0" in data
    assert rewrite_waits(data, name="m") is data


@pytest.mark.parametrize(
    "memory", ["(memory 1 1 shared) (memory 1)", '(import "m" "m" (memory 1 1 shared))']
)
def test_the_first_memory_counts(memory: str) -> None:
    wait = "(drop (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))"
    assert has_waits_table(
        parse_module(rewritten(wasmtime.wat2wasm(f"(module {memory} (func {wait}))")))
    )


@pytest.mark.parametrize("count", [1, 126, 127, 128, 16_383, 20_000])
def test_the_number_of_functions_may_need_another_byte(count: int, engine: wasmtime.Engine) -> None:
    data = made(*[b""] * (count - 1), instruction(WaitSlot.NOTIFY, b"\x02\x00"))
    result = rewritten(data)
    wasmtime.Module.validate(engine, result)
    before, after = (code_of(each)[1] for each in (data, result))
    assert after[: count - 1] == before[: count - 1]
    call = b"\x10" + writer.unsigned(count, length=3)
    assert after[count - 1] == before[count - 1].replace(b"\xfe\0\x02\0", call)


def test_the_size_of_a_body_can_look_like_a_wait() -> None:
    """A size of 254 is the bytes fe 01, and two declarations of locals are an 02."""
    wait = instruction(WaitSlot.WAIT32, b"\x02\x00")
    start = b"\x02\x01\x7f\x01\x7e"
    body = start + wait + b"\x01" * (254 - len(start) - len(wait) - 1) + b"\x0b"
    strange = writer.unsigned(len(body)) + body
    assert strange.startswith(b"\xfe\x01\x02")
    bodies = code_of(rewritten(with_code(2, writer.vector([strange, writer.function_body(wait)]))))[
        1
    ]
    call = b"\x10\x82\x80\x00"
    assert bodies[:2] == [
        each.replace(b"\xfe\1\2\0", call) for each in (strange, writer.function_body(wait))
    ]


def test_a_padded_number_of_functions_keeps_its_bytes() -> None:
    body = writer.function_body(instruction(WaitSlot.NOTIFY, b"\x02\x00"))
    result = rewritten(with_code(1, b"\x81\x80\x80\x80\x00" + body))
    start, bodies = code_of(result)
    assert result[start : start + 5] == b"\x82\x80\x80\x80\x00"
    assert len(bodies) == 2


def test_one_function_is_added_for_each_instruction_and_offset() -> None:
    waits = [instruction(WaitSlot.WAIT32, b"\x02" + bytes([offset])) for offset in (0, 4, 0, 4)]
    result = rewritten(
        made(waits[0] + waits[1], waits[2] + waits[3], b"", instruction(WaitSlot.WAIT64, b"\x03\0"))
    )
    assert len(code_of(result)[1]) == 4 + 3
    (types,) = (section for section in sections(result, "m") if section.id == 1)
    assert types.reader(result, "m").count() == 1 + 4


def test_more_offsets_than_any_program_has_are_refused() -> None:
    bodies = [
        instruction(WaitSlot.NOTIFY, b"\x02" + writer.unsigned(offset)) for offset in range(10_001)
    ]
    assert len(code_of(rewritten(made(*bodies[:10_000])))[1]) == 20_000
    with pytest.raises(LimitError, match="m: its atomic waits have more than 10000 static offsets"):
        rewrite_waits(made(*bodies), name="m")


# Strange modules


def test_a_function_that_cannot_be_read_stays(caplog: pytest.LogCaptureFixture) -> None:
    wait = instruction(WaitSlot.WAIT32, b"\x02\x00")
    other = instruction(WaitSlot.NOTIFY, b"\x02\x08")
    with caplog.at_level(logging.DEBUG, "pylinker.wasm"):
        result = rewritten(made(other + b"\xff", wait, wait + b"\x44\0"))
    bodies = code_of(result)[1]
    assert len(bodies) == 4  # nothing is added for what stays
    assert [bodies[0], bodies[2]] == [
        writer.function_body(other + b"\xff"),
        writer.function_body(wait + b"\x44\0"),
    ]
    assert bodies[1] == writer.function_body(wait.replace(b"\xfe\1\2\0", b"\x10\x83\x80\x00"))
    assert [record.message for record in caplog.records] == [
        "The waits of function 0 stay: m: unknown instruction 0xff (section code, offset 0x28)",
        (
            "The waits of function 2 stay: m: unexpected end, wanted 8 bytes but 2 are left "
            "(section code, offset 0x46)"
        ),
    ]


@pytest.mark.parametrize(
    "contents",
    [
        b"\x02"
        + writer.function_body(
            instruction(WaitSlot.NOTIFY, b"\x02\x00")
        ),  # more bodies than functions
        b"\x01\x7f"
        + instruction(WaitSlot.NOTIFY, b"\x02\x00"),  # a body that ends after the section
        b"\x01\xff\xff\xff\xff\xff\xfe\x01\x02\x00",
    ],
)
def test_malformed_code(contents: bytes) -> None:
    with pytest.raises(ParseError) as caught:
        rewrite_waits(with_code(1, contents), name="m")
    assert caught.value.module == "m"


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\0asm\1\0\0\0\x0a\x05", b"\0asm\x0d\0\1\0"])
def test_what_is_no_module(data: bytes) -> None:
    with pytest.raises(ParseError):
        rewrite_waits(data, name="m")


def test_code_without_functions_or_types_is_left_to_wasmtime() -> None:
    code = writer.section(
        10, writer.vector([writer.function_body(instruction(WaitSlot.NOTIFY, b"\x02\x00"))])
    )
    for data in (
        writer.module([MEMORY, code]),
        writer.module([writer.section(1, b"\1\x60\0\0"), MEMORY, code]),
    ):
        assert rewrite_waits(data, name="m") is data


@pytest.mark.parametrize(
    ("text", "has_table"),
    [
        ('(table (export "__pylinker_waits") 3 3 funcref)', True),
        ('(table (export "__pylinker_waits") 3 funcref)', False),
        ('(table (export "__pylinker_waits") 2 3 funcref)', False),
        ('(table (export "__pylinker_waits") 3 3 externref)', False),
        ('(table (export "__pylinker_waits") i64 3 3 funcref)', False),
        ('(import "env" "t" (table 3 3 funcref)) (export "__pylinker_waits" (table 0))', False),
        ('(func (export "__pylinker_waits"))', False),
        ('(global (export "__pylinker_waits") i32 (i32.const 0))', False),
        ('(export "__pylinker_waits" (memory 0))', False),
        ("", False),
    ],
)
def test_a_module_that_takes_the_name_itself(text: str, has_table: bool) -> None:
    data = wasmtime.wat2wasm(
        f"""(module {text} (memory 1 1 shared)
            (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 1) (i64.const -1)))))"""
        if text
        else "(module)"
    )
    assert rewrite_waits(data, name="m") is data
    assert has_waits_table(parse_module(data)) is has_table


# Random modules

# Instructions that leave the stack as it is, many with the bytes of a wait among their operands.
CONSTANTS = st.sampled_from([b"\xfe\x01\x02\x00", b"\xfe\x00\x02\x10", b"\x02\xfe\x02\x03"])
NEUTRAL = st.one_of(
    CONSTANTS.map(lambda four: b"\x43" + four + b"\x1a"),
    st.tuples(CONSTANTS, CONSTANTS).map(lambda two: b"\x44" + b"".join(two) + b"\x1a"),
    st.lists(CONSTANTS, min_size=4, max_size=4).map(
        lambda four: b"\xfd\x0c" + b"".join(four) + b"\x1a"
    ),
    st.sampled_from([b"\x41\xfe\x01", b"\x41\xfe\x00", b"\x42\xfe\x02", b"\x42\x80\xfe\x01"]).map(
        lambda each: each + b"\x1a"
    ),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: b"\x42" + writer.s32(value) + b"\x1a"),
    st.sampled_from(
        [
            b"\x01",
            b"\x02\x40\x0b",
            b"\x03\x40\x0b",
            b"\x41\0\x04\x40\x05\x0b",
            b"\x02\x40\x41\0\x0e\x02\0\0\0\x0b",  # br_table
            b"\x41\0\x41\1\x41\0\x1c\1\x7f\x1a",  # select with a type
            b"\x1f\x40\1\2\0\x0b",  # try_table, catch_all
            b"\xd0\x70\x1a",
            b"\x41\0\xfe\x10\x02\x00\x1a",  # i32.atomic.load
            b"\xfe\x03\x00",  # atomic.fence
            b"\x41\0\x41\0\x41\0\xfc\x0b\0",  # memory.fill
            b"\x41\0\x28\x02\xfe\x02\x1a",  # i32.load offset=382
        ]
    ),
)
OFFSETS = st.sampled_from([0, 1, 8, 127, 128, 2**32 - 1]) | st.integers(0, 2**32 - 1)
WAITS = st.tuples(st.sampled_from(WaitSlot), OFFSETS, st.integers(1, 5))
BODIES = st.lists(st.lists(NEUTRAL | WAITS, max_size=12), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(plan=BODIES)
def test_waits_are_told_from_constants(plan: list[list[Any]], engine: wasmtime.Engine) -> None:
    """The expected code is written together with the given one."""
    added: dict[tuple[WaitSlot, int], int] = {}
    given_bodies, expected = [], []
    for parts in plan:
        before = after = b""
        for part in parts:
            if isinstance(part, bytes):
                before += part
                after += part
                continue
            slot, offset, second = part
            one = instruction(
                slot,
                bytes([3 if slot is WaitSlot.WAIT64 else 2]) + writer.unsigned(offset),
                second=second,
            )
            room = len(one) - len(operands(slot)) - 1
            function = added.setdefault((slot, offset), len(plan) + len(added))
            call = b"\x10" + writer.unsigned(function, length=min(room - 1, 5))
            before += one
            after += operands(slot) + call + b"\x01" * (room - len(call)) + b"\x1a"
        given_bodies.append(before)
        expected.append(writer.function_body(after))
    data = made(*given_bodies)
    wasmtime.Module.validate(engine, data)
    result = rewrite_waits(data, name="m")
    if not added:
        assert result is data
        return
    wasmtime.Module.validate(engine, result)
    bodies = code_of(result)[1]
    assert bodies[: len(plan)] == expected
    assert len(bodies) == len(plan) + len(added)


def valid(engine: wasmtime.Engine, data: bytes) -> bool:
    try:
        wasmtime.Module.validate(engine, data)
    except wasmtime.WasmtimeError:
        return False
    return True


def check_broken(engine: wasmtime.Engine, data: bytes) -> bool:
    """Rewrite a possibly broken module; return whether it changed.

    A valid module stays valid, or is refused as the linker would refuse it.
    """
    try:
        result = rewrite_waits(data, name="m")
    except ParseError:
        if valid(engine, data):
            with pytest.raises(ParseError):
                parse_module(data)
        return False
    assert valid(engine, result) or not valid(engine, data)
    return result is not data


def test_truncated_modules(engine: wasmtime.Engine, library: bytes) -> None:
    for data in (library, wasmtime.wat2wasm(CROWDED)):
        for length in range(len(data)):
            check_broken(engine, data[:length])


def test_modules_with_wrong_bytes(engine: wasmtime.Engine, library: bytes) -> None:
    source = random.Random(7)
    changed = 0
    for data in (library, wasmtime.wat2wasm(CROWDED)):
        for _ in range(1500):
            broken = bytearray(data)
            for _ in range(source.choice((1, 1, 1, 2, 5))):
                position = source.randrange(8, len(broken))
                broken[position] = source.choice(
                    (broken[position] ^ 1 << source.randrange(8), source.randrange(256))
                )
            changed += check_broken(engine, bytes(broken))
    assert changed > 1000
