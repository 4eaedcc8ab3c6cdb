"""The ``dylink.0`` section."""

from __future__ import annotations

import re

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from pylinker.errors import ParseError
from pylinker.wasm import (
    CachedInfo,
    DylinkInfo,
    SymbolFlags,
    pack_info,
    parse_dylink,
    parse_module,
    writer,
)
from pylinker.wasm.reader import Reader

FULL = """(module (@dylink.0
    (mem-info (memory 100 4) (table 7 1))
    (needed "libc.so" "sub/libm.so")
    (export-info "counter" tls) (export-info "table" binding-weak visibility-hidden)
    (import-info "env" "maybe" binding-weak undefined) (import-info "GOT.mem" "there" 0x200)
    (runtime-path "$ORIGIN/lib" "/usr/lib")))"""


def subsection(kind: int, contents: bytes) -> bytes:
    return bytes([kind]) + writer.unsigned(len(contents)) + contents


def names(*texts: str) -> bytes:
    return writer.vector([writer.name(text) for text in texts])


def parse(*parts: bytes) -> DylinkInfo:
    return parse_dylink(Reader(b"".join(parts), module="m", section="dylink.0"))


def test_all_subsections() -> None:
    info = parse_module(wasmtime.wat2wasm(FULL)).dylink
    assert info == DylinkInfo(
        memory_size=100,
        memory_alignment=16,
        table_size=7,
        table_alignment=2,
        needed=("libc.so", "sub/libm.so"),
        runtime_path=("$ORIGIN/lib", "/usr/lib"),
        export_flags={
            "counter": SymbolFlags.TLS,
            "table": SymbolFlags.BINDING_WEAK | SymbolFlags.VISIBILITY_HIDDEN,
        },
        import_flags={
            ("env", "maybe"): SymbolFlags.BINDING_WEAK | SymbolFlags.UNDEFINED,
            ("GOT.mem", "there"): SymbolFlags.ABSOLUTE,
        },
    )


def test_flags_have_the_names_that_wasm_tools_gives_them(wasm_tools) -> None:
    """wasm-tools prints each flag by name; ABSOLUTE is newer than its list."""
    flags = [flag for flag in SymbolFlags if flag != SymbolFlags.ABSOLUTE]
    entries = [writer.name(flag.name or "") + writer.unsigned(flag) for flag in flags]
    data = writer.module([writer.custom_section("dylink.0", subsection(3, writer.vector(entries)))])
    printed = re.findall(r'\(export-info "(\w+)" ([\w-]+)\)', wasm_tools("print", data=data))
    assert printed == [(flag.name, (flag.name or "").lower().replace("_", "-")) for flag in flags]
    info = parse_module(data).dylink
    assert info is not None
    assert info.export_flags == {flag.name: flag for flag in flags}


symbols = st.text(max_size=6)
path_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
flags = st.integers(0, 2**32 - 1)


@given(
    memory=st.tuples(flags, st.integers(0, 31)),
    table=st.tuples(flags, st.integers(0, 31)),
    needed=st.lists(path_names, max_size=4),
    paths=st.lists(path_names, max_size=4),
    exports=st.dictionaries(symbols, flags, max_size=4),
    imports=st.dictionaries(st.tuples(symbols, symbols), flags, max_size=4),
)
@pytest.mark.slow
def test_everything_that_was_written_is_read(
    memory, table, needed, paths, exports, imports
) -> None:
    unsigned, name, vector = writer.unsigned, writer.name, writer.vector
    info = parse(
        subsection(4, vector([name(m) + name(n) + unsigned(f) for (m, n), f in imports.items()])),
        subsection(1, b"".join(map(unsigned, (*memory, *table)))),
        subsection(5, names(*paths)),
        subsection(99, b"from the future"),
        subsection(2, names(*needed)),
        subsection(3, vector([name(n) + unsigned(f) for n, f in exports.items()])),
    )
    expected = DylinkInfo(
        memory[0],
        1 << memory[1],
        table[0],
        1 << table[1],
        tuple(needed),
        tuple(paths),
        exports,
        imports,
    )
    assert info == expected


def test_an_empty_section_asks_for_nothing() -> None:
    assert parse() == DylinkInfo()
    assert parse_module(writer.module([writer.custom_section("dylink.0", b"")])).is_dynamic


def test_names_may_be_listed_twice() -> None:
    entry = writer.name("f") + b"\x01"
    other = writer.name("f") + b"\x10"
    info = parse(
        subsection(3, writer.vector([entry, other])),
        subsection(2, names("a", "a")),
        subsection(2, names("b")),
    )
    assert info.export_flags == {"f": 0x11}
    assert info.needed == ("a", "a", "b")


def test_entries_beyond_the_count_are_read() -> None:
    """auditwheel-emscripten adds entries to import-info and leaves the count as it was."""
    first, second = (writer.name("env") + writer.name(name) + b"\x11" for name in "ab")
    info = parse(
        subsection(4, b"\x01" + first + second), subsection(3, b"\0" + writer.name("c") + b"\x01")
    )
    assert info.import_flags == {("env", "a"): 0x11, ("env", "b"): 0x11}
    assert info.export_flags == {"c": 1}


LEGACY = b"\x0b\x02\x03\x01"  # 11 bytes aligned to 4, 3 slots aligned to 2


@pytest.mark.parametrize(
    ("rest", "needed"), [(b"", ()), (b"\0", ()), (names("a.so", "b.so"), ("a.so", "b.so"))]
)
def test_the_older_section_says_the_same(rest: bytes, needed: tuple[str, ...]) -> None:
    info = parse_module(writer.module([writer.custom_section("dylink", LEGACY + rest)]))
    assert info.dylink == DylinkInfo(
        memory_size=11, memory_alignment=4, table_size=3, table_alignment=2, needed=needed
    )
    assert info.is_dynamic
    assert info.is_position_independent


def test_the_newer_section_counts_if_there_are_both() -> None:
    newer = writer.custom_section("dylink.0", subsection(1, b"\x05\0\0\0"))
    info = parse_module(writer.module([newer, writer.custom_section("dylink", LEGACY)]))
    assert info.dylink == DylinkInfo(memory_size=5)
    with pytest.raises(ParseError, match="not the first section"):
        parse_module(writer.module([writer.custom_section("dylink", LEGACY), newer]))


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (b"", "unexpected end"),
        (LEGACY[:3], "unexpected end"),
        (b"\0\x20\0\0", "memory alignment of 2\\*\\*32"),
        (LEGACY + b"\0x", "1 bytes are left over"),
        (LEGACY + b"\xff\xff\xff\xff\x0f", "4294967295 items cannot fit"),
        (LEGACY + names("a\0b"), "NUL"),
    ],
)
def test_malformed_older_sections(contents: bytes, expected: str) -> None:
    with pytest.raises(ParseError, match=expected) as caught:
        parse_module(writer.module([writer.custom_section("dylink", contents)]), name="lib.so")
    assert caught.value.section == "dylink"


BASE = '(import "env" "__memory_base" (global i32))'
SLOTS = '(import "env" "__table_base" (global i32))'
MEMORY = '(import "env" "memory" (memory 1))'
TABLE = '(import "env" "__indirect_function_table" (table 1 funcref))'


@pytest.mark.parametrize(
    ("fields", "independent", "data", "slots"),
    [
        ("", True, None, 0),
        (f'{MEMORY} (data (i32.const 8) "ab") (data (i32.const 4) "c")', False, (4, 10), 0),
        (f'{MEMORY} (data (i32.const 8) "")', True, None, 0),
        (f'{MEMORY} {BASE} (data (i32.const 8) "ab")', True, (8, 10), 0),
        (f'{MEMORY} {BASE} (data (global.get 0) "ab")', True, None, 0),
        (f'{MEMORY} (data "ab")', True, None, 0),
        (f'{MEMORY} (data "ab") (func $s) (start $s)', False, None, 0),
        (f'{MEMORY} (global (export "__stack_pointer") (mut i32) (i32.const 9))', False, None, 0),
        (
            (
                f'{MEMORY} (import "env" "__stack_pointer" (global $s (mut i32))) '
                f'(export "__stack_pointer" (global $s))'
            ),
            True,
            None,
            0,
        ),
        ("(memory 1)", False, None, 0),
        (f"{BASE} (memory 1)", True, None, 0),
        (f'{MEMORY} (memory $own 1) (data (memory $own) (i32.const 4) "x")', True, None, 0),
        (f"{TABLE} (elem (i32.const 3) $f $f) (func $f)", True, None, 5),
        (f"{TABLE} {SLOTS} (elem (i32.const 3) $f $f) (func $f)", True, None, 0),
        (f"{TABLE} {SLOTS} (elem (global.get 0) $f $f) (func $f)", True, None, 0),
        ("(table 9 funcref) (elem (i32.const 3) $f $f) (func $f)", True, None, 0),
    ],
)
def test_modules_that_choose_their_place(
    fields: str, independent: bool, data: tuple[int, int] | None, slots: int
) -> None:
    text = f"(module (@dylink.0 (mem-info (memory 8 2))) {fields})"
    binary = bytes(wasmtime.wat2wasm(text))
    read = parse_module(binary)
    for info in (read, CachedInfo(memoryview(pack_info(read, binary)), name="m")):
        assert (info.is_position_independent, info.data_range, info.fixed_slots) == (
            independent,
            data,
            slots,
        )
    assert not parse_module(bytes(wasmtime.wat2wasm(f"(module {fields})"))).is_position_independent


def test_flags_of_a_got_import_may_stand_under_env() -> None:
    info = DylinkInfo(
        import_flags={
            ("env", "f"): 0x11,
            ("GOT.func", "g"): 0x1,
            ("env", "g"): 0x10,
            ("other", "h"): 0x1,
        }
    )
    assert info.flags_of_import("env", "f") == 0x11
    assert info.flags_of_import("GOT.func", "f") == 0x11
    assert info.flags_of_import("GOT.mem", "f") == 0x11
    assert info.flags_of_import("GOT.func", "g") == 0x11
    assert info.flags_of_import("env2", "f") == 0
    assert info.flags_of_import("GOT.mem", "h") == 0


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (b"\x01", "unexpected end"),
        (b"\x01\x05\0\0\0\0", "wanted 5 bytes but 4 are left"),
        (subsection(1, b"\0\0\0"), "unexpected end"),
        (subsection(1, b"\0\x20\0\0"), "memory alignment of 2\\*\\*32"),
        (subsection(1, b"\0\0\0\x20"), "table alignment of 2\\*\\*32"),
        (subsection(1, b"\0\0\0\0\0"), "1 bytes are left over"),
        (subsection(2, b"\xff\xff\xff\xff\x0f"), "4294967295 items cannot fit"),
        (subsection(2, names("a\0b")), "NUL"),
        (subsection(5, names("/lib\0")), "NUL"),
        (subsection(2, b"\x01\x01\xff"), "UTF-8"),
        (subsection(3, b"\xff\xff\xff\xff\x0f"), "4294967295 items cannot fit"),
        (subsection(3, b"\x01\x01a"), "cannot fit|unexpected end"),
        (subsection(4, b"\xff\xff\xff\xff\x0f\0\0"), "4294967295 items cannot fit"),
        (subsection(4, b"\x01\x01a\x01b"), "unexpected end"),
        (subsection(4, b"\x00\x00"), "left over"),
        (subsection(4, b"\x02\x01a\x01b\x11\0"), "unexpected end"),
        (subsection(4, b"\x00\x01a\x7fb"), "name of 127 bytes"),
    ],
)
def test_malformed_sections(contents: bytes, expected: str) -> None:
    data = writer.module([writer.custom_section("dylink.0", contents)])
    with pytest.raises(ParseError, match=expected) as caught:
        parse_module(data, name="lib.so")
    assert caught.value.section == "dylink.0"
    assert caught.value.offset is not None
    assert caught.value.offset <= len(data)


def test_the_section_has_to_come_first() -> None:
    section, older = writer.custom_section("dylink.0", b""), writer.custom_section("dylink", LEGACY)
    other = writer.custom_section("x", b"")
    for data in (
        [other, section],
        [section, section],
        [writer.section(1, b"\0"), section],
        [other, older],
        [older, older],
    ):
        with pytest.raises(ParseError, match="not the first section"):
            parse_module(writer.module(data))
