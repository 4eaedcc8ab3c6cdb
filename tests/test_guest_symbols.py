"""Symbols in guests: pointers to host functions, ``dlsym``, ``dladdr``, ``dlerror``, types."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wasmtime

import pylinker
from fields import MEMORY, SHARED, TABLE, forward, wasm
from guests import DEADLINE, orderly
from pylinker.linker import check_links
from running import used

POINTERS = (
    "dlopen",
    "dlsym",
    "dlclose",
    "dlerror",
    "dladdr",
    "atexit",
    "__cxa_atexit",
    "__cxa_thread_atexit",
)
TYPES = (
    "(type $v_v (func))",
    "(type $v_i (func (result i32)))",
    "(type $i_i (func (param i32) (result i32)))",
    "(type $ii_i (func (param i32 i32) (result i32)))",
    "(type $iii_i (func (param i32 i32 i32) (result i32)))",
)
CALLS = (
    TABLE,
    *TYPES,
    '(func (export "call0") (param i32) (result i32) (call_indirect (type $v_i) (local.get 0)))',
    (
        '(func (export "call1") (param i32 i32) (result i32) '
        "(call_indirect (type $i_i) (local.get 1) (local.get 0)))"
    ),
    (
        '(func (export "call2") (param i32 i32 i32) (result i32) '
        "(call_indirect (type $ii_i) (local.get 1) (local.get 2) (local.get 0)))"
    ),
    (
        '(func (export "call3") (param i32 i32 i32 i32) (result i32)'
        " (call_indirect (type $iii_i) (local.get 1) (local.get 2) (local.get 3) (local.get 0)))"
    ),
)


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    with orderly():
        yield


def both(name: str, params: str = "", results: str = "", export: str = "") -> tuple[str, ...]:
    """An import of ``env`` and an export that calls it."""
    return forward(name, params, results, export=export or f"call_{name}")


def pointer(name: str) -> tuple[str, ...]:
    """A pointer to a function, and an export that returns it."""
    return (
        f'(import "GOT.func" "{name}" (global ${name}_p (mut i32)))',
        f'(func (export "pointer_{name}") (result i32) (global.get ${name}_p))',
    )


DLFCN = (
    *both("dlopen", "i32 i32", "i32"),
    *both("dlsym", "i32 i32", "i32"),
    *both("dlclose", "i32", "i32"),
    *both("dlerror", "", "i32"),
    *both("dladdr", "i32 i32", "i32"),
)


def error(library: pylinker.Library, program: pylinker.Program) -> str:
    """The text of dlerror."""
    address = library.call_dlerror() & 0xFFFFFFFF
    return program.memory.cstring(address).decode() if address else ""


class TestPointersToProvidedFunctions:
    """Cases fp, fp2, ds: functions of the global scope have addresses, of any provider."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        fields = [each for name in POINTERS for each in pointer(name)]
        for name in ("one.so", "two.so"):
            wasm(tmp_path / name, MEMORY, *fields, *CALLS, *DLFCN)
        wasm(
            tmp_path / "broken.so",
            *pointer("dlopen"),
            '(import "GOT.mem" "nobody" (global (mut i32)))',
        )
        wasm(
            tmp_path / "traps.so", *pointer("dlopen"), "(func $start unreachable)", "(start $start)"
        )
        wasm(tmp_path / "plain.so", '(func (export "answer") (result i32) (i32.const 42))')
        return tmp_path

    def test_equal_in_all_modules_and_by_dlsym(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder]) as program:
            one, two = program.dlopen("one.so"), program.dlopen("two.so")
            slots = [one[f"pointer_{name}"]() for name in POINTERS]
            assert len(set(slots)) == len(POINTERS)
            assert 0 not in slots
            assert [two[f"pointer_{name}"]() for name in POINTERS] == slots
            assert [one.call_dlsym(0, name) for name in POINTERS] == slots
            assert [
                two.call_dlsym(-1, name) for name in POINTERS
            ] == slots  # RTLD_NEXT: they come last
            assert [program.dlsym(pylinker.RTLD_DEFAULT, name) for name in POINTERS] == slots
            handle = one.call_dlopen("plain.so", 2)
            assert one.call_dlsym(handle, "dlopen") == slots[0]
            assert one.call_dlsym(0, "thread_exits") == 0  # a name of pylinker's own

    def test_callable(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder]) as program:
            one = program.dlopen("one.so")
            handle = one.call2(one.pointer_dlopen(), "plain.so", 2)
            assert handle
            answer = one.call2(one.pointer_dlsym(), handle, "answer")
            assert one.call0(answer) == 42
            assert one.call2(one.pointer_dlsym(), handle, "nothing") == 0
            assert one.call0(one.pointer_dlerror()) != 0
            assert one.call1(one.pointer_dlclose(), handle) == 0
            assert [each.name for each in program.libraries] == ["one.so"]

    def test_it_outlives_the_module_that_took_it_and_uses_no_more(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder]) as program:
            program.dlopen("one.so").close()
            before = used(program)
            with program.dlopen("two.so") as two:
                slot = two.pointer_dlopen()
                assert two.call_dlclose(two.call2(slot, "plain.so", 2)) == 0
            with program.dlopen("one.so") as one:
                assert one.pointer_dlopen() == slot
            assert used(program) == before

    def test_a_failed_load_gives_the_slot_back(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder]) as program:
            before = used(program)
            for name in ("broken.so", "traps.so", "broken.so"):
                with pytest.raises(pylinker.LinkError):
                    program.dlopen(name)
                assert used(program) == before
            one = program.dlopen("one.so")
            assert one.call2(one.pointer_dlopen(), "plain.so", 2)

    def test_in_threads_old_and_new(self, folder: Path) -> None:
        fields = [each for name in POINTERS for each in pointer(name)]
        wasm(folder / "main.so", SHARED, *CALLS, *DLFCN)
        wasm(folder / "later.so", SHARED, *fields, *CALLS)
        with pylinker.CDLL("main.so", library_path=[folder], threads=True) as main:
            program = main.program

            def old() -> tuple[int, int]:
                slot = main.call_dlsym(0, "dlsym")
                later = program.dlopen("later.so")
                assert later.pointer_dlsym() == slot
                return slot, main.call2(slot, 0, "dlopen")

            slot, dlopen = program.spawn(old).join(DEADLINE)
            assert main.call2(slot, 0, "dlopen") == dlopen
            assert program.spawn("call2", slot, 0, dlopen).join(DEADLINE) == 0  # no name there
            assert program.spawn(lambda: main.call2(slot, 0, "dlopen")).join(DEADLINE) == dlopen

    def test_a_table_without_room(self, folder: Path) -> None:
        main = wasm(
            folder / "main.wasm",
            '(memory (export "memory") 1)',
            '(table (export "__indirect_function_table") 1 1 funcref)',
            '(global (export "__stack_pointer") (mut i32) (i32.const 4096))',
            *DLFCN,
            dynamic=False,
        )
        with pylinker.Program(main) as program:
            assert program.main.call_dlsym(0, "nothing") == 0
            assert "undefined" in error(program.main, program)
            before = used(program)
            for _ in range(2):
                assert program.main.call_dlsym(0, "dlopen") == 0
                assert "cannot grow" in error(program.main, program)
                assert used(program) == before

    def test_a_module_that_defines_the_function_comes_first(self, folder: Path) -> None:
        wasm(
            folder / "defines.so",
            '(func (export "dlopen") (param i32 i32) (result i32) (i32.const 7))',
        )
        with pylinker.CDLL("one.so", library_path=[folder], preload=["defines.so"]) as one:
            assert one.call2(one.pointer_dlopen(), 0, 0) == 7
            assert one.call_dlopen(0, 0) == 7

    def test_check_knows_them(self, folder: Path) -> None:
        seen = check_links(str(folder / "one.so"))
        assert seen.ok
        assert ("one.so", "pylinker", "dlopen", "function pointer") in [
            (each.importer, each.provider, each.symbol, each.kind) for each in seen.bindings
        ]


class TestDestructorsByPointer:
    """The registering module is unknown then; the destructor's module is known."""

    LIBRARY = (
        MEMORY,
        *pointer("atexit"),
        *pointer("__cxa_atexit"),
        *CALLS,
        '(import "env" "say" (func $say (param i32)))',
        '(import "env" "__table_base" (global $table i32))',
        '(import "env" "__memory_base" (global $memory i32))',
        "(elem (global.get $table) $bye $bye_with)",
        "(func $bye (call $say (i32.const 1)))",
        "(func $bye_with (param i32) (call $say (local.get 0)))",
        (
            '(func (export "plain") (result i32) '
            "(call_indirect (type $i_i) (global.get $table) (global.get $atexit_p)))"
        ),
        (
            '(func (export "cxx") (result i32) '
            "(call_indirect (type $iii_i) (i32.add (global.get $table) (i32.const 1))"
            " (i32.const 5) (global.get $memory) (global.get $__cxa_atexit_p)))"
        ),
    )

    def test_they_run_when_the_library_is_closed(self, tmp_path: Path) -> None:
        path = wasm(tmp_path / "lib.so", *self.LIBRARY, slots=2)
        said: list[int] = []
        with pylinker.Program(imports={"say": said.append}) as program:
            for _ in range(2):
                library = program.dlopen(path)
                assert (library.plain(), library.cxx()) == (0, 0)
                library.close()
                assert said == [5, 1]
                said.clear()
                assert not program.libraries

    def test_also_where_the_main_module_has_an_atexit_of_its_own(self, tmp_path: Path) -> None:
        """Which would call into a library that is gone."""
        path = wasm(tmp_path / "lib.so", *self.LIBRARY, slots=2)
        main = wasm(
            tmp_path / "main.wasm",
            '(memory (export "memory") 1)',
            '(table (export "__indirect_function_table") 1 funcref)',
            '(global (export "__stack_pointer") (mut i32) (i32.const 4096))',
            '(func (export "atexit") (param i32) (result i32) unreachable)',
            dynamic=False,
        )
        said: list[int] = []
        with pylinker.Program(main, imports={"say": said.append}) as program:
            library = program.dlopen(path)
            assert library.plain() == 0
            library.close()
            assert said == [1]


class TestDlsymOfImports:
    def test_a_function_of_the_user_comes_first(self, tmp_path: Path) -> None:
        wasm(tmp_path / "lib.so", MEMORY, *DLFCN, *CALLS, *both("plus", "i32 i32", "i32"))
        wasm(
            tmp_path / "has.so",
            '(func (export "plus") (param i32 i32) (result i32) (i32.const -1))',
        )
        given = {"plus": lambda a, b: a + b}
        with pylinker.CDLL(
            "lib.so", library_path=[tmp_path], preload=["has.so"], imports=given
        ) as library:
            slot = library.call_dlsym(0, "plus")
            assert library.call2(slot, 3, 4) == 7
            before = used(library.program)
            assert library.call_dlsym(0, "plus") == slot
            assert (
                library.call_dlsym(library.call_dlopen(0, 0), "plus") == slot
            )  # the program as a whole
            has = library.call_dlopen("has.so", 2)
            assert (
                library.call2(library.call_dlsym(has, "plus"), 3, 4) == -1
            )  # its own: by a library's handle
            library.call_dlclose(has)
            assert used(library.program) == before

    def test_no_module_tells_its_type(self, tmp_path: Path) -> None:
        path = wasm(tmp_path / "lib.so", MEMORY, *DLFCN)
        with pylinker.CDLL(path, imports={"plus": lambda a, b: a + b}) as library:
            assert library.call_dlsym(0, "nothing") == 0
            assert (
                error(library, library.program) == "lib.so: undefined symbol: nothing"
            )  # it has its buffer from now on
            before = used(library.program)
            for _ in range(2):
                assert library.call_dlsym(0, "plus") == 0
                assert "the type of a pointer to it is unknown" in error(library, library.program)
            assert used(library.program) == before

    def test_in_every_thread(self, tmp_path: Path) -> None:
        path = wasm(tmp_path / "lib.so", SHARED, *DLFCN, *CALLS, *both("plus", "i32 i32", "i32"))
        with pylinker.CDLL(path, imports={"plus": lambda a, b: a + b}, threads=True) as library:
            slot = library.program.spawn(lambda: library.call_dlsym(0, "plus")).join(DEADLINE)
            assert library.call2(slot, 1, 2) == 3
            assert library.program.spawn("call2", slot, 3, 4).join(DEADLINE) == 7


class TestMain:
    @pytest.mark.parametrize("name", ["main", "__main_argc_argv", "__main_void", "__original_main"])
    def test_dlsym_finds_main_under_the_names_that_compilers_give_it(
        self, name: str, tmp_path: Path
    ) -> None:
        main = wasm(
            tmp_path / "main.wasm",
            MEMORY,
            *DLFCN,
            *CALLS,
            f'(func (export "{name}") (param i32 i32) (result i32) (i32.const 5))',
        )
        wasm(
            tmp_path / "other.so",
            '(func (export "main") (param i32 i32) (result i32) (i32.const 6))',
        )
        with pylinker.Program(main, preload=["other.so"], library_path=[tmp_path]) as program:
            library = program.main
            assert library.call2(library.call_dlsym(0, "main"), 0, 0) == 5
            assert program.dlsym(pylinker.RTLD_DEFAULT, "main") == library[name].slot
            assert library.call2(library.call_dlsym(-1, "main"), 0, 0) == 6

    def test_there_is_none(self, tmp_path: Path) -> None:
        path = wasm(tmp_path / "lib.so", MEMORY, *DLFCN)
        with pylinker.CDLL(path) as library:
            assert library.call_dlsym(0, "main") == 0
            assert "undefined symbol: main" in error(library, library.program)


class TestDlerror:
    def test_it_names_all_that_is_missing(self, tmp_path: Path) -> None:
        wasm(tmp_path / "lib.so", MEMORY, *DLFCN)
        wasm(
            tmp_path / "lacks.so",
            *pointer("first"),
            *pointer("second"),
            *both("third"),
            needed=("more.so",),
        )
        wasm(tmp_path / "more.so", '(import "GOT.mem" "fourth" (global (mut i32)))')
        with pylinker.CDLL("lib.so", library_path=[tmp_path]) as library:
            for _ in range(2):
                assert library.call_dlopen("lacks.so", 2) == 0
                said = error(library, library.program)
                assert said.startswith("4 undefined symbols: ")
                for part in (
                    "first (function pointer, referenced by lacks.so)",
                    "second (function pointer",
                    "third (function,",
                    "fourth (data, referenced by more.so)",
                ):
                    assert part in said
                assert "\n" not in said
            assert library.call_dlopen("lacks.so", 1) == 0
            assert error(library, library.program).startswith("3 undefined symbols: ")

    @pytest.mark.parametrize("length", [1, 3, 30, 300, 1500])
    def test_its_length_is_bounded_and_it_counts_the_rest(
        self, length: int, tmp_path: Path
    ) -> None:
        names = [f"{'ä' * length}_{index}" for index in range(400)]
        wasm(tmp_path / "lib.so", MEMORY, *DLFCN)
        wasm(
            tmp_path / "lacks.so",
            *(f'(import "GOT.mem" "{name}" (global (mut i32)))' for name in names),
        )
        with pylinker.CDLL("lib.so", library_path=[tmp_path]) as library:
            assert library.call_dlopen("lacks.so", 2) == 0
            address = library.call_dlerror()
            raw = library.program.memory.cstring(address)
            assert len(raw) < 1024
            said = raw.decode()
            shown = sum(f"{name} (data" in said for name in names)
            if length < 300:
                assert said.endswith(f"... and {400 - shown} more")
                assert 0 < shown < 400


def info(
    library: pylinker.Library, program: pylinker.Program, value: int
) -> tuple[Any, ...] | None:
    """The result of dladdr: file, base, symbol, address."""
    with program.dlopen("room.so") as room:
        at = room.address_of("room")
        if not library.call_dladdr(value, at):
            return None
        file, base, symbol, address = struct.unpack("<4I", program.memory.read(at, 16))
        memory = program.memory
        return (
            memory.cstring(file).decode(),
            base,
            memory.cstring(symbol).decode() if symbol else None,
            address,
        )


class TestDladdr:
    SIDE = (
        MEMORY,
        TABLE,
        '(import "env" "__table_base" (global $table i32))',
        "(elem (global.get $table) $hidden $f)",
        "(func $hidden)",
        '(func $f (export "f") (result i32) (i32.const 3))',
        '(func (export "g"))',
        '(global (export "low") i32 (i32.const 4))',
        '(global (export "high") i32 (i32.const 12))',
        '(func (export "where") (result i32) (global.get $table))',
    )

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        wasm(tmp_path / "side.so", *self.SIDE, slots=2)
        wasm(tmp_path / "room.so", MEMORY, '(global (export "room") i32 (i32.const 0))')
        wasm(tmp_path / "main.so", MEMORY, *DLFCN, *CALLS, *both("plus", "i32", "i32"))
        return tmp_path

    def test_functions_and_data(self, folder: Path) -> None:
        with pylinker.CDLL("main.so", library_path=[folder], imports={"plus": lambda a: a}) as main:
            program = main.program
            program.dlopen("room.so")
            side = program.dlopen("side.so")
            base = next(each.memory_base for each in program.libraries if each.name == "side.so")
            for name in ("f", "g"):
                assert info(main, program, side[name].slot) == (
                    "side.so",
                    base,
                    name,
                    side[name].slot,
                )
            assert info(main, program, side.where()) == (
                "side.so",
                base,
                None,
                0,
            )  # no symbol is there
            low, high = side.address_of("low"), side.address_of("high")
            assert info(main, program, low) == ("side.so", base, "low", low)
            assert info(main, program, low + 5) == ("side.so", base, "low", low)
            assert info(main, program, high + 3) == ("side.so", base, "high", high)
            assert info(main, program, base) == ("side.so", base, None, 0)
            for name in ("dlopen", "plus"):
                slot = main.call_dlsym(0, name)
                assert info(main, program, slot) == ("pylinker", 0, name, slot)
            for value in (0, 0xFFFFFFFF, 2**31, 5000):
                assert info(main, program, value) is None
            assert main.call_dladdr(side["f"].slot, 0xFFFFFFF0) == 0  # no room to write
            assert main.call_dladdr(side["f"].slot, 0xFFFFFFFF) == 0

    def test_the_file_is_what_dlopen_takes_and_no_path_of_the_host(self, folder: Path) -> None:
        with pylinker.CDLL("main.so", library_path=[folder]) as main:
            program = main.program
            side = program.dlopen(folder / "side.so")
            found = info(main, program, side["f"].slot)
            assert found is not None
            assert found[0] == "side.so"
            assert main.call_dlopen(found[0], 4)

    def test_its_strings_go_with_the_library(self, folder: Path) -> None:
        with pylinker.CDLL("main.so", library_path=[folder]) as main:
            program = main.program
            program.dlopen("room.so")
            program.dlopen("side.so").close()
            before = used(program)
            for _ in range(3):
                side = program.dlopen("side.so")
                assert info(main, program, side["f"].slot) is not None
                in_use = used(program)
                assert info(main, program, side["f"].slot) is not None
                assert used(program) == in_use != before
                side.close()
                assert used(program) == before

    def test_in_threads(self, folder: Path) -> None:
        wasm(folder / "main.so", SHARED, *DLFCN)
        wasm(folder / "room.so", SHARED, '(global (export "room") i32 (i32.const 0))')
        wasm(folder / "side.so", SHARED, *self.SIDE[1:], slots=2)
        with pylinker.CDLL("main.so", library_path=[folder], threads=True) as main:
            program = main.program
            program.dlopen("room.so")
            side = program.dlopen("side.so")
            found = [program.spawn(lambda: info(main, program, side["f"].slot)) for _ in range(4)]
            assert {thread.join(DEADLINE) for thread in found} == {
                info(main, program, side["f"].slot)
            }


class TestCallsOfAnotherType:
    """As wasm-ld does: it links, and the call traps.

    GOT.func of such a symbol is its address as defined.
    """

    USES = (
        *both("f", "i32", "i64", export="go"),
        *pointer("f"),
        *CALLS,
        '(func (export "fine") (result i32) (i32.const 8))',
    )

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        wasm(tmp_path / "has.so", '(func (export "f") (result i32) (i32.const 4))')
        wasm(tmp_path / "uses.so", *self.USES)
        wasm(tmp_path / "first.so", *self.USES, needed=("second.so",))
        wasm(
            tmp_path / "second.so",
            '(func (export "f") (result i32) (i32.const 4))',
            needed=("first.so",),
        )
        return tmp_path

    def check(self, library: pylinker.Library, provider: str) -> None:
        for _ in range(2):
            with pytest.raises(pylinker.SignatureMismatchError) as caught:
                library.go(1)
            for text in (str(caught.value), str(caught.value.__cause__)):
                for part in (library.name, "symbol f:", "(i32) -> i64", provider, "() -> i32"):
                    assert part in text
            assert isinstance(caught.value.__cause__, wasmtime.Trap)
            assert library.fine() == 8
            assert library.call0(library.pointer_f()) == 4

    def test_imported_directly(self, folder: Path) -> None:
        with pylinker.CDLL("uses.so", library_path=[folder], preload=["has.so"]) as uses:
            self.check(uses, "has.so")

    def test_opened_later(self, folder: Path) -> None:
        with pylinker.Program(library_path=[folder], preload=["has.so"]) as program:
            before = used(program)
            for _ in range(3):
                with program.dlopen("uses.so") as uses:
                    self.check(uses, "has.so")
                assert used(program)[0] == before[0]

    def test_in_a_cycle(self, folder: Path) -> None:
        with (
            pylinker.CDLL("second.so", library_path=[folder]),
            pylinker.CDLL("first.so", library_path=[folder]) as first,
        ):
            self.check(first, "second.so")

    def test_of_a_main_module_at_fixed_addresses(self, folder: Path) -> None:
        main = wasm(
            folder / "main.wasm",
            '(memory (export "memory") 1)',
            '(table (export "__indirect_function_table") 1 funcref)',
            '(global (export "__stack_pointer") (mut i32) (i32.const 4096))',
            *both("f", "i32", "i64", export="go"),
            dynamic=False,
        )
        with pylinker.Program(main, library_path=[folder], preload=["has.so"]) as program:
            go = program.main.go
            with pytest.raises(
                pylinker.SignatureMismatchError,
                match=r"main\.wasm.*\(i32\) -> i64.*has\.so.*\(\) -> i32",
            ):
                go(1)
        with pytest.raises(pylinker.SignatureMismatchError):
            pylinker.Program(main, library_path=[folder], preload=["has.so"], bind_now=True)

    @pytest.mark.parametrize(
        ("space", "name", "provider"),
        [
            ("env", "dlopen", "pylinker"),
            ("env", "atexit", "pylinker"),
            ("env", "dladdr", "pylinker"),
            ("wasi_snapshot_preview1", "fd_write", "WASI preview 1"),
            ("wasix_32v1", "thread_id", "WASIX"),
            ("pylinker", "safepoint", "pylinker"),
        ],
    )
    def test_of_what_pylinker_provides(
        self, space: str, name: str, provider: str, tmp_path: Path
    ) -> None:
        path = wasm(
            tmp_path / "uses.so",
            *forward(name, "f64", "f64", module=space),
            '(func (export "fine") (result i32) (i32.const 8))',
        )
        with pylinker.CDLL(path) as uses:
            with pytest.raises(pylinker.SignatureMismatchError) as caught:
                uses.go(1.0)
            assert (caught.value.module, caught.value.wanted, caught.value.provider) == (
                "uses.so",
                "(f64) -> f64",
                provider,
            )
            assert uses.fine() == 8
        with pytest.raises(pylinker.SignatureMismatchError):
            pylinker.CDLL(path, bind_now=True)
        assert not check_links(str(path)).ok

    def test_of_a_destructor_that_the_main_module_registers_in_another_way(
        self, tmp_path: Path
    ) -> None:
        """``atexit`` of a library is the linker's, even if another module defines one."""
        wasm(tmp_path / "has.so", '(func (export "atexit") (param f64) (result f64) (local.get 0))')
        wasm(tmp_path / "uses.so", *forward("atexit", "f64", "f64"))
        with pylinker.CDLL("uses.so", library_path=[tmp_path], preload=["has.so"]) as uses:
            go = uses.go
            with pytest.raises(pylinker.SignatureMismatchError, match="pylinker defines it as"):
                go(1.0)

    def test_a_definition_that_fits_counts_once_the_first_is_gone(self, folder: Path) -> None:
        wasm(folder / "fits.so", '(func (export "f") (param i32) (result i64) (i64.const 6))')
        with pylinker.Program(library_path=[folder]) as program:
            has = program.dlopen("has.so", pylinker.RTLD_GLOBAL)
            wasm(folder / "calls.so", *both("f", "i32", "i64", export="go"))
            calls = program.dlopen("calls.so")
            with pytest.raises(pylinker.SignatureMismatchError):
                calls.go(1)
            has.close()
            with pytest.raises(pylinker.UndefinedSymbolError):
                calls.go(1)
            program.dlopen("fits.so", pylinker.RTLD_GLOBAL)
            assert calls.go(1) == 6

    def test_in_threads(self, folder: Path) -> None:
        wasm(folder / "base.so", SHARED)
        with pylinker.CDLL(
            "base.so", library_path=[folder], preload=["has.so"], threads=True
        ) as base:
            program = base.program
            uses = program.dlopen("uses.so")

            def own() -> None:
                self.check(uses, "has.so")

            program.spawn(own).join(DEADLINE)
            self.check(uses, "has.so")

    def test_it_is_found_by_check_and_bound_at_once_it_is_an_error(self, folder: Path) -> None:
        seen = check_links(str(folder / "has.so"), [str(folder / "uses.so")])
        assert not seen.ok
        assert [
            (each.symbol, each.wanted_by, each.defined_by) for each in seen.of("mismatched")
        ] == [("f", ("uses.so",), ("has.so",))]
        with pylinker.Program(library_path=[folder], preload=["has.so"]) as program:
            before = used(program)
            for _ in range(2):
                with pytest.raises(pylinker.SignatureMismatchError):
                    program.dlopen("uses.so", pylinker.RTLD_NOW)
                assert used(program) == before


class TestTheCLibrarys:
    """Undefined symbols of the C library are said to be, with what to do."""

    @pytest.mark.parametrize(
        ("name", "library"),
        [
            *(
                (name, "C library")
                for name in (
                    "strlen",
                    "malloc",
                    "printf",
                    "sin",
                    "environ",
                    "__errno_location",
                    "setlocale",
                )
            ),
            *(
                (name, "C++ library")
                for name in (
                    "_Znwm",
                    "_ZdlPv",
                    "__cxa_throw",
                    "_ZSt9terminatev",
                    "_ZTISt9exception",
                    "_ZTIi",
                )
            ),
            *(
                (name, "C++ library")
                for name in (
                    "_ZNKSt3__112basic_stringIcE4sizeEv",
                    "_ZTVN10__cxxabiv117__class_type_infoE",
                )
            ),
            *(
                (name, None)
                for name in (
                    "my_strlen",
                    "_ZN3foo3barEv",
                    "_Z3addii",
                    "_ZTV3Foo",
                    "_ZN2StE",
                    "_ZN4StarE",
                    "main",
                )
            ),
        ],
    )
    def test_it_is_said(self, name: str, library: str | None, tmp_path: Path) -> None:
        path = wasm(tmp_path / "lib.so", *both(name, "i32", "i32", export="go"))
        with pylinker.CDLL(path) as opened:
            go = opened.go
            with pytest.raises(pylinker.UndefinedSymbolError) as caught:
                go(1)
        with pytest.raises(pylinker.UndefinedSymbolError) as at_once:
            pylinker.CDLL(path, bind_now=True)
        findings = check_links(str(path)).of("undefined")
        assert [each.detail for each in findings] == [f"of the {library}" if library else ""]
        for said in (str(caught.value), str(caught.value.__cause__), str(at_once.value)):
            assert f"undefined symbol: {name} (function)" in said
            assert (f"{name} is of the {library}: preload a lib" in said) == (library is not None)
            assert (f"link the main module with -Wl,--export={name}" in said) == (
                library is not None
            )

    def test_of_many_some_are_named_and_guests_are_told(self, tmp_path: Path) -> None:
        names = ("strlen", "strcpy", "foo", "malloc", "free", "_Znwm")
        path = wasm(
            tmp_path / "lacks.so",
            *(f'(import "GOT.func" "{name}" (global (mut i32)))' for name in names),
        )
        with pytest.raises(pylinker.UndefinedSymbolError) as caught:
            pylinker.CDLL(path)
        last = str(caught.value).split("\n")[-1]
        assert last.startswith("strlen, strcpy, malloc and 1 more are of the C library: ")
        assert "_Znwm is of the C++ library: preload a libc++.so" in last
        assert "foo" not in last
        wasm(tmp_path / "one.so", '(import "GOT.func" "strlen" (global (mut i32)))')
        wasm(tmp_path / "lib.so", MEMORY, *DLFCN)
        with pylinker.CDLL("lib.so", library_path=[tmp_path]) as library:
            assert library.call_dlopen("one.so", 2) == 0
            assert "strlen is of the C library" in error(library, library.program)
