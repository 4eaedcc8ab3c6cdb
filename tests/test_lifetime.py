"""Who keeps whom alive, and what is freed when."""

import gc
import subprocess
import sys
import weakref

import pytest
import wasmtime

import pylinker
from pylinker.native import hostfuncs

MAIN = bytes(
    wasmtime.wat2wasm(
        '(module (memory (export "memory") 1) (func (export "_start")) '
        '(func (export "id") (param i32) (result i32) local.get 0))'
    )
)
TRAPPING = bytes(
    wasmtime.wat2wasm('(module (memory (export "memory") 1) (func $f unreachable) (start $f))')
)


@pytest.fixture
def no_collector():
    """Only reference counts free anything in a test with this."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def store_of(program):
    return weakref.ref(program._linker.group.store)


@pytest.mark.usefixtures("no_collector")
def test_a_dropped_program_is_freed_at_once():
    program = pylinker.Program(MAIN, stdout=pylinker.CAPTURE)
    store = store_of(program)
    assert program.main["id"](7) == 7
    assert program.run() == 0
    del program
    assert store() is None


@pytest.mark.usefixtures("no_collector")
def test_a_closed_program_frees_its_store_while_the_object_lives():
    program = pylinker.Program(MAIN)
    function = program.main["id"]
    store = store_of(program)
    program.close()
    assert store() is None
    with pytest.raises(pylinker.ClosedError):
        function(1)


@pytest.mark.usefixtures("no_collector")
def test_a_failed_constructor_leaves_no_store(monkeypatch):
    stores = []
    original = pylinker.linker.groups.groups.GuestStore

    def recording(*arguments, **keywords):
        store = original(*arguments, **keywords)
        stores.append(weakref.ref(store))
        return store

    monkeypatch.setattr(pylinker.linker.groups.groups, "GuestStore", recording)
    try:
        pylinker.Program(TRAPPING)
    except pylinker.InitializationError:
        pass
    else:
        pytest.fail("did not trap")
    assert [store() for store in stores] == [None]


@pytest.mark.usefixtures("no_collector")
def test_a_function_keeps_its_program_alive():
    function = pylinker.Program(MAIN).main["id"]
    assert function(5) == 5


CALLING_BACK = bytes(
    wasmtime.wat2wasm(
        """(module
  (import "env" "back" (func $back (param i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 4) "\\05")
  (func (export "go") (param i32) (result i32)
    (i32.add (call $back (local.get 0)) (i32.load8_u (i32.const 4))))
  (func (export "go_and_trap") (param i32) (result i32)
    (drop (call $back (local.get 0))) unreachable))"""
    )
)


class CallingBack:
    """A program whose guest calls Python, which then does something, once."""

    def __init__(self):
        self.act = None
        self.program = pylinker.Program(CALLING_BACK, imports={"back": self.back})
        self.store = store_of(self.program)

    def back(self, number):
        act, self.act = self.act, None
        if act is not None:
            act()
        return number


@pytest.fixture(params=["function", "bound"])
def called(request):
    """A prepared call: straight through the core, with no frame of pylinker on Python's stack."""

    def way(function):
        assert function(1) == 6
        return function if request.param == "function" else function.bind()

    return way


@pytest.mark.usefixtures("no_collector")
def test_a_program_that_is_closed_out_of_a_call_of_its_guest_lives_until_that_is_over(called):
    calling = CallingBack()
    go = called(calling.program.main["go"])
    calling.act = calling.program.close
    assert go(2) == 7  # the guest goes on, in memory that is still there
    assert calling.program.closed
    with pytest.raises(pylinker.ClosedError):
        go(3)
    calling.program.close()
    assert calling.store() is None


@pytest.mark.usefixtures("no_collector")
def test_a_program_that_is_closed_and_dropped_out_of_a_call_of_its_guest(called):
    calling = CallingBack()
    go, store = called(calling.program.main["go"]), calling.store

    def close_and_drop():
        calling.program.close()
        del calling.program
        assert store() is not None

    calling.act = close_and_drop
    assert go(2) == 7
    del go
    assert store() is None


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("error", [wasmtime.Trap, LookupError])
@pytest.mark.parametrize("bound", [False, True], ids=["function", "bound"])
def test_a_failure_after_a_program_was_closed_out_of_a_call_is_told(error, bound):
    calling = CallingBack()
    trap = calling.program.main["go_and_trap"]
    with pytest.raises(wasmtime.Trap, match="unreachable"):
        trap(1)
    trap = trap.bind() if bound else trap

    def fail():
        calling.program.close()
        if error is LookupError:
            raise LookupError("unreachable, too")

    calling.act = fail
    with pytest.raises(error, match="unreachable"):
        trap(1)
    store = calling.store
    calling.program.close()
    del fail
    assert store() is None


@pytest.mark.usefixtures("no_collector")
def test_a_view_of_memory_keeps_the_memory_alive():
    program = pylinker.Program(MAIN)
    store = store_of(program)
    program.memory.write(100, b"still here")
    view = program.memory.view()
    program.close()
    del program
    assert bytes(view[100:110]) == b"still here"
    assert store() is not None
    view.release()
    del view
    assert store() is None


def test_an_interpreter_that_ends_with_a_program_open_says_nothing(tmp_path):
    (tmp_path / "main.wasm").write_bytes(MAIN)
    script = (
        "import pylinker\nprogram = pylinker.Program('main.wasm')\nlibrary = program.main\n"
        "function = library.id\nassert function(3) == 3\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_captured_output_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pylinker.Program(
        MAIN, stdin=b"x", stdout=pylinker.CAPTURE, stderr=pylinker.CAPTURE
    ) as program:
        assert program.run() == 0
        assert program.stdout == b""
    assert list(tmp_path.iterdir()) == []


NOBODY = bytes(
    wasmtime.wat2wasm(
        '(module (import "env" "nobody" (func $f)) (memory (export "memory") 1) '
        '(func (export "go") call $f))'
    )
)


def test_an_exception_before_a_callbacks_own_try_is_not_lost():
    """A handler's exception at the first instruction of a callback, where only cffi catches it."""
    go = pylinker.Program(NOBODY).main["go"]
    callback = hostfuncs.pl_python_host.__code__
    entered = []

    def trace(frame, _event, _argument):
        if frame.f_code is callback:
            entered.append(frame.f_lasti)
            raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        with pytest.raises(KeyboardInterrupt):
            go()
    finally:
        sys.settrace(None)
    assert len(entered) == 1
    with pytest.raises(pylinker.UndefinedSymbolError):
        go()


def test_an_exception_after_a_callbacks_own_try_is_not_lost(monkeypatch):
    """Nor one that comes while what the callback raised is being kept."""
    go = pylinker.Program(NOBODY).main["go"]
    keep = hostfuncs.keep_pending
    kept = []

    def interrupted(error):
        kept.append(type(error))
        keep(error)
        if len(kept) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(hostfuncs, "keep_pending", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go()
    assert kept == [pylinker.UndefinedSymbolError]
    with pytest.raises(pylinker.UndefinedSymbolError):
        go()
