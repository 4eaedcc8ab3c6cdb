"""Who has which bytes of guest memory: heaps, the places that the linker knows, and room for libraries."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import wasmtime

import pylinker
from pylinker.linker import survey
from running import used
from test_cli import cli
from toolchain import Scenario

PIC = '(import "env" "memory" (memory 1)) (import "env" "__memory_base" (global $base i32))'
TABLE = '(import "env" "__indirect_function_table" (table 1 funcref))'
PAGE = 1 << 16

NAMES = ("__heap_base", "__heap_end", "__stack_low", "__stack_high", "__data_end", "__global_base")


def write(path: Path, text: str) -> Path:
    path.write_bytes(wasmtime.wat2wasm(text))
    return path


def asks(*names: str, fields: str = "", size: int = 16, needed: str = "") -> str:
    """A library with a function for each name, of the linker's, that gives its address; and one that gives its own."""
    imports = "".join(f'(import "GOT.mem" "{name}" (global ${name} (mut i32)))' for name in names)
    functions = "".join(f'(func (export "ask{name}") (result i32) (global.get ${name}))' for name in names)
    return f"""(module (@dylink.0 (mem-info (memory {size} 4) (table 0 0)) {needed}) {imports} {PIC}
      (func (export "data") (result i32) (global.get $base)) {functions} {fields})"""


def heap_of(library: pylinker.CDLL) -> tuple[int, int]:
    return library.ask__heap_base(), library.ask__heap_end()


BOTH = ("__heap_base", "__heap_end")


class TestOneOwner:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("one", "two", "three"):
            write(tmp_path / f"lib{name}.so", asks(*BOTH))
        write(tmp_path / "libnone.so", asks())
        return tmp_path

    def test_the_first_that_asks_has_it(self, folder: Path) -> None:
        with pylinker.CDLL(folder / "libone.so", library_path=[folder]) as one:
            base, end = heap_of(one)
            assert base < end
            for name in ("libtwo.so", "libthree.so"):
                start, stop = heap_of(one.program.dlopen(name))
                assert start == stop

    def test_it_is_kept_for_the_first_that_asks(self, folder: Path) -> None:
        with pylinker.CDLL(folder / "libnone.so", library_path=[folder]) as none:
            others = [none.program.dlopen(f"lib{name}.so") for name in ("two", "one")]
            (first, end), (start, stop) = map(heap_of, others)
            assert first < end
            assert start == stop
            assert not first <= none.data() < end
            assert not first <= others[0].data() < end
            assert none.program.memory.read(first, end - first) == bytes(end - first)

    def test_the_order_of_the_scope_decides_at_the_start(self, folder: Path) -> None:
        write(folder / "libuser.so", asks(*BOTH, needed='(needed "libtwo.so")'))
        with pylinker.Program(library_path=[folder], preload=["libuser.so", "libone.so"]) as program:
            ranges = [heap_of(program.dlopen(f"lib{name}.so")) for name in ("user", "one", "two")]
            assert [start < stop for start, stop in ranges] == [True, False, False]
            assert survey(str(folder / "libuser.so"), ["libone.so"], library_path=[str(folder)]).of("heap")[0].defined_by == ("libuser.so",)

    def test_it_is_free_again_when_its_owner_is_unloaded(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder]) as program:
            one = program.dlopen("libone.so")
            base, end = heap_of(one)
            two = program.dlopen("libtwo.so")
            program.memory.write(base, b"used")
            one.close()
            three = program.dlopen("libthree.so")
            assert heap_of(three) == (base, end)
            assert program.memory.read(base, 4) == bytes(4)
            start, stop = heap_of(two)
            assert start == stop
            three.close()
            two.close()
            assert heap_of(program.dlopen("libtwo.so")) == (base, end)

    def test_a_load_that_fails_does_not_take_it(self, folder: Path) -> None:
        trap = '(func (export "__wasm_call_ctors") unreachable)'
        write(folder / "libtrap.so", asks(*BOTH, fields=trap))
        write(folder / "liblacks.so", asks(*BOTH, "no_such_data"))
        with pylinker.Program(library_path=[folder]) as program:
            before = used(program)
            for name in ("libtrap.so", "liblacks.so") * 2:
                with pytest.raises(pylinker.LinkError):
                    program.dlopen(name)
                assert used(program) == before
            start, stop = heap_of(program.dlopen("libone.so"))
            assert start < stop

    def test_a_definition_of_a_module_comes_first(self, folder: Path) -> None:
        write(folder / "libdefines.so", asks(fields='(global (export "__heap_base") i32 (i32.const 8))', size=32))
        with pylinker.Program(library_path=[folder], preload=["libdefines.so"]) as program:
            defines = program.dlopen("libdefines.so")
            assert program.dlopen("libone.so").ask__heap_base() == defines.data() + 8

    def test_check_lists_those_that_ask(self, folder: Path) -> None:
        write(folder / "main.wasm", asks(*BOTH, needed='(needed "libone.so" "libnone.so")'))
        done = cli("check", "--json", "main.wasm", "libtwo.so", "-L", ".", cwd=folder)
        assert done.returncode == 0
        (finding,) = json.loads(done.stdout)["heap"]
        assert finding["defined_by"] == ["main.wasm"]
        assert finding["wanted_by"] == ["libtwo.so", "libone.so"]
        assert "several modules ask for it" in cli("check", "main.wasm", "libtwo.so", "-L", ".", cwd=folder).stdout
        alone = json.loads(cli("check", "--json", "main.wasm", "-L", ".", cwd=folder).stdout)["heap"]
        assert [each["wanted_by"] for each in alone] == [["libone.so"]]
        assert json.loads(cli("check", "--json", "libone.so", cwd=folder).stdout)["heap"] == []


def test_two_mallocs_never_give_out_the_same_bytes(scenario: Scenario, tmp_path: Path) -> None:
    """A program with wasi-libc inside, and a library with a heap in the manner of it: the range, then what ``memory.grow`` gives."""
    grows = """(global $next (mut i32) (i32.const 0)) (global $limit (mut i32) (i32.const 0))
      (func (export "take") (param $size i32) (result i32) (local $at i32)
        (if (i32.eqz (global.get $limit)) (then
          (global.set $next (global.get $__heap_base)) (global.set $limit (global.get $__heap_end))))
        (if (i32.gt_u (i32.add (global.get $next) (local.get $size)) (global.get $limit)) (then
          (global.set $next (i32.mul (memory.grow (i32.const 2)) (i32.const 65536)))
          (global.set $limit (i32.add (global.get $next) (i32.const 131072)))))
        (local.set $at (global.get $next))
        (global.set $next (i32.add (global.get $next) (local.get $size)))
        (local.get $at))"""
    write(tmp_path / "libheap.so", asks(*BOTH, fields=grows))
    write(tmp_path / "libdata.so", asks(size=100_000))
    with pylinker.Program(scenario("dlfcn") / "main.wasm", library_path=[tmp_path]) as program:
        malloc = program.main["malloc"]
        library = program.dlopen("libheap.so")
        taken: list[tuple[int, int]] = []

        def take(address: int, size: int) -> None:
            assert address > 0
            program.memory.write(address, bytes([len(taken) + 1]) * size)
            taken.append((address, size))

        for turn in range(8):
            take(malloc(5000 * (turn + 1)), 5000 * (turn + 1))
            take(library.take(30_000), 30_000)
            opened = write(tmp_path / f"libdata{turn}.so", asks(size=50_000))
            take(program.dlopen(opened).data(), 50_000)
        for number, (address, size) in enumerate(taken, 1):
            assert program.memory.read(address, size) == bytes([number]) * size


class TestOrdinaryProgram:
    """What libraries of a program at fixed addresses find: what it exports, and what its file tells."""

    @pytest.mark.parametrize("main", ["plain.wasm", "shown.wasm", "datafirst.wasm"])
    @pytest.mark.parametrize("late", [False, True])
    def test_the_places_are_those_that_the_program_knows(self, scenario: Scenario, tmp_path: Path, main: str, *, late: bool) -> None:
        derived = {
            "plain.wasm": ("__stack_low", "__stack_high", "__global_base"),
            "datafirst.wasm": ("__heap_base", "__stack_high", "__global_base"),
            "shown.wasm": NAMES,
        }[main]
        path = write(tmp_path / "libasks.so", asks(*derived))
        with pylinker.Program(scenario("layout") / main, preload=[] if late else [path]) as program:
            library = program.dlopen(path)
            for name in derived:
                expected = program.main.main_where(NAMES.index("__heap_base" if name == "__heap_end" else name))
                assert getattr(library, f"ask{name}")() == expected, name
            assert program.run() == 0

    @pytest.mark.parametrize("main", ["plain.wasm", "shown.wasm", "datafirst.wasm"])
    def test_its_heap_is_its_own(self, scenario: Scenario, tmp_path: Path, main: str) -> None:
        path = write(tmp_path / "libasks.so", asks(*BOTH))
        with pylinker.Program(scenario("layout") / main, preload=[path]) as program:
            base, end = heap_of(program.dlopen(path))
            assert base == end >= program.main.main_where(0)
            assert program.run() == 0
        seen = survey(str(scenario("layout") / main), [str(path)])
        assert seen.ok
        assert [(each.defined_by, each.wanted_by) for each in seen.of("heap")] == [((main,), ("libasks.so",))]

    @pytest.mark.parametrize("name", ["__heap_base", "__data_end"])
    def test_what_cannot_be_known_is_undefined_by_name(self, scenario: Scenario, tmp_path: Path, name: str) -> None:
        path = write(tmp_path / "libasks.so", asks(name))
        main = scenario("layout") / "plain.wasm"
        for _ in range(2):
            with pytest.raises(pylinker.UndefinedSymbolError, match=name):
                pylinker.Program(main, preload=[path])
        assert [each.symbol for each in survey(str(main), [str(path)]).of("undefined")] == [name]


def test_a_program_that_the_linker_lays_out_has_all_places(tmp_path: Path) -> None:
    with pylinker.CDLL(write(tmp_path / "libasks.so", asks(*NAMES))) as library:
        places = {name: getattr(library, f"ask{name}")() for name in NAMES}
    assert places["__stack_low"] == 0
    assert places["__stack_high"] <= places["__global_base"] < places["__data_end"] <= places["__heap_base"] < places["__heap_end"]
