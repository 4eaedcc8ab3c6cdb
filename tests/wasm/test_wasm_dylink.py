"""The ``dylink.0`` section."""

from __future__ import annotations

import re

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from pylinker.errors import ParseError
from pylinker.wasm import DylinkInfo, SymbolFlags, parse_dylink, parse_module, writer
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
        export_flags={"counter": SymbolFlags.TLS, "table": SymbolFlags.BINDING_WEAK | SymbolFlags.VISIBILITY_HIDDEN},
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
def test_everything_that_was_written_is_read(memory, table, needed, paths, exports, imports) -> None:
    unsigned, name, vector = writer.unsigned, writer.name, writer.vector
    info = parse(
        subsection(4, vector([name(m) + name(n) + unsigned(f) for (m, n), f in imports.items()])),
        subsection(1, b"".join(map(unsigned, (*memory, *table)))),
        subsection(5, names(*paths)),
        subsection(99, b"from the future"),
        subsection(2, names(*needed)),
        subsection(3, vector([name(n) + unsigned(f) for n, f in exports.items()])),
    )
    expected = DylinkInfo(memory[0], 1 << memory[1], table[0], 1 << table[1], tuple(needed), tuple(paths), exports, imports)
    assert info == expected


def test_an_empty_section_asks_for_nothing() -> None:
    assert parse() == DylinkInfo()
    assert parse_module(writer.module([writer.custom_section("dylink.0", b"")])).is_dynamic


def test_names_may_be_listed_twice() -> None:
    entry = writer.name("f") + b"\x01"
    other = writer.name("f") + b"\x10"
    info = parse(subsection(3, writer.vector([entry, other])), subsection(2, names("a", "a")), subsection(2, names("b")))
    assert info.export_flags == {"f": 0x11}
    assert info.needed == ("a", "a", "b")


def test_flags_of_a_got_import_may_stand_under_env() -> None:
    info = DylinkInfo(import_flags={("env", "f"): 0x11, ("GOT.func", "g"): 0x1, ("env", "g"): 0x10, ("other", "h"): 0x1})
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
    section = writer.custom_section("dylink.0", b"")
    for data in ([writer.custom_section("x", b""), section], [section, section], [writer.section(1, b"\0"), section]):
        with pytest.raises(ParseError, match="not the first section"):
            parse_module(writer.module(data))
