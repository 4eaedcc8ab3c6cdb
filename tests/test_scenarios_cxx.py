"""C++ across modules: virtual calls, RTTI, templates, static objects."""

from __future__ import annotations

import pytest

import pylinker
from running import lines, run, trace
from toolchain import Scenario

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bind_now", [False, True])
def test_virtual_calls_rtti_and_destructors_cross_modules_both_ways(
    scenario: Scenario, bind_now: bool
) -> None:
    assert run(scenario("cxx") / "main.wasm", bind_now=bind_now) == (
        0,
        lines(
            "square 25 is a square",  # made in the library, called from both
            "shape 3 is not",  # derived in the program from the library's abstract class
            "square 1100 is a square",  # derived in the program, calls its base in the library
            "total 1128",
            "alive 3",
            "type 1 0",
            "alive 0",
            "registry 14",
        ),
        "",
    )


def test_static_objects_are_constructed_at_load_and_destroyed_at_dlclose_in_reverse(
    scenario: Scenario,
) -> None:
    with pylinker.Program(scenario("cxx") / "main.wasm") as program:
        library = program.dlopen("libstatics.so", pylinker.RTLD_GLOBAL)
        assert trace(program) == "AB"
        assert library.touch() == ord("C")
        assert library.touch() == ord("C")
        assert trace(program) == "ABC"
        keep = library.address_of("trace")
        library.close()
        # the destructors ran in the library's memory, which has not been reused since
        assert program.memory.cstring(keep) == b"ABCcba"


def test_static_objects_of_a_library_are_destroyed_at_exit(scenario: Scenario) -> None:
    with pylinker.Program(scenario("cxx") / "main.wasm", stdout=pylinker.CAPTURE) as program:
        library = program.dlopen("libstatics.so", pylinker.RTLD_GLOBAL)
        library.touch()
        assert program.run() == 0
        assert trace(program) == "ABCcba"


def test_mangled_names_are_symbols_like_any_other(scenario: Scenario) -> None:
    with pylinker.Program(scenario("cxx") / "main.wasm") as program:
        shapes = program.dlopen("libshapes.so")
        assert shapes["_Z12registry_addi"](3) == 3
        square = shapes["_Z11make_squarei"](4)
        assert program.memory.read(square + 4, 4) == (4).to_bytes(4, "little")
        vtable = program.dlsym(pylinker.RTLD_DEFAULT, "_ZTV6Square")
        assert program.memory.read(square, 4) == (vtable + 8).to_bytes(4, "little")
