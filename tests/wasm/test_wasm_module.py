"""Whole modules: what is read from good ones, and that bad ones give a ParseError and nothing else.

The oracle is wasmtime: a module that it accepts has to be accepted, with the same imports and
exports.
"""

from __future__ import annotations

import random
import sys
import time
import tracemalloc

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pylinker.errors import ParseError
from pylinker.runtime.compat import VERSION
from pylinker.wasm import (
    Export,
    ExternType,
    FuncType,
    GlobalType,
    Import,
    Kind,
    Limits,
    MemoryType,
    ModuleInfo,
    TableType,
    TagType,
    parse_module,
    writer,
)
from pylinker.wasm.reader import sections

# Like a library that wasm-ld makes.
LIBRARY = """(module $libdemo.so
    (@dylink.0 (mem-info (memory 12 2) (table 2 0)) (needed "libc.so")
      (import-info "env" "weak" binding-weak undefined))
    (type $binary (func (param i32 i32) (result i32)))
    (import "env" "memory" (memory 1))
    (import "env" "__indirect_function_table" (table 2 funcref))
    (import "env" "__stack_pointer" (global (mut i32)))
    (import "env" "__memory_base" (global $memory_base i32))
    (import "env" "__table_base" (global $table_base i32))
    (import "GOT.mem" "counter" (global (mut i32)))
    (import "env" "weak" (func $weak (param i64 f64) (result f32)))
    (func $init (export "__wasm_call_ctors"))
    (func $add (export "add") (type $binary) (i32.add (local.get 0) (local.get 1)))
    (func $sub (type $binary) (i32.sub (local.get 0) (local.get 1)))
    (global (export "counter") i32 (i32.const 8))
    (global (export "end") i32 (i32.add (global.get $memory_base) (i32.const 12)))
    (start $init)
    (elem (global.get $table_base) func $add $sub)
    (data (global.get $memory_base) "hello"))"""

# Everything that is not a plain function, memory, table or global.
EXOTIC = """(module
    (type $fields (struct (field i8) (field (mut i16)) (field (mut (ref null $fields)))
      (field i64)))
    (rec
      (type $array (array (mut i16)))
      (type $base (sub (func (param (ref $array)) (result (ref null $fields)))))
      (type $derived (sub final $base (func (param (ref $array)) (result (ref null $fields))))))
    (type $tagged (func (param i32 exnref)))
    (type $last (func (param v128 externref anyref (ref func) (ref null extern)) (result i32 i64)))
    (import "x" "f" (func $f (type $derived)))
    (import "x" "f" (func $g (type $last)))
    (import "x" "shared" (memory 1 2 shared))
    (import "x" "table" (table i64 1 10 externref))
    (import "x" "tag" (tag (type $tagged)))
    (import "x" "i31" (global (ref null i31)))
    (func $h (type $tagged))
    (table $initialized 3 (ref func) (ref.func $h))
    (table $wide i64 1 funcref)
    (memory $long i64 1 100)
    (memory $bytes 70000 (pagesize 1))
    (tag (type $tagged))
    (global $i64 (mut i64) (i64.const -2))
    (global $v128 v128 (v128.const i64x2 1 2))
    (global $f32 f32 (f32.const 0.5))
    (global $f64 f64 (f64.const 0.5))
    (global $null (ref null $array) (ref.null $array))
    (global $none anyref (ref.null none))
    (global $new (ref $array) (array.new_fixed $array 2 (i32.const 1) (i32.const 2)))
    (global $new_default (ref $fields) (struct.new_default $fields))
    (global $ref_i31 (ref i31) (ref.i31 (i32.const 7)))
    (global $function funcref (ref.func $h))
    (export "f" (func $f)) (export "h" (func $h)) (export "initialized" (table $initialized))
      (export "wide" (table $wide))
    (export "shared" (memory 0)) (export "bytes" (memory $bytes)) (export "tag" (tag 1))
      (export "i64" (global $i64))
    (export "new" (global $new)))"""

# The flags 0 to 7 of element segments, in this order.
SEGMENTS = """(module
    (table $zero 20 funcref) (table $one 20 funcref)
    (func $a) (func $b) (func $c) (func $d) (func $e) (func $f)
    (global $offset i32 (i32.const 5))
    (elem (table $zero) (i32.const 1) func $a $b $a)
    (elem func $c)
    (elem (table $one) (i32.const 0) func $c)
    (elem declare func $c)
    (elem (table $zero) (global.get $offset) funcref (ref.null func) (item ref.func $d)
      (ref.func $b))
    (elem funcref (ref.func $c))
    (elem (table $one) (i32.const 0) funcref (ref.func $c))
    (elem declare funcref (ref.func $c))
    (elem (table $zero) (i32.add (i32.const 2) (global.get $offset)) (ref null func) (ref.func $e))
    (elem (table $zero) (i32.const 15) func $a $f))"""

SOURCES = {"library": LIBRARY, "exotic": EXOTIC, "segments": SEGMENTS, "empty": "(module)"}
BINARIES = {name: wasmtime.wat2wasm(source) for name, source in SOURCES.items()}

I32 = GlobalType("i32", mutable=False)


# The value types that wasmtime-py has a name for. The C interface aborts the process when it is
# asked about most others.
SIMPLE = {"i32", "i64", "f32", "f64", "funcref"}


def same_type(mine: ExternType, theirs: wasmtime.AsExternType) -> bool:
    """Whether wasmtime tells the same type, as far as it can."""
    if isinstance(mine, FuncType):
        assert isinstance(theirs, wasmtime.FuncType)
        if not SIMPLE.issuperset(mine.params + mine.results):
            return True
        return mine == FuncType(tuple(map(str, theirs.params)), tuple(map(str, theirs.results)))
    if isinstance(mine, GlobalType):
        assert isinstance(theirs, wasmtime.GlobalType)
        return mine.value not in SIMPLE or mine == GlobalType(str(theirs.content), theirs.mutable)
    if isinstance(mine, MemoryType):
        assert isinstance(theirs, wasmtime.MemoryType)
        limits = theirs.limits
        return mine.limits == Limits(limits.min, limits.max, theirs.is_shared, theirs.is_64)
    if isinstance(mine, TableType):
        assert isinstance(theirs, wasmtime.TableType)
        return mine.element not in SIMPLE or mine.element == str(theirs.element)
    return isinstance(theirs, wasmtime.TagType)


def assert_same_outside(info: ModuleInfo, module: wasmtime.Module) -> None:
    imports, exports = module.imports, module.exports
    assert [(each.module, each.name) for each in info.imports] == [
        (each.module, each.name) for each in imports
    ]
    assert list(info.exports) == [each.name for each in exports]
    for mine, theirs in zip(info.imports, imports, strict=True):
        assert same_type(mine.type, theirs.type), mine
    for export, theirs in zip(info.exports.values(), exports, strict=True):
        assert same_type(info.export_type(export), theirs.type), export


@pytest.mark.parametrize("name", SOURCES)
def test_imports_and_exports_are_those_wasmtime_sees(name: str, all_features, wasm_tools) -> None:
    wasm_tools("validate", "--features", "all", data=BINARIES[name])
    assert_same_outside(parse_module(BINARIES[name]), wasmtime.Module(all_features, BINARIES[name]))


def test_a_library() -> None:
    info = parse_module(BINARIES["library"], name="libdemo")
    assert (info.name, info.module_name, info.is_dynamic, info.start) == (
        "libdemo",
        "libdemo.so",
        True,
        1,
    )
    weak = FuncType(("i64", "f64"), ("f32",))
    assert info.imports == (
        Import("env", "memory", Kind.MEMORY, MemoryType(Limits(1, None))),
        Import(
            "env", "__indirect_function_table", Kind.TABLE, TableType("funcref", Limits(2, None))
        ),
        Import("env", "__stack_pointer", Kind.GLOBAL, GlobalType("i32", mutable=True)),
        Import("env", "__memory_base", Kind.GLOBAL, I32),
        Import("env", "__table_base", Kind.GLOBAL, I32),
        Import("GOT.mem", "counter", Kind.GLOBAL, GlobalType("i32", mutable=True)),
        Import("env", "weak", Kind.FUNC, weak),
    )
    assert [info.imported_count(kind) for kind in Kind] == [1, 1, 1, 4, 0]
    assert info.exports == {
        "__wasm_call_ctors": Export("__wasm_call_ctors", Kind.FUNC, 1),
        "add": Export("add", Kind.FUNC, 2),
        "counter": Export("counter", Kind.GLOBAL, 4),
        "end": Export("end", Kind.GLOBAL, 5),
    }
    assert (info.function_type(0), info.export_type(info.exports["counter"])) == (weak, I32)
    assert str(info.export_type(info.exports["add"])) == "(i32, i32) -> i32"
    assert (info.memories, info.tables) == ((), ())
    # Globals 1 and 2 are __memory_base and __table_base.
    values = {1: 1000, 2: 30}
    initial = [info.global_init(index) for index in range(6)]
    assert initial[:4] == [None] * 4
    assert [each.evaluate(values.get) for each in initial if each is not None] == [8, 1012]
    slots = {
        function: (offset.evaluate(values.get), place)
        for function, (offset, place) in info.element_slots.items()
    }
    assert slots == {2: (30, 0), 3: (30, 1)}
    assert repr(info) == "<ModuleInfo 'libdemo': dynamic, 7 imports, 4 exports>"


def test_exotic_types_keep_the_indices_right() -> None:
    info = parse_module(BINARIES["exotic"])
    concrete = FuncType(("(ref 1)",), ("(ref null 0)",))
    tagged = FuncType(("i32", "exnref"), ())
    assert [each.type for each in info.imports] == [
        concrete,
        FuncType(("v128", "externref", "anyref", "(ref func)", "externref"), ("i32", "i64")),
        MemoryType(Limits(1, 2, shared=True)),
        TableType("externref", Limits(1, 10, is64=True)),
        TagType(tagged),
        GlobalType("i31ref", mutable=False),
    ]
    assert info.export_type(info.exports["f"]) == concrete
    assert info.export_type(info.exports["h"]) == info.function_type(2) == tagged
    assert info.export_type(info.exports["tag"]) == TagType(tagged)
    assert info.export_type(info.exports["shared"]) == MemoryType(Limits(1, 2, shared=True))
    assert info.tables == (
        TableType("(ref func)", Limits(3, None)),
        TableType("funcref", Limits(1, None, is64=True)),
    )
    assert info.memories == (
        MemoryType(Limits(1, 100, is64=True)),
        MemoryType(Limits(70000, None), 0),
    )
    assert info.export_type(info.exports["new"]) == GlobalType("(ref 1)", mutable=False)


def test_only_integers_are_evaluated() -> None:
    info = parse_module(BINARIES["exotic"])
    values = []
    for index in range(1, 11):
        initial = info.global_init(index)
        assert initial is not None
        values.append(initial.evaluate(lambda _: 1))
    assert values == [2**64 - 2] + [None] * 9
    function = info.global_init(10)
    assert function is not None
    assert function.function == 2


def test_all_forms_of_element_segments() -> None:
    info = parse_module(BINARIES["segments"])
    slots = {
        function: (offset.evaluate({0: 5}.get), place)
        for function, (offset, place) in info.element_slots.items()
    }
    # $a and $b have two places each; $c is in no active segment of table 0.
    assert slots == {0: (1, 0), 1: (1, 1), 3: (5, 1), 4: (7, 0), 5: (15, 1)}


def test_all_flags_of_element_segments() -> None:
    """Each form by hand, as the text format chooses one itself: flags, offset, items."""
    forms = [
        b"\x00\x41\x01\x0b" + b"\x01\x00",
        b"\x01\x00" + b"\x01\x02",
        b"\x02\x01\x41\x00\x0b\x00" + b"\x01\x02",
        b"\x03\x00" + b"\x01\x02",
        b"\x04\x41\x05\x0b" + b"\x01\xd2\x03\x0b",
        b"\x05\x70" + b"\x01\xd2\x02\x0b",
        b"\x06\x00\x41\x07\x0b\x70" + b"\x02\xd0\x70\x0b\xd2\x04\x0b",
        b"\x07\x70" + b"\x01\xd2\x02\x0b",
        b"\x02\x00\x41\x0f\x0b\x00" + b"\x02\x00\x05",
    ]
    parts = [
        (number, writer.vector(forms) if number == 9 else body)
        for number, body in contents(BINARIES["segments"])
    ]
    data = writer.module([writer.section(*part) for part in parts])
    wasmtime.Module.validate(wasmtime.Engine(), data)
    info = parse_module(data)
    slots = {
        function: (offset.evaluate({}.get), place)
        for function, (offset, place) in info.element_slots.items()
    }
    assert slots == {0: (1, 0), 3: (5, 0), 4: (7, 1), 5: (15, 1)}


def contents(data: bytes) -> list[tuple[int, bytes]]:
    return [(section.id, data[section.start : section.end]) for section in sections(data, "m")]


integer_names = {32: "i32", 64: "i64"}


@st.composite
def expressions(draw: st.DrawFn, bits: int) -> str:
    """The text of an extended constant expression; global 0 is an i32, global 1 an i64."""
    kind = integer_names[bits]

    def leaf() -> str:
        if draw(st.booleans()):
            return f"(global.get {0 if bits == 32 else 1})"
        return f"({kind}.const {draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))})"

    text = leaf()
    for _ in range(draw(st.integers(0, 4))):
        sides = [text, leaf()]
        if draw(st.booleans()):
            sides.reverse()
        text = f"({kind}.{draw(st.sampled_from(['add', 'sub', 'mul']))} {sides[0]} {sides[1]})"
    return text


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integer_expressions_have_the_value_wasmtime_gives_them(
    data: st.DataObject, small: int, large: int
) -> None:
    binary = wasmtime.wat2wasm(f"""(module
        (import "" "a" (global i32)) (import "" "b" (global i64))
        (global (export "x") i32 {data.draw(expressions(32))})
          (global (export "y") i64 {data.draw(expressions(64))}))""")
    store = wasmtime.Store()
    imports = [
        wasmtime.Global(store, wasmtime.GlobalType(kind, False), value)
        for kind, value in (
            (wasmtime.ValType.i32(), wasmtime.Val.i32(small)),
            (wasmtime.ValType.i64(), wasmtime.Val.i64(large)),
        )
    ]
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, binary), imports).exports(
        store
    )
    info = parse_module(binary)
    for name, bits in (("x", 32), ("y", 64)):
        initial = info.global_init(info.exports[name].index)
        assert initial is not None
        # The index is 0 or 1; globals may be given signed or unsigned.
        assert initial.evaluate([small, large].__getitem__) == exports[name].value(store) % 2**bits
        assert (
            initial.evaluate([small % 2**32, large % 2**64].__getitem__)
            == exports[name].value(store) % 2**bits
        )


def test_a_copy_of_a_global_that_is_not_an_integer_has_no_value() -> None:
    info = parse_module(
        wasmtime.wat2wasm("""(module (import "a" "b" (global f32))
            (global f32 (global.get 0)) (global (mut f64) (f64.const 1)))""")
    )
    for index in (1, 2):
        initial = info.global_init(index)
        assert initial is not None
        assert initial.evaluate(lambda _: 1) is None


def test_the_offset_in_a_64_bit_table_has_64_bits() -> None:
    info = parse_module(
        wasmtime.wat2wasm("""(module
            (import "a" "b" (global i64)) (func) (table i64 1 funcref)
            (elem (i64.add (i64.const 1) (global.get 0)) func 0))""")
    )
    offset, place = info.element_slots[0]
    assert (offset.evaluate(lambda _: 2**40), place) == (2**40 + 1, 0)


def test_the_long_form_of_a_reference_type_is_the_short_one() -> None:
    """(ref null func) is funcref, but tools write either."""
    params = [b"\x63\x70", b"\x70", b"\x63\x6f", b"\x63\x00", b"\x64\x69", b"\x64\x65\x70"]
    data = writer.module(
        [
            writer.section(1, b"\x01\x60" + writer.vector(params) + b"\0"),
            writer.section(2, b"\x01\x01a\x01b\0\0"),
        ]
    )
    expected = (
        "funcref",
        "funcref",
        "externref",
        "(ref null 0)",
        "(ref exn)",
        "(ref (shared func))",
    )
    assert parse_module(data).function_type(0) == FuncType(expected, ())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (FuncType((), ()), "() -> ()"),
        (FuncType(("i32", "i64"), ("f32",)), "(i32, i64) -> f32"),
        (FuncType(("i32",), ("i32", "i64")), "(i32) -> (i32, i64)"),
        (TagType(FuncType(("i32",), ())), "(i32) -> ()"),
        (GlobalType("i32", mutable=True), "(mut i32)"),
        (GlobalType("f64", mutable=False), "f64"),
        (MemoryType(Limits(1, None)), "1"),
        (MemoryType(Limits(1, 20, shared=True, is64=True), 0), "i64 1 20 shared (pagesize 1)"),
        (TableType("funcref", Limits(2, 3)), "2 3 funcref"),
    ],
)
def test_types_as_text(value: ExternType, text: str) -> None:
    assert str(value) == text


def test_kinds_have_labels() -> None:
    assert [kind.label for kind in Kind] == ["function", "table", "memory", "global", "tag"]


def test_an_unknown_global_makes_the_value_unknown() -> None:
    initial = parse_module(BINARIES["library"]).global_init(5)
    assert initial is not None
    assert initial.evaluate(lambda _: None) is None


def test_an_invalid_expression_has_no_value() -> None:
    """The parser does not check the stack; wasmtime does."""
    for operations in (b"\x6a", b"\x41\x01\x6a", b"\x41\x01\x41\x02", b""):
        data = writer.module([writer.section(6, writer.vector([b"\x7f\0" + operations + b"\x0b"]))])
        initial = parse_module(data).global_init(0)
        assert initial is not None
        assert initial.evaluate(lambda _: 0) is None


def test_indices_that_do_not_exist() -> None:
    info = parse_module(BINARIES["library"], name="libdemo")
    for call in (info.function_type, info.global_init):
        for index in (-1, 100):
            with pytest.raises(ParseError, match=f"libdemo: there is no (function|global) {index}"):
                call(index)


def refused(data: bytes) -> bool:
    """Whether the data gives a ParseError, about a place in it."""
    try:
        parse_module(data)
    except ParseError as error:
        return error.offset in range(len(data) + 1)
    return False


@pytest.mark.parametrize("name", SOURCES)
def test_every_truncation_is_refused_but_those_between_two_sections(name: str) -> None:
    data = BINARIES[name]
    whole = [length for length in range(len(data)) if not refused(data[:length])]
    assert set(whole) <= {section.header for section in sections(data, "m")}


LENIENT = int(VERSION.partition(".")[0]) < 48
"""Whether wasmtime takes 0 for a reference type."""


def check_against_wasmtime(data: bytes, engine: wasmtime.Engine) -> None:
    """No exception but ParseError, and that only if wasmtime does not want the module either."""
    try:
        info = parse_module(data)
    except ParseError as error:
        if LENIENT and "0x00 is not a type that can stand here" in str(error):
            return
        if error.section != "dylink.0" and "dylink.0" not in str(
            error
        ):  # wasmtime does not look at that one
            with pytest.raises(wasmtime.WasmtimeError):
                wasmtime.Module.validate(engine, data)
    else:
        touch(info)
        try:
            wasmtime.Module.validate(engine, data)
        except wasmtime.WasmtimeError:
            return
        assert_same_outside(info, wasmtime.Module(engine, data))


def touch(info: ModuleInfo) -> None:
    """Use everything a linker uses."""
    for export in info.exports.values():
        assert str(info.export_type(export))
        if export.kind == Kind.GLOBAL:
            initial = info.global_init(export.index)
            if initial is not None:
                initial.evaluate(lambda _: 0)
    for offset, _ in info.element_slots.values():
        offset.evaluate(lambda _: 0)


mutations = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(["library", "exotic", "segments"]), changes=mutations)
def test_changed_bytes(
    name: str, changes: list[tuple[int, int]], all_features: wasmtime.Engine
) -> None:
    data = bytearray(BINARIES[name])
    for place, value in changes:
        data[8 + place % (len(data) - 8)] = value
    check_against_wasmtime(bytes(data), all_features)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 14), st.binary(max_size=12)), max_size=4),
    rest=st.binary(max_size=4),
)
def test_random_sections(
    parts: list[tuple[int, bytes]], rest: bytes, all_features: wasmtime.Engine
) -> None:
    check_against_wasmtime(
        writer.module([writer.section(*part) for part in parts]) + rest, all_features
    )


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60), prefix=st.sampled_from([0, 8, 20]))
def test_random_bytes(data: bytes, prefix: int) -> None:
    assert refused(BINARIES["library"][:prefix] + data) in (True, False)


HUGE = b"\xff\xff\xff\xff\x0f"
TYPES = writer.section(1, b"\x01\x60\0\0")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([writer.section(number, HUGE + b"\0" * 20)], "4294967295 items cannot fit")
        for number in (1, 2, 3, 4, 5, 6, 7, 9, 13)
    ]
    + [
        ([writer.section(1, b"\x01\x60" + HUGE + b"\0" * 20)], "items cannot fit"),
        ([writer.section(1, b"\x01\x4e" + HUGE + b"\0" * 20)], "items cannot fit"),
        ([writer.section(1, b"\x01\x50" + HUGE + b"\0" * 20)], "items cannot fit"),
        ([writer.section(1, b"\x01\x5f" + HUGE + b"\0" * 20)], "items cannot fit"),
        ([writer.section(1, b"\x01\x60\xe9\x07" + b"\x7f" * 1001 + b"\0")], "1001 parameters"),
        ([writer.section(1, b"\x01\x40\0\0")], "unknown form of type 0x40"),
        ([writer.section(1, b"\x01\x60\x01\x78\0")], "0x78 is not a type that can stand here"),
        ([writer.section(1, b"\x01\x60\x01\x63\x41\0")], "unknown heap type 0x41"),
        ([writer.section(1, b"\x01\x60\0\0\0")], "1 bytes are left over"),
        ([writer.section(2, b"\x01\x01a\x01b\0\0")], "type 0 is not a function type"),
        (
            [writer.section(1, b"\x01\x5e\x7f\0"), writer.section(3, b"\x01\0")],
            "type 0 is not a function type",
        ),
        ([writer.section(2, b"\x01\x01a\x01b\x05\0")], "import 'b' is of unknown kind 0x05"),
        ([writer.section(2, b"\x01\x01a\x01b\x03\x7f\x02")], "mutability 0x2"),
        ([TYPES, writer.section(3, b"\x01\x01")], "type 1 is not a function type"),
        ([writer.section(4, b"\x01\x7f\0\0")], "0x7f is not a type that can stand here"),
        ([writer.section(4, b"\x01\x70\x08\0")], "unknown flags 0x8 of a table"),
        ([writer.section(4, b"\x01\x40\x01\x70\0\0\xd0\x70\x0b")], "unknown encoding of a table"),
        ([writer.section(5, b"\x01\x10\0")], "unknown flags 0x10 of a memory"),
        ([writer.section(5, b"\x01\x01\x02\x01")], "maximum 1 is less than the minimum 2"),
        ([writer.section(5, b"\x01\x08\0\x05")], "page size of 2\\*\\*5"),
        ([TYPES, writer.section(13, b"\x01\x01\0")], "attribute of a tag"),
        ([writer.section(6, b"\x01\x7f\0\x10\0\x0b")], "instruction 0x10 in a constant expression"),
        ([writer.section(6, b"\x01\x7f\0\xfb\x02\x0b")], "GC instruction"),
        ([writer.section(6, b"\x01\x7f\0\xfd\x0d" + b"\0" * 16 + b"\x0b")], "instruction 0xfd"),
        ([writer.section(6, b"\x01\x7f\0\x41")], "unexpected end"),
        ([writer.section(6, b"\x01\x7f\0" + b"\x41\0" * 101 + b"\x0b")], "101 instructions"),
        ([writer.section(7, b"\x01\x01a\0\0")], "export 'a': there is no function 0"),
        ([writer.section(7, b"\x01\x01a\x05\0")], "export 'a' is of unknown kind 0x05"),
        (
            [TYPES, writer.section(3, b"\x01\0"), writer.section(7, b"\x02\x01a\0\0\x01a\0\0")],
            "duplicate export 'a'",
        ),
        ([writer.section(8, b"\0")], "start function: there is no function 0"),
        ([writer.section(9, b"\x01\x08\0\0")], "unknown flags 0x8 of an element segment"),
        ([writer.section(9, b"\x01\0\x41\0\x0b\0")], "there is no table 0"),
        (
            [writer.section(4, b"\x01\x70\0\0"), writer.section(9, b"\x01\0\x41\0\x0b\x01\0")],
            "there is no function 0",
        ),
        ([writer.section(9, b"\x01\x01\x01\0")], "element segment of an unknown kind"),
        ([b"\0\x01\x05"], "name of a custom section does not fit"),
        ([b"\0\0"], "name of a custom section does not fit|unexpected end"),
        ([writer.custom_section("x", b""), b"\0\x02\x01\xff"], "UTF-8"),
    ],
)
def test_malformed_modules(
    parts: list[bytes], expected: str, all_features: wasmtime.Engine
) -> None:
    data = writer.module(parts)
    with pytest.raises(ParseError, match=expected) as caught:
        parse_module(data, name="bad.wasm")
    assert caught.value.module == "bad.wasm"
    assert caught.value.offset is not None
    assert caught.value.offset <= len(data)
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module.validate(all_features, data)


def test_a_malformed_name_section_does_not_matter() -> None:
    for body in (b"", b"\0", b"\0\x05", b"\0\x02\x01\xff", b"\x01\xff"):
        info = parse_module(writer.module([writer.custom_section("name", body)]))
        assert info.module_name is None
    assert (
        parse_module(writer.module([writer.custom_section("name", b"\0\x02\x01m")])).module_name
        == "m"
    )


def test_any_bytes_like_object_is_taken() -> None:
    data = BINARIES["library"]
    assert parse_module(memoryview(data)).exports == parse_module(bytearray(data)).exports  # type: ignore[arg-type]


def large_module(exports: int, *, padding: int = 0) -> bytes:
    """``exports`` functions in the table, as many exported globals, and ``padding`` bytes."""
    names = [f"function_with_a_usual_name_{number}" for number in range(exports)]
    random.Random(1).shuffle(names)
    unsigned, vector = writer.unsigned, writer.vector
    body = writer.function_body(b"")
    items = [writer.name(name) + b"\0" + unsigned(index) for index, name in enumerate(names)]
    items += [
        writer.name("data_" + name) + b"\x03" + unsigned(index) for index, name in enumerate(names)
    ]
    return writer.module(
        [
            TYPES,
            writer.section(3, unsigned(exports) + b"\0" * exports),
            writer.section(4, vector([b"\x70" + b"\0" + unsigned(exports)])),
            writer.section(
                6,
                vector(
                    [b"\x7f\0\x41" + writer.s32(index * 8) + b"\x0b" for index in range(exports)]
                ),
            ),
            writer.section(7, vector(items)),
            writer.section(
                9,
                vector([b"\0\x41\x01\x0b" + vector([unsigned(index) for index in range(exports)])]),
            ),
            writer.section(10, vector([body] * exports)),
            writer.section(11, vector([b"\x01" + unsigned(padding) + b"\0" * padding])),
            writer.custom_section(".debug_info", b"\0" * padding),
        ]
    )


def calls(data: bytes) -> int:
    """How many functions are called to read a module: its time, without the noise of a clock."""
    count = 0

    def profile(*_: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(profile)
    try:
        parse_module(data)
    finally:
        sys.setprofile(None)
    return count


def test_the_time_grows_with_the_number_of_symbols_only() -> None:
    small, large = large_module(1_000), large_module(8_000)
    wasmtime.Module.validate(wasmtime.Engine(), large)
    assert calls(large) < 9 * calls(small)  # 8 times the work; a quadratic step would make it 64
    padded = large_module(
        10, padding=10_000_000
    )  # 20 MB of data and debug information, which are not walked through
    assert calls(padded) < calls(large_module(10)) + 100
    tracemalloc.start()
    parse_module(padded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000  # one section is copied at a time


def test_hostile_modules_take_linear_time() -> None:
    long_name = b"\0\x05" + writer.unsigned(700_000) + b"\0\0"
    many = b"".join([b"\0\x04\x01a\0\0"] * 100_000)
    start = time.perf_counter()
    parse_module(BINARIES["empty"][:8] + many)
    # A custom section whose name claims to be as long as the file, again and again: refused at the
    # first one.
    with pytest.raises(ParseError):
        parse_module(BINARIES["empty"][:8] + long_name * 100_000)
    # Recursion groups of nothing, and one deep nest of them.
    parse_module(writer.module([writer.section(1, writer.vector([b"\x4e\0"] * 100_000))]))
    with pytest.raises(ParseError):
        parse_module(writer.module([writer.section(1, b"\x01" + b"\x4e\x01" * 100_000)]))
    assert time.perf_counter() - start < 5
