"""Broken modules: the reader raises LinkError only, loads roll back, rewritten waits stay valid.

Bytes that a fuzzer found and that were wrong once are tests of their own, by name.
"""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pylinker
from binary import HEADER, leb, name, section
from fuzz_targets import TARGETS, check_reader, check_waits, is_valid
from guests import orderly
from running import used

pytestmark = pytest.mark.slow

CORPUS = sorted((Path(__file__).parent / "fuzz" / "corpus").iterdir())

# The same examples each time: a suite that fails now and then is of no use to anybody.
SETTINGS = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

Sections = list[tuple[int, bytes]]

NAMES = st.sampled_from(
    [
        "f",
        "g",
        "env",
        "memory",
        "__indirect_function_table",
        "__memory_base",
        "__wasm_call_ctors",
        "_start",
        "",
        "\0",
        "é",
    ]
)
NUMBERS = st.one_of(
    st.integers(0, 8), st.sampled_from([127, 128, 1 << 16, (1 << 31) - 1, (1 << 32) - 1])
)
WAIT32 = b"\x41\0\x41\0\x42\0\xfe\x01\x02\0\x1a"  # memory.atomic.wait32, and drop
WAIT64 = b"\x41\0\x42\0\x42\0\xfe\x02\x03\x08\x1a"
NOTIFY = b"\x41\0\x41\1\xfe\0\x02\x10\x1a"
NOTHING = (b"", b"\x01", b"\x41\x05\x1a", b"\x02\x40\x0b")


@st.composite
def modules(draw: st.DrawFn) -> Sections:
    """The sections of a valid library, as numbers and contents."""
    count = draw(st.integers(0, 4))
    needed = draw(st.lists(NAMES.filter(lambda each: each not in {"", "\0"}), max_size=3))
    info = section(
        1,
        b"".join(
            leb(draw(st.integers(0, 100))) if at % 2 == 0 else leb(draw(st.integers(0, 4)))
            for at in range(4)
        ),
    )
    dylink = info + section(2, leb(len(needed)) + b"".join(map(name, needed)))
    symbols = draw(st.lists(NAMES, max_size=3))
    dylink += section(
        3,
        leb(len(symbols)) + b"".join(name(each) + leb(draw(st.integers(0, 7))) for each in symbols),
    )
    memory = draw(st.sampled_from([b"\3\1\4", b"\0\1"]))
    imports = [name("env") + name("memory") + b"\2" + memory]
    if draw(st.booleans()):
        imports.append(name("env") + name("__indirect_function_table") + b"\1\x70\0\0")
    imports += [name("env") + name(each) + b"\0\0" for each in draw(st.lists(NAMES, max_size=2))]
    if draw(st.booleans()):
        imports.append(name("GOT.mem") + name(draw(NAMES)) + b"\3\x7f\1")
    functions = sum(each.endswith(b"\0\0") and each[-3:] != b"\x70\0\0" for each in imports)
    code = st.sampled_from([WAIT32, WAIT64, NOTIFY, *NOTHING] if memory[0] == 3 else NOTHING)
    bodies = [b"\0" + b"".join(draw(st.lists(code, max_size=4))) + b"\x0b" for _ in range(count)]
    exported = draw(st.lists(NAMES, unique=True, max_size=count))
    made: Sections = [
        (0, name("dylink.0") + dylink),
        (1, b"\1\x60\0\0"),
        (2, leb(len(imports)) + b"".join(imports)),
        (3, leb(count) + b"\0" * count),
        (
            7,
            leb(len(exported))
            + b"".join(
                name(each) + b"\0" + leb(functions + at) for at, each in enumerate(exported)
            ),
        ),
        (10, leb(count) + b"".join(leb(len(body)) + body for body in bodies)),
    ]
    return made


def joined(parts: Sections) -> bytes:
    return HEADER + b"".join(section(number, body) for number, body in parts)


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """A module with one to three faults: in the contents, size, number or set of its sections."""
    parts = draw(modules())
    resized: set[int] = set()
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(parts) - 1))
        number, body = parts[at]
        place = draw(st.integers(0, len(body)))
        match draw(
            st.sampled_from(["change", "insert", "cut", "number", "twice", "drop", "swap", "size"])
        ):
            case "change":
                body = body[:place] + draw(st.binary(min_size=1, max_size=2)) + body[place + 1 :]
            case "insert":
                body = body[:place] + leb(draw(NUMBERS)) + body[place:]
            case "cut":
                body = body[:place]
            case "number":
                number = draw(st.integers(0, 14))
            case "twice":
                parts.insert(draw(st.integers(0, len(parts))), (number, body))
                continue
            case "drop" if len(parts) > 1:
                del parts[at]
                continue
            case "swap":
                parts[at], parts[0] = parts[0], parts[at]
                continue
            case "size":
                resized.add(number)
        parts[at] = number, body
    data = HEADER
    for number, body in parts:
        size = draw(NUMBERS) if number in resized else len(body)
        data += bytes([number]) + leb(size) + body
    return data


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly(120):
        yield


@SETTINGS
@given(parts=modules())
def test_what_is_broken_was_valid(parts: Sections) -> None:
    data = joined(parts)
    assert is_valid(data)
    assert check_reader(data)
    waits = any(each in parts[5][1] for each in (WAIT32, WAIT64, NOTIFY))
    assert check_waits(data) == waits


@SETTINGS
@given(data=broken())
def test_the_reader_gives_link_errors_only(data: bytes) -> None:
    tracemalloc.start()
    try:
        check_reader(data)  # which is stricter than wasmtime: it reads dylink.0, too
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20  # for a file of some hundred bytes, whatever numbers are in it


@SETTINGS
@given(data=broken())
def test_rewritten_waits_stay_valid(data: bytes) -> None:
    check_waits(data)


@SETTINGS
@given(data=broken())
def test_a_load_leaves_the_linker_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "broken"
    folder.mkdir(exist_ok=True)
    (folder / "lib.so").write_bytes(data)
    with pylinker.Program(library_path=[folder], cache=False) as program:
        before = used(program)
        with contextlib.suppress(pylinker.LinkError):
            program.dlopen("lib.so").close()
        assert used(program) == before
    with contextlib.suppress(pylinker.LinkError):
        pylinker.CDLL("lib.so", library_path=[folder], cache=False).close()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_the_corpus(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


def test_the_corpus_is_small() -> None:
    assert 4 <= len(CORPUS) <= 100
    assert sum(path.stat().st_size for path in CORPUS) < 100_000
