"""Arguments of ``Program`` and ``CDLL``: accepted spellings, and errors of wrong ones."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from wasmtime import wat2wasm

import pylinker
from fields import MEMORY, SHARED, forward, wasm

ANSWER = bytes(
    wat2wasm(
        """(module (@dylink.0 (mem-info (memory 4 2)))
        (import "env" "memory" (memory 0)) (import "env" "__memory_base" (global $base i32))
        (func (export "answer") (result i32) i32.const 42)
        (global (export "datum") i32 (i32.const 0))
        (func (export "name") (result i32) i32.const 1)
        (func (export "path") (result i32) i32.const 2)
        (func (export "program") (result i32) i32.const 3)
        (func (export "close") (result i32) i32.const 4)
        (func (export "address_of") (result i32) i32.const 5)
        (func (export "_handle") (result i32) i32.const 6))"""
    )
)
CALLER = bytes(
    wat2wasm(
        """(module (@dylink.0 (mem-info (memory 0 0)) (needed "libanswer.so"))
        (import "env" "answer" (func $answer (result i32)))
        (func (export "ask") (result i32) call $answer))"""
    )
)
MAIN = bytes(
    wat2wasm(
        """(module (import "env" "answer" (func $answer (result i32)))
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (table (export "__indirect_function_table") 1 funcref)
        (global (export "__stack_pointer") (mut i32) (i32.const 1024))
        (func (export "_start") (call $exit (call $answer))))"""
    )
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory, with libanswer.so in it."""
    (tmp_path / "libanswer.so").write_bytes(ANSWER)
    (tmp_path / "main.wasm").write_bytes(MAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestModules:
    def test_a_path_object_is_a_path_although_it_has_lost_its_slash(self, directory: Path) -> None:
        with pylinker.CDLL(Path("./libanswer.so")) as library:
            assert library.answer() == 42
            assert library.path == str(directory / "libanswer.so")
        with pylinker.Program() as program:
            assert program.dlopen(Path("libanswer.so")).answer() == 42
        with pylinker.Program("main.wasm", preload=[Path("libanswer.so")]) as program:
            assert program.run() == 42

    @pytest.mark.usefixtures("directory")
    def test_a_name_without_a_slash_is_searched_for(self) -> None:
        with pytest.raises(pylinker.LibraryNotFoundError, match="no directory to search"):
            pylinker.CDLL("libanswer.so")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview], ids=lambda kind: kind.__name__)
    def test_bytes_are_the_module_itself(self, kind: Any) -> None:
        with pylinker.CDLL(kind(ANSWER)) as library:
            assert library.answer() == 42
            assert library.path is None
            assert library.name.startswith("module-")
        with pylinker.Program(kind(MAIN), preload=[kind(ANSWER)]) as program:
            assert program.run() == 42

    def test_the_same_bytes_are_the_same_library(self) -> None:
        with pylinker.Program() as program:
            first, second = program.dlopen(ANSWER), program.dlopen(bytearray(ANSWER))
            assert [each.references for each in program.libraries] == [2]
            first.close()
            assert second.answer() == 42
            second.close()
            assert not program.libraries
            assert program.dlopen(ANSWER).answer() == 42

    def test_bytes_with_a_name_are_what_others_need(self) -> None:
        named = pylinker.ModuleBytes(ANSWER, name="libanswer.so")
        with pylinker.CDLL(CALLER, preload=[named]) as library:
            assert library.ask() == 42

    def test_bytes_that_are_no_library_change_nothing(self) -> None:
        with pylinker.Program() as program:
            program.dlopen(ANSWER)
            before = program.statistics()
            for wrong, error in ((b"", pylinker.ParseError), (MAIN, pylinker.NotDynamicError)) * 2:
                with pytest.raises(error, match="module-"):
                    program.dlopen(wrong)
                assert program.statistics().modules == before.modules
            with pytest.raises(pylinker.LimitError, match="the limit is 9"):
                pylinker.CDLL(ANSWER, limits=pylinker.Limits(library_size=9))
            with pytest.raises(pylinker.LibraryNotFoundError, match="RTLD_NOLOAD"):
                program.dlopen(CALLER, pylinker.RTLD_NOLOAD)
            assert program.dlopen(ANSWER, pylinker.RTLD_NOLOAD).answer() == 42

    def test_one_library_is_a_list_of_one(self, directory: Path) -> None:
        for preload in ("./libanswer.so", Path("libanswer.so"), ANSWER):
            with pylinker.Program(MAIN, preload=preload) as program:
                assert program.run() == 42
        for library_path in (".", directory):
            with pylinker.CDLL("libanswer.so", library_path=library_path) as library:
                assert library.answer() == 42


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dirs": ["data"]}, 'dirs is list; give a dict such as {"/guest": "host/directory"}'),
        ({"dirs": "data"}, "dirs is str; give a dict"),
        ({"dirs": {"/data": 7}}, "dirs['/data'] is 7; give a path"),
        ({"dirs": {b"/data": "."}}, "dirs has the key b'/data'"),
        ({"env": ["A=1"]}, "env is list; give a dict"),
        ({"env": {"A": 1}}, "env['A'] is 1; give a dict"),
        ({"imports": [print]}, "imports is list; give a dict"),
        ({"imports": print}, "give a dict such as"),
        ({"imports": {"f": 1}}, "imports['f'] is int, not a function"),
        ({"limits": {"memory": 1 << 20}}, "limits is dict; give pylinker.Limits"),
        ({"limits": 1 << 20}, "limits is int; give pylinker.Limits"),
        ({"args": "one"}, "args is str; give a list of str"),
        ({"args": [1]}, "args contains 1"),
        ({"preload": {"libc.so": 1}}, "preload is dict; give a list of libraries"),
        ({"preload": [1]}, "preload[0] is int; give a name or path"),
        ({"library_path": b"/lib"}, "library_path is bytes; give a list of directories"),
        ({"library_path": [None]}, "library_path[0] is None; give a path"),
        ({"stack_size": "1 MB"}, "stack_size='1 MB': give bytes"),
        ({"stack_size": 1.5}, "stack_size=1.5: give bytes"),
        ({"rendezvous_timeout": "1"}, "rendezvous_timeout='1': give seconds"),
        ({"load_timeout": "1"}, "load_timeout='1': give seconds"),
        ({"threads": "yes"}, "threads='yes': give True, False or None"),
        ({"cache": 7}, "cache=7: give True, False or a directory"),
        ({"name": 7}, "name=7: give a str"),
        ({"stdout": 1.5}, "stdout=1.5: give None, CAPTURE, DEVNULL or a path"),
        ({"stdin": 7}, "stdin=7: give None, bytes or a path"),
        ({"progress": "bar"}, "progress='bar': give a function"),
        ({"bind_now": "no"}, "bind_now='no': give True or False"),
        ({"main": 7}, "main is int; give a name or path"),
    ],
    ids=lambda value: (
        repr(value)[:40] if isinstance(value, dict) and "<" not in repr(value) else ""
    ),
)
def test_wrong_types_say_what_is_wanted(keywords: dict[str, Any], message: str) -> None:
    for _ in range(2):
        with pytest.raises(TypeError) as caught:
            pylinker.Program(**keywords)
        assert message in str(caught.value)


def test_wrong_types_of_other_calls() -> None:
    with pylinker.Program() as program:
        with pytest.raises(TypeError, match="name is int; give a name or path"):
            program.dlopen(7)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="mode='NOW': combine"):
            program.dlopen(ANSWER, "NOW")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="name is int"):
            program.dlsym(pylinker.RTLD_DEFAULT, 7)  # type: ignore[arg-type]
        library = program.dlopen(ANSWER)
        with pytest.raises(TypeError, match="give the name of a function"):
            library[0]  # type: ignore[index]
    with pytest.raises(TypeError, match="name is NoneType; give a name or path"):
        pylinker.CDLL(None)  # type: ignore[arg-type]


class TestMessages:
    """Messages that name the solution."""

    def test_memories_that_do_not_fit(self, tmp_path: Path) -> None:
        one, shared = wasm(tmp_path / "one.so", MEMORY), wasm(tmp_path / "shared.so", SHARED)
        advice = (
            r"one\.so is built for one thread: compile with -matomics -mbulk-memory -pthread, "
            r"link with --shared-memory"
        )
        with pylinker.CDLL(shared, threads=True) as library:
            for _ in range(2):
                with pytest.raises(
                    pylinker.SignatureMismatchError,
                    match=f"^one.so: .*memory that is not shared, .*; {advice}",
                ):
                    library.program.dlopen(one)
        for first, second in ((one, shared), (shared, one)):
            with pytest.raises(pylinker.SignatureMismatchError, match=advice):
                pylinker.CDLL(first, preload=[second])
        with (
            pylinker.CDLL(one) as library,
            pytest.raises(
                pylinker.SignatureMismatchError, match=r"shared\.so is built for threads: give"
            ),
        ):
            library.program.dlopen(shared)

    def test_an_undefined_function_that_was_called(self, tmp_path: Path) -> None:
        path = wasm(
            tmp_path / "lib.so",
            *forward("host_log"),
            *forward("other", module="x", export="two"),
            *forward("printf", export="three"),
        )
        with pylinker.CDLL(path) as library:
            with pytest.raises(
                pylinker.UndefinedSymbolError,
                match=r"it was called: give it as imports={'host_log': function}, or load the",
            ):
                library.go()
            with pytest.raises(
                pylinker.UndefinedSymbolError, match=r"imports={\('x', 'other'\): function}"
            ):
                library.two()
            with pytest.raises(
                pylinker.UndefinedSymbolError, match=r"it was called; printf is of the C library"
            ):
                library.three()

    @pytest.mark.usefixtures("directory")
    def test_arguments_of_a_program(self) -> None:
        with pytest.raises(
            ValueError, match="the memory limit of 65536 is smaller than stack_size=1048576"
        ):
            pylinker.Program(limits=pylinker.Limits(memory=65536))
        with pytest.raises(ValueError, match="stack_size=0: give bytes, 1 or more"):
            pylinker.Program(stack_size=0)
        with pytest.raises(
            FileNotFoundError, match=r"stdin: no such file; give bytes for its content: 'text'"
        ):
            pylinker.Program(stdin="text")
        with pytest.raises(
            pylinker.LibraryNotFoundError, match=r"^main module 'other\.wasm' not found"
        ):
            pylinker.Program("other.wasm")

    def test_arguments_of_a_function(self, tmp_path: Path) -> None:
        path = wasm(
            tmp_path / "lib.so",
            '(func (export "one") (param i32))',
            '(func (export "two") (param i32 i32))',
        )
        with pylinker.CDLL(path) as library:
            for argument, says in (
                (
                    len,
                    (
                        r"a function pointer is library\['f'\]\.slot; "
                        r"a Python function goes through imports"
                    ),
                ),
                (library.two, r"a function pointer is a number: library\['two'\]\.slot"),
                (bytearray(b"text"), "bytearray cannot be passed; give bytes"),
                (memoryview(b"text"), "memoryview cannot be passed; give bytes"),
                (None, "'NoneType' object cannot be interpreted"),
            ):
                with pytest.raises(TypeError, match=f"^one.*, argument 1: {says}"):
                    library.one(argument)
            with pytest.raises(TypeError, match=r"takes 1 argument, not 0$"):
                library.one()
            with pytest.raises(TypeError, match=r"takes 2 arguments, not 1$"):
                library.two(1)

    def test_spawn(self) -> None:
        with pylinker.Program() as program:
            with pytest.raises(pylinker.UnsupportedError, match="threads=True"):
                program.spawn("no such function")
            with pytest.raises(
                TypeError, match="function is int; give a name, a Function or a Python function"
            ):
                program.spawn(3)  # type: ignore[arg-type]
        with pytest.raises(pylinker.ClosedError):
            program.spawn("no such function")

    def test_strings_outside(self) -> None:
        with pylinker.Program() as program:
            memory = program.memory
            for address in (-1, memory.size + 1, 1 << 40):
                with pytest.raises(
                    pylinker.MemoryAccessError,
                    match=r"^address 0x\w+ is not inside a memory of \d+ bytes$",
                ):
                    memory.cstring(address)
            memory.write(0, b"x" * 9)
            with pytest.raises(pylinker.MemoryAccessError, match="within 0 bytes"):
                memory.cstring(0, -3)

    def test_what_cannot_be_pickled_says_what_to_do(self) -> None:
        with pylinker.CDLL(ANSWER) as library:
            for each in (
                library,
                library.answer,
                library.program,
                library.program.main,
                library.program.memory,
            ):
                for copied in (pickle.dumps, copy.copy):
                    with pytest.raises(
                        TypeError,
                        match=r"cannot be copied or pickled: make the program inside the worker",
                    ):
                        copied(each)

    def test_the_cause_of_a_call_that_was_stopped(self, tmp_path: Path) -> None:
        computes = '(func (export "compute") (loop (br 0)))'
        waits = (
            '(func (export "wait") (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) '
            "(i64.const -1))))"
        )
        with pylinker.CDLL(wasm(tmp_path / "lib.so", SHARED, computes, waits)) as library:
            for call in (library.compute, library.wait):
                with (
                    pytest.raises(pylinker.TimeoutExpired) as caught,
                    library.program.time_limit(0.1),
                ):
                    call()
                assert "the guest was stopped" in str(caught.value.__cause__)


class TestLibrary:
    def test_a_library_lists_the_functions_it_has(self) -> None:
        with pylinker.CDLL(ANSWER) as library:
            names = ["answer", "name", "path", "program", "close", "address_of", "_handle"]
            assert list(library) == names
            assert all(name in library and library[name].__name__ == name for name in library)
            assert (
                "answer" in dir(library)
                and "address_of" in dir(library)
                and "datum" not in dir(library)
            )
            assert "datum" in library
            assert {"answer", "close"} <= set(library.program.main)

    def test_functions_with_names_of_attributes_are_items(self) -> None:
        with pylinker.CDLL(ANSWER) as library:
            names = ["name", "path", "program", "close", "address_of", "_handle"]
            assert [library[name]() for name in names] == [1, 2, 3, 4, 5, 6]
            assert library.answer() == 42 and not library.program.closed
            assert [library[name]() for name in names] == [1, 2, 3, 4, 5, 6]

    def test_data_is_no_attribute_that_can_be_set(self) -> None:
        class Own(pylinker.CDLL):
            def __init__(self) -> None:
                super().__init__(pylinker.ModuleBytes(ANSWER, name="libanswer.so"))
                self.other = 1

        with Own() as library:
            for _ in range(2):
                with pytest.raises(
                    AttributeError, match=r"libanswer\.so: datum is data .*address_of\('datum'\)"
                ):
                    library.datum = 3
            assert "datum" not in vars(library) and library.other == 1
            library.answer = lambda: 7  # as of every object
            assert library.answer() == 7

    def test_one_that_is_dropped_stays_open(self) -> None:
        with pylinker.Program() as program:
            program.dlopen(ANSWER)
            gc.collect()
            assert len(program.libraries) == 1

    def test_a_function_has_the_names_of_a_function(self) -> None:
        with pylinker.CDLL(pylinker.ModuleBytes(ANSWER, name="libanswer.so")) as library:
            assert library.answer.__name__ == "answer"
            assert pylinker.Function.__name__ == "Function"

    def test_a_closed_library_lists_nothing(self) -> None:
        library = pylinker.CDLL(ANSWER)
        library.close()
        with pytest.raises(pylinker.ClosedError):
            list(library)
        assert "close" in dir(library)


def test_output_after_close_says_when_to_read_it() -> None:
    with pylinker.Program(stdout=pylinker.CAPTURE) as program:
        assert program.stdout == b""
    for _ in range(2):
        with pytest.raises(pylinker.ClosedError, match="read stdout before close"):
            _ = program.stdout
        with pytest.raises(ValueError, match="stderr is not captured: create the program with"):
            _ = program.stderr


def test_a_program_and_a_library_have_the_same_options():
    signatures = {
        each: dict(inspect.signature(each).parameters) for each in (pylinker.Program, pylinker.CDLL)
    }
    program, library = signatures.values()
    for own in ("main", "name"):
        del program[own]
    del library["name"]
    assert program == library
    assert program.keys() == pylinker.Options.__annotations__.keys()
    assert all(each.kind is each.KEYWORD_ONLY for each in program.values())


@pytest.mark.parametrize("make", [pylinker.Program, pylinker.CDLL])
def test_an_option_that_is_not_there(make):
    with pytest.raises(TypeError, match="unexpected keyword argument 'thread'"):
        make("./none.so", thread=True)
