"""The walk over instructions, with wasm-tools and wasmtime as the second opinion."""

from __future__ import annotations

import itertools
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime
from hypothesis import example, given
from hypothesis import strategies as st

from pylinker.errors import ParseError
from pylinker.wasm import instructions as module_under_test
from pylinker.wasm import writer
from pylinker.wasm.instructions import instructions, read_memory_immediate
from pylinker.wasm.reader import Reader, sections

# Every instruction pylinker knows: opcode, second opcode (None if it has one byte), kinds of
# operand.
KNOWN = [(opcode, None, operands) for opcode, operands in module_under_test._PLAIN.items()]
KNOWN += [
    (prefix, second, kinds)
    for prefix, group in module_under_test._PREFIXED.items()
    for second, kinds in group.items()
]

# For each kind of operand some ways to write it.
OPERANDS = {
    "i": [b"\x05", b"\x65", b"\x85\x80\x00"],
    "o": [b"\0", b"\x81\x00"],
    "m": [b"\x00\x05", b"\x00\x85\x01", b"\x42\x03\x05", b"\x80\x00\x85\x00"],
    "t": [b"\x40", b"\x7f", b"\x05", b"\x85\x01", b"\x63\x70", b"\x64\x85\x01", b"\x63\x65\x6e"],
    "h": [b"\x70", b"\x05", b"\x85\x01", b"\x65\x6e", b"\x62\x05"],
    "b": [b"\0"],
    "4": [b"\xfe\x01\x02\x00"],
    "8": [b"\xfe\x01\x02\x00\xfe\x01\x02\x00"],
    "x": [b"\x01\x02\x00\x1e" * 4],
    "L": [b"\0", b"\x02\x00\x81\x01"],
    "V": [b"\x01\x7f", b"\x02\x7f\x63\x70"],
    "C": [b"\0", b"\x04\x00\x01\x02\x01\x81\x01\x02\x02\x01\x03\x01"],
    "R": [b"\0", b"\x02\x00\x01\x02\x01\x81\x01"],
}
# What has to stand around an instruction for it to be read at all.
AROUND = {
    0x05: (b"\x04\x40", b"\x0b"),
    0x07: (b"\x06\x40", b"\x0b"),
    0x0B: (b"\x02\x40", b""),
    0x18: (b"\x06\x40", b""),
    0x19: (b"\x06\x40", b"\x0b"),
    **dict.fromkeys((2, 3, 4, 6, 31), (b"", b"\x0b")),
}


def encodings(opcode: int, second: int | None, operands: str) -> Iterator[bytes]:
    """The instruction with each way to write its operands."""
    seconds = (
        [b""] if second is None else [writer.unsigned(second), writer.unsigned(second, length=3)]
    )
    for parts in itertools.product(seconds, *(OPERANDS[kind] for kind in operands)):
        yield bytes([opcode]) + b"".join(parts)


def module_of(bodies: list[bytes]) -> bytes:
    """A module whose functions, () -> (), have these bodies, without the last end."""
    functions = writer.vector([b"\0"] * len(bodies))
    code = writer.vector([writer.function_body(body) for body in bodies])
    return writer.module(
        [writer.section(1, b"\1\x60\0\0"), writer.section(3, functions), writer.section(10, code)]
    )


def walked(data: bytes) -> list[int]:
    """The offsets in the file of all instructions, as pylinker finds them."""
    (code,) = (section for section in sections(data, "m") if section.id == 10)
    reader = Reader(data)
    reader.position = code.start
    found = []
    for _ in range(reader.u32()):
        body = reader.sub(reader.u32())
        found += [body.base + position for position in instructions(body)]
    return found


_LINE = re.compile(r" *0x([0-9a-f]+) \| [0-9a-f ]+\| (.*)")
_NO_INSTRUCTION = re.compile(r"\d+ count|size of function|\d+ local blocks|\d+ locals of type .*")


def dumped(text: str) -> list[int]:
    """The same offsets from the output of ``wasm-tools dump``."""
    _, _, functions = text.partition("| code section\n")
    code, _, _ = functions.partition(" section\n")
    assert "| ??" not in code  # where the instruction could not be read
    lines = [match for match in map(_LINE.fullmatch, code.splitlines()) if match is not None]
    if functions != code:
        lines.pop()  # the header of the next section
    return [int(match[1], 16) for match in lines if not _NO_INSTRUCTION.fullmatch(match[2])]


def test_wasm_tools_finds_the_same_ends_for_every_instruction(wasm_tools) -> None:
    bodies = []
    for opcode, second, operands in KNOWN:
        before, after = AROUND.get(opcode, (b"", b"")) if second is None else (b"", b"")
        bodies += [before + each + after for each in encodings(opcode, second, operands)]
    data = module_of(bodies)
    assert dumped(wasm_tools("dump", data=data)) == walked(data)
    assert len(bodies) > 1000


def test_what_pylinker_does_not_know_wasmtime_does_not_know_either(
    all_features: wasmtime.Engine,
) -> None:
    known = {(opcode, second) for opcode, second, _ in KNOWN}
    prefixes = module_under_test._PREFIXED
    unknown = [
        (opcode, None)
        for opcode in range(256)
        if (opcode, None) not in known and opcode not in prefixes
    ]
    unknown += [
        (prefix, second)
        for prefix in prefixes
        for second in range(0x200)
        if (prefix, second) not in known
    ]
    for opcode, second in unknown:
        code = bytes([opcode]) + (b"" if second is None else writer.unsigned(second))
        with pytest.raises(
            wasmtime.WasmtimeError, match=r"illegal opcode|unknown 0x\w\w subopcode"
        ):
            wasmtime.Module.validate(all_features, module_of([code + bytes(20)]))
        with pytest.raises(ParseError, match="unknown instruction"):
            list(instructions(Reader(b"\0" + code + bytes(20))))


FEATURES = (
    "threads",
    "gc",
    "exceptions",
    "tail-call",
    "memory64",
    "relaxed-simd",
    "simd",
    "wide-arithmetic",
    "reference-types",
)


@pytest.mark.parametrize("seed", range(8))
def test_wasm_tools_agrees_on_random_modules(seed: int, wasm_tools, tmp_path: Path) -> None:
    (tmp_path / "seed").write_bytes(random.Random(seed).randbytes(60_000))
    output = tmp_path / "made.wasm"
    program = shutil.which("wasm-tools") or shutil.which(
        "wasm-tools", path=str(Path(sys.executable).parent)
    )
    assert program is not None
    options = [f"--{feature}-enabled=true" for feature in FEATURES]
    options += [
        "--min-types=10",
        "--min-funcs=8",
        "--min-memories=1",
        "--max-memories=3",
        "--max-imports=3",
        "--max-instructions=300",
    ]
    subprocess.run(
        [program, "smith", *options, tmp_path / "seed", "-o", output], check=True, timeout=60
    )
    data = output.read_bytes()
    found = walked(data)
    assert found == dumped(wasm_tools("dump", data=data))
    assert len(found) > 500


def test_positions_and_ends_of_a_body() -> None:
    body = Reader(
        b"\x02\x01\x7f\x03\x63\x70" + b"\x20\x00" + b"\x41\xff\x00" + b"\xfe\x01\x02\x10" + b"\x0b"
    )
    assert [(position, body.position) for position in instructions(body)] == [
        (6, 8),
        (8, 11),
        (11, 15),
        (15, 16),
    ]


@pytest.mark.parametrize(
    ("encoded", "immediate"),
    [
        (b"\x02\x00", (2, 0, 0)),
        (b"\x03\xff\x01", (3, 0, 255)),
        (b"\x42\x05\x07", (2, 5, 7)),
        (b"\x82\x00\x80\x80\x80\x80\x10", (2, 0, 2**32)),
    ],
)
def test_memory_immediates(encoded: bytes, immediate: tuple[int, int, int]) -> None:
    reader = Reader(encoded)
    assert read_memory_immediate(reader) == immediate
    reader.finish()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "unexpected end"),
        (b"\x05\x01", "5 items cannot fit"),
        (b"\x01\x01", "1 items cannot fit"),
        (b"\0\x41", "unexpected end inside an integer"),
        (b"\0\x41\xff", "unexpected end inside an integer"),
        (b"\0\x44\0\0\0", "wanted 8 bytes"),
        (b"\0\xfd\x0c\0", "wanted 16 bytes"),
        (b"\0\x0e\xff\xff\xff\xff\x0f\0", "4294967295 items cannot fit"),
        (b"\0\x1f\x40\x01\x07\x00\x00", "unknown kind 0x7 of a catch clause"),
        (b"\0\xe3\x00\x01\x02\x00\x00", "unknown kind 0x2 of a handler"),
        (b"\0\xfe\x80\x80\x80\x80\x80\x80\x00", "integer has more bytes than 32 bits need"),
        (b"\0\xff", "unknown instruction 0xff"),
        (b"\0\xfc\x40", "unknown instruction 0xfc 0x40"),
    ],
)
def test_malformed_bodies(body: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        list(instructions(Reader(body, module="m", section="code")))


@given(st.binary(max_size=60))
@example(b"\0" + b"\xfe" * 20)
def test_any_bytes_give_ascending_positions_or_a_parse_error(body: bytes) -> None:
    reader = Reader(b"\0" + body)
    end = 1
    try:
        for position in instructions(reader):
            assert position == end
            assert position < reader.position <= len(reader.data)
            end = reader.position
    except ParseError:
        return
    assert end == len(reader.data)


def test_a_long_integer_costs_no_more_than_its_bytes() -> None:
    body = Reader(b"\0\x41" + b"\xff" * 1_000_000 + b"\0\x0b")
    started = time.perf_counter()
    assert len(list(instructions(body))) == 2
    assert time.perf_counter() - started < 5  # quadratic behaviour would need minutes
