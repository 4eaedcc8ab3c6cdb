"""The primitive values, and the walk over sections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pylinker.errors import ParseError
from pylinker.wasm import writer
from pylinker.wasm.reader import Reader, quoted, sections

HEADER = b"\0asm\1\0\0\0"


def integers(low: int, high: int) -> st.SearchStrategy[int]:
    edges = [
        value
        for value in (low, low + 1, -65, -64, -1, 0, 63, 64, 127, 128, high - 1, high)
        if low <= value <= high
    ]
    return st.sampled_from(edges) | st.integers(low, high)


@given(integers(0, 2**32 - 1), integers(0, 2**64 - 1))
def test_unsigned_integers_survive_a_round_trip(small: int, large: int) -> None:
    reader = Reader(writer.unsigned(small) + writer.unsigned(large))
    assert (reader.u32(), reader.u64()) == (small, large)
    reader.finish()


@given(integers(-(2**31), 2**31 - 1), integers(-(2**32), 2**32 - 1), integers(-(2**63), 2**63 - 1))
def test_signed_integers_survive_a_round_trip(a: int, b: int, c: int) -> None:
    reader = Reader(writer.s32(a) + writer.s32(b) + writer.s32(c))
    assert (reader.s32(), reader.s33(), reader.s64()) == (a, b, c)
    reader.finish()


def test_known_encodings() -> None:
    """The examples of the LEB128 article, and padding up to the full length, which is allowed."""
    assert Reader(b"\xe5\x8e\x26").u32() == 624485
    assert Reader(b"\xc0\xbb\x78").s32() == -123456
    assert Reader(b"\x83\x80\x80\x80\x00").u32() == 3
    assert Reader(b"\xff\xff\xff\xff\x7f").s32() == -1
    assert Reader(b"\xff\xff\xff\xff\x07").s32() == 2**31 - 1
    assert Reader(b"\x80\x80\x80\x80\x78").s32() == -(2**31)


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("u32", b"\x80\x80\x80\x80\x10", "out of range"),
        ("u32", b"\xff\xff\xff\xff\x8f\x00", "more bytes"),
        ("u64", b"\xff" * 9 + b"\x02", "out of range"),
        ("u64", b"\x80" * 10 + b"\x00", "more bytes"),
        (
            "s32",
            b"\xff\xff\xff\xff\x0f",
            "out of range",
        ),  # 2**32 - 1: the unused bits do not repeat the sign
        ("s32", b"\x80\x80\x80\x80\x70", "out of range"),
        ("s32", b"\x80\x80\x80\x80\x80\x00", "more bytes"),
        ("s64", b"\x80" * 9 + b"\x01", "out of range"),
        ("s64", b"\x80" * 10 + b"\x00", "more bytes"),
        ("u32", b"\x80\x80", "unexpected end"),
        ("s32", b"\x80", "unexpected end"),
        ("u32", b"", "unexpected end"),
        ("s64", b"", "unexpected end"),
        ("byte", b"", "unexpected end"),
        ("name", b"", "unexpected end"),
        ("name", b"\x03ab", "name of 3 bytes, but 2 are left"),
        ("name", b"\xff\xff\xff\xff\x0fab", "name of 4294967295 bytes"),
        ("name", b"\x02\xc3\x28", "UTF-8"),
        ("name", b"\x03\xed\xa0\x80", "UTF-8"),  # a lone surrogate
        ("count", b"\x03ab", "3 items cannot fit in the 2 bytes"),
        ("count", b"\xff\xff\xff\xff\x0fab", "4294967295 items"),
        ("finish", b"ab", "2 bytes are left over"),
    ],
)
def test_malformed_values(method: str, data: bytes, expected: str) -> None:
    reader = Reader(data, base=16, module="lib.so", section="global")
    with pytest.raises(ParseError, match=expected) as caught:
        getattr(reader, method)()
    error = caught.value
    assert (error.module, error.section) == ("lib.so", "global")
    assert error.offset is not None
    assert 16 <= error.offset <= 16 + len(data)
    assert str(error).startswith("lib.so: ")


def test_take_and_sub_stay_inside() -> None:
    reader = Reader(b"abcdef", base=100)
    inner = reader.sub(4)
    assert (inner.take(3), inner.base, reader.position) == (b"abc", 100, 4)
    for read in (inner, reader):
        with pytest.raises(ParseError, match="unexpected end"):
            read.take(3)
    with pytest.raises(ParseError, match="unexpected end"):
        reader.sub(2**32 - 1)


@given(st.lists(integers(0, 2**32 - 1), max_size=40))
def test_lists_of_integers(values: list[int]) -> None:
    data = b"".join(map(writer.unsigned, values))
    reader = Reader(data + b"\x01")
    assert reader.u32s(len(values)) == values
    assert reader.take(1) == b"\x01"
    if data:
        with pytest.raises(ParseError):
            Reader(data[:-1]).u32s(len(values))


def test_counts_consider_the_size_of_an_item() -> None:
    assert Reader(b"\x02abcd").count(2) == 2
    with pytest.raises(ParseError, match="cannot fit"):
        Reader(b"\x02abc").count(2)


def test_names_in_messages_are_escaped_and_short() -> None:
    assert quoted("a\x1b[0m\n") == r"'a\x1b[0m\n'"
    assert len(quoted("x" * 10_000)) < 100


def test_sections_are_listed_with_their_places() -> None:
    custom = writer.custom_section("x", b"abc")
    data = HEADER + custom + writer.section(1, b"\0") + writer.section(11, b"")
    first, second, third = sections(data, "m")
    assert first == (0, 8, 10, 8 + len(custom))
    assert second == (1, first.end, first.end + 2, first.end + 3)
    assert third == (11, second.end, len(data), len(data))
    reader = second.reader(data, "m")
    assert (reader.data, reader.base, reader.section) == (b"\0", second.start, "type")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "empty or truncated"),
        (b"\0as", "empty or truncated"),
        (b"\x7fELF\2\1\1", "does not start with"),
        (b"(module)", "does not start with"),
        (HEADER[:6], "unexpected end in the header"),
        (b"\0asm\2\0\0\0", "unsupported version 0x2"),
        (b"\0asm\x0d\0\1\0", "it is a component, not a core module"),
        (HEADER + b"\x01", "unexpected end"),
        (HEADER + b"\x01\x05\0", "section type has 5 bytes, but the file ends after 1"),
        (HEADER + b"\x00\xff\xff\xff\xff\x0f", "section custom has 4294967295 bytes"),
        (HEADER + b"\x0e\x00", "unknown section id 14"),
        (HEADER + b"\x01\x01\0" + b"\x01\x01\0", "section type comes twice"),
        (HEADER + b"\x03\x01\0" + b"\x01\x01\0", "section type is out of order"),
        (HEADER + b"\x06\x01\0" + b"\x0d\x01\0", "section tag is out of order"),
        (HEADER + b"\x0a\x01\0" + b"\x0c\x01\0", "section data count is out of order"),
    ],
)
def test_malformed_section_lists(data: bytes, expected: str) -> None:
    with pytest.raises(ParseError, match=expected):
        list(sections(data, "m"))
