"""Instances of unloaded libraries are reused: nothing is instantiated, and no old state is left."""

import threading
from contextlib import contextmanager

import pytest
import wasmtime

import pylinker
from corefaults import Led
from guests import orderly
from pylinker.bench.location import guests
from pylinker.wasm import is_reusable, parse_module

GUEST = guests()
PIC = """(import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $memory i32))
    (import "env" "__table_base" (global $table i32))"""
IMPORTS = {"soak_host": lambda x: x + 1, "soak_constructing": lambda: None}


class Counter(Led):
    """Counts the instances that are made."""

    def __init__(self):
        super().__init__("instance_new")
        self.made = 0

    def before(self, _arguments):
        self.made += 1


@contextmanager
def instantiations():
    with Counter() as counter:
        yield counter


def library(body, *, memory=16, table=0):
    return bytes(
        wasmtime.wat2wasm(
            f"(module (@dylink.0 (mem-info (memory {memory} 4) (table {table} 0))) {PIC} {body})"
        )
    )


@pytest.fixture
def opened(tmp_path):
    """Write a library, load it, and return the program with it."""
    with pylinker.Program(library_path=[tmp_path]) as program:

        def open_(name, body=None, **sizes):
            if body is not None:
                (tmp_path / name).write_bytes(library(body, **sizes))
            return program.dlopen(name)

        open_.program = program
        yield open_


@pytest.fixture
def program():
    with (
        orderly(),
        pylinker.Program(
            preload=["libcallee.so"], library_path=[GUEST], threads=True, imports=IMPORTS
        ) as program,
    ):
        yield program


def test_a_library_that_is_opened_again_is_not_instantiated_again(program):
    program.dlopen("libsoak.so").close()
    with instantiations() as counter:
        for _ in range(5):
            with program.dlopen("libsoak.so") as soak:
                assert (
                    soak.soak_is_fresh() == 1
                )  # data, bss and relocations: its constructor spoils them
                assert soak.soak_lazy(4) == 5
                assert soak.soak_through(soak.soak_pointer(), 7) == 8
                assert soak.soak_ask(1) == 2
                assert soak.soak_wait(1000) == 2
    assert counter.made == 0


def test_groups_that_follow_use_theirs_again(program):
    go, done = threading.Semaphore(0), threading.Semaphore(0)
    answers = []

    def follow():
        for _ in range(4):
            go.acquire()
            answers.append(
                program.main.callee(1) and found[0].soak_through(found[0].soak_pointer(), 3)
            )
            done.release()

    found = []
    thread = program.spawn(follow)
    for turn in range(4):
        found[:] = [program.dlopen("libsoak.so")]
        with instantiations() as counter:
            go.release()
            assert done.acquire(timeout=60)
        assert counter.made == (1 if turn == 0 else 0)
        found.pop().close()
    thread.join(60)
    assert answers == [4] * 4


def test_a_group_that_has_only_followed_can_lead(program):
    go, done = threading.Event(), threading.Event()

    def lead():
        program.main.callee(1)
        done.set()
        go.wait(60)
        with program.dlopen("libsoak.so") as soak:
            return soak.soak_is_fresh(), soak.soak_lazy(1)

    soak = program.dlopen("libsoak.so")
    thread = program.spawn(lead)
    assert done.wait(60)
    soak.close()
    with instantiations() as counter:
        go.set()
        assert thread.join(60) == (1, 2)
    assert counter.made == 0


def test_a_load_whose_constructor_fails_leaves_an_instance_to_be_used_again():
    def constructing():
        raise ZeroDivisionError

    imports = IMPORTS | {"soak_constructing": constructing}
    with pylinker.Program(
        preload=["libcallee.so"], library_path=[GUEST], threads=True, imports=imports
    ) as program:
        for turn in range(4):
            with (
                instantiations() as counter,
                pytest.raises((pylinker.LinkError, ZeroDivisionError)),
            ):
                program.dlopen("libsoak.so")
            assert counter.made == (1 if turn == 0 else 0)


def test_a_library_elsewhere_is_instantiated(program, tmp_path):
    (tmp_path / "libother.so").write_bytes((GUEST / "libsoak.so").read_bytes())
    program.dlopen("libsoak.so").close()
    with (
        program.dlopen(str(tmp_path / "libother.so")),
        instantiations() as counter,
    ):  # the same code, in the place of the first
        with program.dlopen("libsoak.so") as soak:
            assert soak.soak_is_fresh() == 1
        assert counter.made == 1


def test_slots_and_cells_are_those_of_the_new_load(opened, tmp_path):
    user = """(import "env" "value" (func $value (result i32)))
      (import "GOT.func" "value" (global $pointer (mut i32)))
      (import "GOT.mem" "there" (global $there (mut i32))) (type $plain (func (result i32)))
      (func (export "call") (result i32) call $value)
      (func (export "through") (result i32) (call_indirect (type $plain) (global.get $pointer)))
      (func (export "where") (result i32) (global.get $there))
      (func $own (result i32) (i32.const 9)) (elem (global.get $table) $own)
      (func (export "spoil") (table.set (global.get $table) (ref.null func)))
      (func (export "slot") (result i32) (call_indirect (type $plain) (global.get $table)))"""
    libraries = {
        "libuser.so": library(user, table=1),
        **{
            f"lib{n}.so": library(f'(func (export "value") (result i32) (i32.const {n}))')
            for n in (10, 20)
        },
        **{
            f"libat{n}.so": library(f'(global (export "there") i32 (i32.const {n}))')
            for n in (0, 4)
        },
    }
    for name, data in libraries.items():
        (tmp_path / name).write_bytes(data)
    made = []
    for at, value in [(0, 10), (0, 20), (4, 10), (4, 20)]:
        place = opened.program.dlopen(f"libat{at}.so", pylinker.RTLD_GLOBAL)
        defining = opened.program.dlopen(f"lib{value}.so", pylinker.RTLD_GLOBAL)
        with instantiations() as counter:
            using = opened.program.dlopen("libuser.so")
        made.append(counter.made)
        assert (using.call(), using.through(), using.where()) == (
            value,
            value,
            place.address_of("there"),
        )
        assert using.slot() == 9
        using.spoil()
        for each in (using, defining, place):
            each.close()
    assert made == [
        1,
        1,
        0,
        0,
    ]  # to import another function is to be another instance; other cells are not


def test_a_trampoline_is_lazy_again(opened, tmp_path):
    user = (
        '(import "env" "value" (func $value (result i32))) '
        '(func (export "call") (result i32) call $value)'
    )
    for name, body in [
        ("libuser.so", user),
        *(
            (f"lib{n}.so", f'(func (export "value") (result i32) (i32.const {n}))')
            for n in (10, 20)
        ),
    ]:
        (tmp_path / name).write_bytes(library(body))
    made = []
    for value in (10, 20, 10, 20):
        with instantiations() as counter:
            using = opened.program.dlopen("libuser.so")
        made.append(counter.made)
        with opened.program.dlopen(f"lib{value}.so", pylinker.RTLD_GLOBAL):
            assert (using.call(), using.call()) == (value, value)
            using.close()
    assert made == [2, 0, 0, 0]


def test_host_functions_are_told_which_load_calls(opened):
    body = """(import "env" "__cxa_atexit" (func $register (param i32 i32 i32) (result i32)))
      (func $destruct (param i32) (i32.store (local.get 0)
        (i32.add (i32.load (local.get 0)) (i32.const 1))))
      (elem (global.get $table) $destruct)
      (func (export "__wasm_call_ctors") (drop
        (call $register (global.get $table) (i32.const 8) (i32.const 0))))"""
    opened("libkeep.so", "")
    memory = opened.program.memory
    before = memory.read(8, 4)
    for turn in range(1, 4):
        with instantiations() as counter:
            opened("libexit.so", body, table=1).close()
        assert counter.made == (2 if turn == 1 else 0)  # the library, and what calls its destructor
        assert (
            int.from_bytes(memory.read(8, 4), "little") == int.from_bytes(before, "little") + turn
        )


FRESH = {
    "a global": (
        """(global $n (mut i32) (i32.const 5))
        (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1)))
          (global.get $n))""",
        6,
    ),
    "a table": (
        """(table $own 1 funcref) (func $f) (elem declare func $f)
        (func (export "next") (result i32)
          (ref.is_null (table.get $own (i32.const 0)))
            (table.set $own (i32.const 0) (ref.func $f)))""",
        1,
    ),
    "a segment": (
        """(data $d "\\07\\00\\00\\00")
        (func (export "next") (result i32)
          (memory.init $d (global.get $memory) (i32.const 0) (i32.const 4)) (data.drop $d)
            (i32.load (global.get $memory)))""",
        7,
    ),
}


@pytest.mark.parametrize("what", FRESH)
def test_what_cannot_be_put_back_is_instantiated_again(opened, what):
    body, expected = FRESH[what]
    for _ in range(3):
        with opened("libown.so", body) as own:
            assert own.next() == expected


def test_a_start_function_that_does_more_than_fill_memory_runs_each_time(tmp_path):
    (tmp_path / "libstart.so").write_bytes(
        library('(import "env" "started" (func $started)) (start $started)')
    )
    runs = []
    with pylinker.Program(
        library_path=[tmp_path], imports={"started": lambda: runs.append(1)}
    ) as program:
        for _ in range(3):
            program.dlopen("libstart.so").close()
    assert len(runs) == 3


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("", True),
        ('(func (export "f")) (data (global.get $memory) "text")', True),
        ("(global (mut i32) (i32.const 0))", False),
        ('(global (export "__tls_base") (mut i32) (i32.const 0))', True),
        (
            (
                '(global (export "__tls_base") (mut i32) (i32.const 0)) '
                '(global (export "__tls_size") i32 (i32.const 4))'
            ),
            False,
        ),
        ('(func (export "__wasix_init_tls") (result i32) (i32.const 1))', False),
        ("(table 1 funcref)", False),
        ("(func $f (nop)) (start $f)", False),
        (
            (
                '(data $d "a") (func $f (memory.init $d (global.get $memory) (i32.const 0) '
                "(i32.const 1)) (data.drop $d)) (start $f)"
            ),
            True,
        ),
        ('(data $d "a") (func (data.drop $d))', False),
        ("(func $g) (elem $e func $g) (func (elem.drop $e))", False),
        (
            (
                '(import "GOT.mem" "x" (global $x (mut i32))) (func $f (drop (global.get $x))) '
                "(start $f)"
            ),
            False,
        ),
        ("(func $g) (func $f (call $g)) (start $f)", False),
        ("(func $f (drop (i32.load (i32.const 0)))) (start $f)", False),
    ],
)
def test_what_may_be_used_again(body, expected):
    assert is_reusable(parse_module(library(body))) is expected


def test_what_compilers_make_may_be_used_again():
    for name in ("libsoak.so", "libsmall.so", "libcallee.so", "libcaller.so", "libmany.so"):
        assert is_reusable(parse_module((GUEST / name).read_bytes())), name
    assert not is_reusable(parse_module((GUEST / "libsoaktls.so").read_bytes()))
