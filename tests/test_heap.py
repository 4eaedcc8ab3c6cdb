"""Owners of guest memory: heaps, places that the linker allocated, room for libraries."""

from __future__ import annotations

import functools
import json
import threading
from pathlib import Path
from typing import ClassVar

import pytest
import wasmtime

import pylinker
from pylinker.linker import check_links
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
    """A library that returns the address of each function of the linker, and of one of its own."""
    imports = "".join(f'(import "GOT.mem" "{name}" (global ${name} (mut i32)))' for name in names)
    functions = "".join(
        f'(func (export "ask{name}") (result i32) (global.get ${name}))' for name in names
    )
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
        with pylinker.Program(
            library_path=[folder], preload=["libuser.so", "libone.so"]
        ) as program:
            ranges = [heap_of(program.dlopen(f"lib{name}.so")) for name in ("user", "one", "two")]
            assert [start < stop for start, stop in ranges] == [True, False, False]
            assert check_links(
                str(folder / "libuser.so"), ["libone.so"], library_path=[str(folder)]
            ).of("heap")[0].defined_by == ("libuser.so",)

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
        write(
            folder / "libdefines.so",
            asks(fields='(global (export "__heap_base") i32 (i32.const 8))', size=32),
        )
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
        assert (
            "several modules request it"
            in cli("check", "main.wasm", "libtwo.so", "-L", ".", cwd=folder).stdout
        )
        alone = json.loads(cli("check", "--json", "main.wasm", "-L", ".", cwd=folder).stdout)[
            "heap"
        ]
        assert [each["wanted_by"] for each in alone] == [["libone.so"]]
        assert json.loads(cli("check", "--json", "libone.so", cwd=folder).stdout)["heap"] == []


def test_two_mallocs_never_give_out_the_same_bytes(scenario: Scenario, tmp_path: Path) -> None:
    """A program with wasi-libc, and a library with a similar heap: its range, then growth."""
    grows = """(global $next (mut i32) (i32.const 0)) (global $limit (mut i32) (i32.const 0))
      (func (export "take") (param $size i32) (result i32) (local $at i32)
        (if (i32.eqz (global.get $limit)) (then
          (global.set $next (global.get $__heap_base))
            (global.set $limit (global.get $__heap_end))))
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
    """Addresses that libraries of a program at fixed addresses get: its exports and its file's."""

    @pytest.mark.parametrize("main", ["plain.wasm", "shown.wasm", "datafirst.wasm"])
    @pytest.mark.parametrize("late", [False, True])
    def test_the_places_are_those_that_the_program_knows(
        self, scenario: Scenario, tmp_path: Path, main: str, *, late: bool
    ) -> None:
        derived = {
            "plain.wasm": ("__stack_low", "__stack_high", "__global_base"),
            "datafirst.wasm": ("__heap_base", "__stack_high", "__global_base"),
            "shown.wasm": NAMES,
        }[main]
        path = write(tmp_path / "libasks.so", asks(*derived))
        with pylinker.Program(scenario("layout") / main, preload=[] if late else [path]) as program:
            library = program.dlopen(path)
            for name in derived:
                expected = program.main.main_where(
                    NAMES.index("__heap_base" if name == "__heap_end" else name)
                )
                assert getattr(library, f"ask{name}")() == expected, name
            assert program.run() == 0

    @pytest.mark.parametrize("main", ["plain.wasm", "shown.wasm", "datafirst.wasm"])
    def test_its_heap_is_its_own(self, scenario: Scenario, tmp_path: Path, main: str) -> None:
        path = write(tmp_path / "libasks.so", asks(*BOTH))
        with pylinker.Program(scenario("layout") / main, preload=[path]) as program:
            base, end = heap_of(program.dlopen(path))
            assert base == end >= program.main.main_where(0)
            assert program.run() == 0
        seen = check_links(str(scenario("layout") / main), [str(path)])
        assert seen.ok
        assert [(each.defined_by, each.wanted_by) for each in seen.of("heap")] == [
            ((main,), ("libasks.so",))
        ]

    @pytest.mark.parametrize("name", ["__heap_base", "__data_end"])
    def test_what_cannot_be_known_is_undefined_by_name(
        self, scenario: Scenario, tmp_path: Path, name: str
    ) -> None:
        path = write(tmp_path / "libasks.so", asks(name))
        main = scenario("layout") / "plain.wasm"
        for _ in range(2):
            with pytest.raises(pylinker.UndefinedSymbolError, match=name):
                pylinker.Program(main, preload=[path])
        assert [each.symbol for each in check_links(str(main), [str(path)]).of("undefined")] == [
            name
        ]


def test_a_program_that_the_linker_lays_out_has_all_places(tmp_path: Path) -> None:
    with pylinker.CDLL(write(tmp_path / "libasks.so", asks(*NAMES))) as library:
        places = {name: getattr(library, f"ask{name}")() for name in NAMES}
    assert places["__stack_low"] == 0
    assert (
        places["__stack_high"]
        <= places["__global_base"]
        < places["__data_end"]
        <= places["__heap_base"]
        < places["__heap_end"]
    )


# Emscripten's sbrk in miniature: the heap goes from where it begins up to memory.size, whoever has
# grown it. Its malloc is a list of blocks of any size, which free puts back.
SBRK = """(import "env" "emscripten_resize_heap" (func $resize (param i32) (result i32)))
  (global $live (export "live") (mut i32) (i32.const 0))
  (func $sbrk {sbrk} (param $size i32) (result i32) (local $at i32) (local $to i32)
    (local.set $at (i32.load (global.get $brk)))
    (if (i32.eqz (local.get $at)) (then (local.set $at {begin})))
    (local.set $to (i32.add (local.get $at) (local.get $size)))
    (if (i32.gt_u (local.get $to) (i32.mul (memory.size) (i32.const 65536))) (then
      (if (i32.eq (memory.grow (i32.const 8)) (i32.const -1)) (then (return (i32.const -1))))
      (if (i32.gt_u (local.get $to) (i32.mul (memory.size) (i32.const 65536)))
        (then (return (i32.const -1))))))
    (i32.store (global.get $brk) (local.get $to))
    (local.get $at))"""
MALLOC = """(func (export "malloc") (param $size i32) (result i32) (local $at i32)
    (local.set $at (call $sbrk (i32.add (local.get $size) (i32.const 5))))
    (if (i32.eq (local.get $at) (i32.const -1)) (then (return (i32.const 0))))
    (global.set $live (i32.add (global.get $live) (i32.const 1)))
    (i32.add (local.get $at) (i32.const 1)))
  (func (export "free") (param i32) (global.set $live (i32.sub (global.get $live) (i32.const 1))))
  (func (export "count") (result i32) (global.get $live))"""
TAKE = '(func (export "take") (param i32) (result i32) (call $sbrk (local.get 0)))'
LIBRARY = """(import "GOT.mem" "__heap_base" (global $heap (mut i32)))"""

IMPORTS = {"emscripten_resize_heap": lambda _size: 0}


def placed(*fields: str, sbrk: str = "", begin: str = "(global.get $heap)") -> str:
    """A module that asks the linker where its heap is."""
    text = SBRK.format(sbrk=sbrk, begin=begin)
    imports, rest = text.split("\n", 1)
    return f"""(module (@dylink.0 (mem-info (memory 16 4) (table 0 0))) {LIBRARY} {imports} {PIC}
      (global $brk (mut i32) (i32.const 0))
      (func $begin (global.set $brk (global.get $base)))
        (start $begin) {rest} {" ".join(fields)})"""


def fixed(
    *fields: str, sbrk: str = "", dynamic: bool = True, imports: str = "", heap: int = 2048
) -> str:
    """A program at fixed addresses: two pages, its data in the first 2,048 bytes."""
    text = SBRK.format(sbrk=sbrk, begin=f"(i32.const {heap})")
    first, rest = text.split("\n", 1)
    section = "(@dylink.0 (mem-info (memory 0 4) (table 0 0)))" if dynamic else ""
    return f"""(module {section} {imports} {first} (memory (export "memory") 2)
      (table (export "__indirect_function_table") 1 funcref)
      (global (export "__stack_pointer") (mut i32) (i32.const 1024))
        (global (export "__heap_base") i32 (i32.const {heap}))
      (global $brk i32 (i32.const 1024)) (data (i32.const 1028) "main")
        (func (export "_start")) {rest} {" ".join(fields)})"""


def fill(program: pylinker.Program, ranges: list[tuple[int, int]]) -> None:
    """Write a pattern into each range, then check that all are whole: no byte is in two ranges."""
    for number, (address, size) in enumerate(ranges, 1):
        program.memory.write(address, bytes([number]) * size)
    for number, (address, size) in enumerate(ranges, 1):
        assert program.memory.read(address, size) == bytes([number]) * size, (number, ranges)


class TestHeapThatTakesAllMemory:
    MAINS: ClassVar = {
        "placed": placed(TAKE, MALLOC),
        "placed, sbrk only": placed(TAKE, sbrk='(export "sbrk")'),
        "fixed": fixed(TAKE, MALLOC),
        "fixed, no section": fixed(TAKE, MALLOC, dynamic=False),
        "fixed, sbrk only": fixed(TAKE, sbrk='(export "sbrk")'),
    }

    @pytest.mark.parametrize("name", MAINS)
    @pytest.mark.parametrize("preloaded", [False, True])
    def test_no_byte_is_given_twice(self, tmp_path: Path, name: str, *, preloaded: bool) -> None:
        files = [
            write(tmp_path / f"lib{number}.so", asks(size=40_000 * (number % 3 + 1)))
            for number in range(6)
        ]
        data = bytes(wasmtime.wat2wasm(self.MAINS[name]))
        with pylinker.Program(
            data, preload=files[:2] if preloaded else [], imports=IMPORTS
        ) as program:
            take = program.main["take"]
            ranges = []
            for number, file in enumerate(files):
                ranges.append((take(30_000), 30_000))
                library = program.dlopen(file)
                assert library.data() % 16 == 0
                assert program.memory.read(library.data(), 40_000) == bytes(40_000)
                ranges.append((library.data(), 40_000 * (number % 3 + 1)))
                ranges.append((take(100_000), 100_000))
            fill(program, ranges)

    def test_as_a_library_without_a_program(self, tmp_path: Path) -> None:
        write(tmp_path / "libheap.so", self.MAINS["placed"])
        write(tmp_path / "libdata.so", asks(size=70_000))
        write(tmp_path / "libbefore.so", asks(size=70_000))
        with pylinker.Program(library_path=[tmp_path], imports=IMPORTS) as program:
            before = program.dlopen("libbefore.so")
            heap = program.dlopen("libheap.so")
            ranges = [(before.data(), 70_000), (heap.take(200_000), 200_000)]
            data = program.dlopen("libdata.so")
            ranges += [(data.data(), 70_000), (heap.take(200_000), 200_000)]
            fill(program, ranges)
            heap.close()  # it stays: another lies in its heap
            assert [each.name for each in program.libraries] == [
                "libbefore.so",
                "libheap.so",
                "libdata.so",
            ]
            data.close()
            assert [each.name for each in program.libraries] == ["libbefore.so"]

    def test_what_was_given_goes_back(self, tmp_path: Path) -> None:
        files = [write(tmp_path / f"lib{number}.so", asks(size=40_000)) for number in range(3)]
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(self.MAINS["fixed"])), imports=IMPORTS
        ) as program:
            before = used(program)
            libraries = [program.dlopen(file) for file in files]
            assert program.main.count() == 3
            for number, library in enumerate(libraries, 1):
                library.close()
                assert program.main.count() == 3 - number
            assert used(program) == before

    @pytest.mark.parametrize("aligned", [4, 12, 16])
    def test_alignment(self, tmp_path: Path, aligned: int) -> None:
        path = write(
            tmp_path / "lib.so", asks(size=100).replace("memory 100 4", f"memory 100 {aligned}")
        )
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(self.MAINS["fixed"])), imports=IMPORTS
        ) as program:
            assert program.dlopen(path).data() % (1 << aligned) == 0

    def test_arguments_have_room(self, tmp_path: Path) -> None:
        echo = '(func (export "first") (param i32 i32) (result i32) (i32.load8_u (local.get 1)))'
        path = write(tmp_path / "lib.so", asks(fields=echo))
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(self.MAINS["fixed"])), imports=IMPORTS
        ) as program:
            library = program.dlopen(path)
            for _ in range(3):
                assert library.first(0, "x" * 100_000) == ord("x")

    BAD: ClassVar = {
        "null": ("(i32.const 0)", pylinker.LimitError, "no room"),
        "minus one": ("(i32.const -1)", pylinker.LimitError, "no room"),
        "traps": ("(unreachable)", pylinker.LinkError, "malloc trapped"),
        "outside": ("(i32.const 0x7fffff00)", pylinker.LinkError, "not in the memory"),
        "the last bytes": ("(i32.const 0xfffffff0)", pylinker.LinkError, "not in the memory"),
        "always the same": ("(i32.const 4096)", pylinker.LinkError, "in use"),
    }

    @pytest.mark.parametrize("how", BAD)
    def test_a_malloc_that_fails(self, tmp_path: Path, how: str) -> None:
        body, error, says = self.BAD[how]
        malloc = f'(func (export "malloc") (param i32) (result i32) {body})'
        first = write(tmp_path / "libfirst.so", asks(size=4000))
        second = write(tmp_path / "libsecond.so", asks(size=4000))
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(fixed(TAKE, malloc))), imports=IMPORTS
        ) as program:
            if how == "always the same":
                program.dlopen(first)
            before = used(program)
            for _ in range(2):
                with pytest.raises(error, match=says) as caught:
                    program.dlopen(second)
                assert caught.value.module
                assert used(program) == before
            assert program.main.take(16) == 2048
        if how != "always the same":
            with pytest.raises(error, match=says):
                pylinker.Program(
                    bytes(wasmtime.wat2wasm(fixed(TAKE, malloc))), imports=IMPORTS, preload=[first]
                )

    def test_without_a_malloc_there_is_no_room(self, tmp_path: Path) -> None:
        path = write(tmp_path / "lib.so", asks())
        for text in (placed(TAKE), fixed(TAKE)):
            with pylinker.Program(bytes(wasmtime.wat2wasm(text)), imports=IMPORTS) as program:
                for _ in range(2):
                    with pytest.raises(pylinker.UnsupportedError, match="--export=malloc"):
                        program.dlopen(path)
                assert len(program.libraries) == 1

    def test_there_can_be_one(self, tmp_path: Path) -> None:
        write(tmp_path / "libheap.so", placed(TAKE, MALLOC))
        write(tmp_path / "libother.so", placed(TAKE, MALLOC))
        with pylinker.CDLL(
            tmp_path / "libheap.so", library_path=[tmp_path], imports=IMPORTS
        ) as heap:
            for _ in range(2):
                with pytest.raises(pylinker.UnsupportedError, match=r"libother\.so.*libheap\.so"):
                    heap.program.dlopen("libother.so")
            assert len(heap.program.libraries) == 1
            assert heap.count() == 0

    def test_a_load_that_fails_gives_its_room_back(self, tmp_path: Path) -> None:
        bad = [
            write(
                tmp_path / "libtrap.so",
                asks(fields='(func (export "__wasm_call_ctors") unreachable)'),
            ),
            write(tmp_path / "liblacks.so", asks("no_such_data")),
        ]
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(self.MAINS["fixed"])), imports=IMPORTS
        ) as program:
            before = used(program)
            for path in bad * 2:
                with pytest.raises(pylinker.LinkError):
                    program.dlopen(path)
                assert used(program) == before
                assert program.main.count() == 0

    @pytest.mark.parametrize("got", [False, True])
    def test_libraries_of_the_start_lie_before_emscriptens_heap(
        self, tmp_path: Path, *, got: bool
    ) -> None:
        """Like Emscripten's loader for programs at fixed addresses: move the heap at the start."""
        pointer = f"""(func (export "emscripten_get_sbrk_ptr") (result i32) (global.get $brk))
          (data (i32.const 1024) "\\00\\08")
          {'(func (export "symbol") (result i32) (global.get $symbol))' if got else ""}"""
        symbol = '(global (export "symbol_of_library") i32 (i32.const 4))'
        files = [
            write(tmp_path / f"lib{number}.so", asks(size=90_000, fields=symbol))
            for number in range(2)
        ]
        imports = '(import "GOT.mem" "symbol_of_library" (global $symbol (mut i32)))' if got else ""
        text = fixed(TAKE, MALLOC, pointer, imports=imports)
        with pylinker.Program(
            bytes(wasmtime.wat2wasm(text)), preload=files, imports=IMPORTS
        ) as program:
            libraries = [program.dlopen(file) for file in files]
            assert [each.data() for each in libraries] == [2048, 2048 + 90_000]
            if got:
                assert program.main.symbol() == 2052
            ranges = [(each.data(), 90_000) for each in libraries]
            ranges += [(program.main.take(70_000), 70_000)]
            write(tmp_path / "liblate.so", asks(size=80_000))
            ranges += [
                (program.dlopen(tmp_path / "liblate.so").data(), 80_000),
                (program.main.take(70_000), 70_000),
            ]
            assert ranges[2][0] == 2048 + 90_000 * 2
            fill(program, ranges)


def test_an_ordinary_program_with_a_malloc_gives_room(scenario: Scenario, tmp_path: Path) -> None:
    path = write(tmp_path / "libdata.so", asks(size=50_000))
    with pylinker.Program(scenario("layout") / "lends.wasm", preload=[path]) as program:
        malloc, free = program.main["malloc"], program.main["free"]
        block = malloc(3000)
        late = write(tmp_path / "liblate.so", asks(size=300_000))
        library = program.dlopen(late)
        ranges = [
            (program.dlopen(path).data(), 50_000),
            (block, 3000),
            (library.data(), 300_000),
            (malloc(200_000), 200_000),
        ]
        fill(program, ranges)
        address = library.data()
        library.close()
        assert malloc(300_000) <= address + 300_000  # free gave it back, and malloc has it again
        free(block)
        assert program.run() == 0


THREADED = """(module (import "env" "memory" (memory 2 1024 shared))
  (import "env" "emscripten_resize_heap" (func (param i32) (result i32)))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 2048))
    (global (export "__heap_base") i32 (i32.const 4096))
  (func $sbrk (export "take") (param $size i32) (result i32) (local $at i32) (local $to i32)
    (local.set $at (i32.add (i32.const 4096)
      (i32.atomic.rmw.add (i32.const 2048) (local.get $size))))
    (local.set $to (i32.add (local.get $at) (local.get $size)))
    (loop $again
      (if (i32.gt_u (local.get $to) (i32.mul (memory.size) (i32.const 65536))) (then
        (drop (memory.grow (i32.const 1)))
        (br $again))))
    (local.get $at))
  (func (export "malloc") (param i32) (result i32)
    (drop (i32.atomic.rmw.add (i32.const 2052) (i32.const 1)))
    (call $sbrk (i32.and (i32.add (local.get 0) (i32.const 15)) (i32.const -16))))
  (func (export "free") (param i32) (drop (i32.atomic.rmw.sub (i32.const 2052) (i32.const 1))))
  (func (export "count") (result i32) (i32.atomic.load (i32.const 2052))))"""

THREAD_LOCAL = """(module (@dylink.0 (mem-info (memory {size} 4) (table 0 0)))
  (import "env" "memory" (memory 1 1024 shared)) (import "env" "__memory_base" (global $base i32))
  (global $tls (export "__tls_base") (mut i32) (i32.const 0))
  (global (export "__tls_size") i32 (i32.const 64))
    (global (export "__tls_align") i32 (i32.const 16))
  (func (export "__wasm_init_tls") (param i32) (global.set $tls (local.get 0)))
  (func $begin (if (i32.eqz (global.get $tls)) (then (global.set $tls (global.get $base)))))
    (start $begin)
  (func (export "data") (result i32) (global.get $base))
  (func (export "block") (result i32) (global.get $tls)))"""


def test_threads_have_room_of_the_programs_malloc(tmp_path: Path) -> None:
    count = 4
    for number in range(count):
        write(tmp_path / f"lib{number}.so", THREAD_LOCAL.format(size=30_000 + number))
    data = bytes(wasmtime.wat2wasm(THREADED))
    with pylinker.Program(
        data, threads=True, imports=IMPORTS, library_path=[tmp_path], stack_size=PAGE
    ) as program:
        first = program.dlopen("lib0.so")
        all_open, done = threading.Barrier(count), threading.Barrier(count)

        def work(number: int) -> list[tuple[int, int]]:
            ranges = [(program.main.take(5000), 5000)]
            library = program.dlopen(f"lib{number}.so")
            ranges.append((program.main.take(5000), 5000))
            all_open.wait(60)
            if number:
                ranges.append((library.data(), 30_000))
            ranges.append((first.block(), 64))
            done.wait(60)
            library.close()
            return ranges

        threads = [program.spawn(functools.partial(work, number)) for number in range(count)]
        ranges = [each for thread in threads for each in thread.join()] + [(first.data(), 30_000)]
        fill(program, ranges)
        first.close()
        assert program.main.count() == 0
