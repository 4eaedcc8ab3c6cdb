"""What works in a child of fork(), and what says that it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="fork() is POSIX's")

_BEGIN = """
import os, signal, sys, threading, traceback
import pylinker, wasmtime

def module(text, name):
    own = f"{name}.{os.getpid()}"
    with open(own, "wb") as file:
        file.write(wasmtime.wat2wasm(text))
    os.replace(own, name)  # another process may read it at this moment
    return "./" + name

def library(name, answer):
    body = "(func (param i32) (result i32) (i32.add (local.get 0) (i32.const {})))"
    functions = "".join(body.format(index) for index in range(50))
    return module(f'''(module (@dylink.0 (mem-info (memory 0 0) (table 0 0))) {functions}
      (func (export "answer") (result i32) (i32.const {answer}))
      (func (export "spin") (loop $again (br $again))))''', name)

THREADED = '''(module
  (import "env" "memory" (memory 1 64 shared))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (func (export "answer") (result i32) (i32.const 42))
  (func (export "wait") (drop (memory.atomic.wait32 (i32.const 16) (i32.const 0) (i64.const -1))))
  (func (export "_start")))'''

def child(function):
    "Call a function in a child, which exits as interpreters do; the parent waits for its exit."
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        return
    signal.alarm(50)
    try:
        function()
    except Exception:
        traceback.print_exc()
        sys.exit(1)
    sys.exit(0)

def interrupted(function):
    "Interrupt a call of a guest that computes."
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        function()
    except KeyboardInterrupt:
        return "interrupted"

def refused(function):
    try:
        return function()
    except pylinker.SynchronizationAborted as error:
        assert "fork()" in str(error), error
        return "refused"
"""


def _run(directory: Path, script: str) -> list[str]:
    command = [sys.executable, "-c", _BEGIN + script]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), (done.returncode, done.stdout, done.stderr)
    return done.stdout.splitlines()


@pytest.mark.parametrize("cache", [True, False])
def test_a_child_makes_programs(tmp_path: Path, cache: bool) -> None:
    """It compiles without the threads of its parent's compiler."""
    script = f"""
first = pylinker.CDLL(library("first.so", 1), cache={cache})
def work():
    second = pylinker.CDLL(library("second.so", 2), cache={cache})
    first = pylinker.CDLL("./first.so", cache={cache})
    print(second["answer"](), interrupted(second["spin"]), first["answer"]())
    threaded = pylinker.Program(module(THREADED, "threaded.wasm"), threads=True, cache={cache})
    print(threaded.spawn("answer").join(), threaded.run())
    child(lambda: print(pylinker.CDLL(library("third.so", 3), cache={cache})["answer"]()))
for _ in range(2):
    child(work)
print(first["answer"]())
"""
    assert _run(tmp_path, script) == ["2 interrupted 1", "42 0", "3"] * 2 + ["1"]


def test_a_program_without_threads_goes_on_in_a_child(tmp_path: Path) -> None:
    script = """
program = pylinker.Program()
first = program.dlopen(library("first.so", 1))
call = first["answer"].bind()
def work():
    print(first["answer"](), call(), program.dlopen(library("second.so", 2))["answer"](),
      interrupted(first["spin"]))
    first.close()
    program.close()
for _ in range(2):
    child(work)
print(call())
"""
    assert _run(tmp_path, script) == ["1 1 2 interrupted"] * 2 + ["1"]


def test_a_program_with_threads_is_refused_in_a_child(tmp_path: Path) -> None:
    script = """
program = pylinker.Program(module(THREADED, "threaded.wasm"), threads=True)
answer, call = program.main["answer"], program.main["answer"].bind()
ended = program.spawn("answer")
ended.join()
child(lambda: print(call(), program.spawn("answer").join()))
waiting = program.spawn("wait")
path = library("first.so", 1)
def limited():
    with program.time_limit(1):
        pass
def work():
    uses = [answer, call, lambda: program.dlopen(path), lambda: program.spawn("answer")]
    uses += [program.run, limited, waiting.join, program.statistics]
    print([refused(use) for use in uses + uses])
    with program:
        pass
    print(program.closed, pylinker.CDLL(path)["answer"]())
child(work)
child(lambda: None)
def collect():
    global program, answer, call, waiting
    del program, answer, call, waiting
    import gc
    gc.collect()
child(collect)
print(answer(), program.dlopen(path)["answer"]())
program.close()
"""
    assert _run(tmp_path, script) == ["42 42", str(["refused"] * 16), "True 1", "42 1"]


def test_a_program_that_another_thread_was_in_is_refused_in_a_child(tmp_path: Path) -> None:
    script = """
inside, go_on = threading.Event(), threading.Event()
def host():
    inside.set()
    go_on.wait(60)
with_host = module('''(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
  (import "env" "host" (func $host))
  (func (export "work") (call $host)) (func (export "answer") (result i32)
    (i32.const 1)))''', "host.so")
shared = pylinker.CDLL(with_host, imports={"host": host})
thread = threading.Thread(target=shared["work"])
thread.start()
inside.wait()
def work():
    print(refused(lambda: shared["answer"]()), refused(lambda: shared.program.dlopen(with_host)))
    shared.close()
    print(pylinker.CDLL(library("first.so", 1))["answer"]())
child(work)
go_on.set()
thread.join()
print(shared["answer"]())
"""
    assert _run(tmp_path, script) == ["refused refused", "1", "1"]


def test_a_guest_whose_host_function_forks_goes_on_in_both(tmp_path: Path) -> None:
    script = """
pids = []
def host():
    sys.stdout.flush()
    pids.append(os.fork())
library_ = pylinker.CDLL(module('''(module (@dylink.0 (mem-info (memory 0 0) (table 0 0)))
  (import "env" "host" (func $host))
  (func (export "work") (result i32) (call $host)
    (i32.const 5)))''', "host.so"), imports={"host": host})
os.write(1, b"%d\\n" % library_["work"]())  # in one piece: both write here
if pids[0]:
    assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 0
"""
    assert _run(tmp_path, script) == ["5", "5"]


def test_files_of_the_parent_stay_its_own(tmp_path: Path) -> None:
    """Files and trace of a program stay with the parent; WASI works in the child."""
    script = """
WRITES = '''(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 100) "text")
  (func (export "write") (result i32)
    (i32.store (i32.const 8) (i32.const 100)) (i32.store (i32.const 12) (i32.const 4))
    (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 84))))'''
program = pylinker.Program(module(WRITES, "writes.wasm"), stdout=pylinker.CAPTURE,
                           trace="trace.json")
print(program.main["write"]())
def work():
    print(program.main["write"]())
    program.close()
child(work)
child(lambda: None)
print(program.stdout, os.path.getsize("trace.json"))
program.close()
"""
    assert _run(tmp_path, script) == ["0", "0", "b'texttext' 0"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes(tmp_path: Path, method: str) -> None:
    (tmp_path / "pool.py").write_text(
        _BEGIN
        + f"""
import multiprocessing
path = library("first.so", 1)
kept = pylinker.CDLL(path)
def work(number):
    return kept["answer"]() + pylinker.CDLL(library(f"own{{number}}.so", number))["answer"]()
if __name__ == "__main__":
    with multiprocessing.get_context("{method}").Pool(2) as pool:
        print(pool.map(work, range(6)))
        pool.close()
        pool.join()
""",
        encoding="utf-8",
    )
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "pool.py"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[1, 2, 3, 4, 5, 6]", "")


def test_a_value_that_another_thread_was_making_is_made_in_a_child(tmp_path: Path) -> None:
    """Before Python 3.12 ``cached_property`` has a lock per class, held for ever in a child."""
    script = """
from pylinker.linker.plan.operation import LoadModules
inside, go_on = threading.Event(), threading.Event()
class Slow:
    "A module whose record is slow to be found, so that another thread is making an operation."
    @property
    def native(self):
        inside.set()
        go_on.wait(60)
def make():
    try:
        LoadModules((Slow(),), 0, ()).native
    except AttributeError:
        pass  # it is none
thread = threading.Thread(target=make)
thread.start()
inside.wait()
child(lambda: print(pylinker.CDLL(library("first.so", 1), cache=False)["answer"]()))
go_on.set()
thread.join()
"""
    assert _run(tmp_path, script) == ["1"]


@pytest.mark.slow
def test_children_of_a_process_whose_other_threads_load(tmp_path: Path) -> None:
    script = """
import itertools
paths = [library(f"{number}.so", number) for number in range(20)]
stop = threading.Event()
def work():
    for number in itertools.cycle(range(20)):
        if stop.is_set():
            break
        with pylinker.CDLL(paths[number], cache=False) as loaded:
            assert loaded["answer"]() == number
def loads():
    with pylinker.CDLL(paths[7], cache=False) as loaded:
        assert loaded["answer"]() == 7
    os._exit(0)  # at once: the modules that the lost threads had open are not freed
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for _ in range(60):
    child(loads)
stop.set()
for thread in threads:
    thread.join()
print("well")
"""
    assert _run(tmp_path, script) == ["well"]
