"""A guest's first WASI call of a file where the host has few descriptors, or little address space.

wasmtime makes the threads that do such calls at the first of them, and ends the process if it
cannot.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the limits are Linux's"
)

_SCRIPT = """
import os, resource, sys, wasmtime, pylinker
CALLS = {
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_unlink_file": "i32 i32 i32",
    "path_symlink": "i32 i32 i32 i32 i32",
    "fd_readdir": "i32 i32 i32 i64 i32",
}
ARGUMENTS = {
    "path_open": "i32.3 i32.0 i32.64 i32.1 i32.0 i64.2 i64.0 i32.0 i32.128",
    "path_unlink_file": "i32.3 i32.64 i32.1",
    "path_symlink": "i32.64 i32.1 i32.3 i32.65 i32.1",
    "fd_readdir": "i32.3 i32.128 i32.64 i64.0 i32.256",
}
ABSENT, MFILE, NOMEM = 44, 33, 48
DONE = {"path_open": ABSENT, "path_unlink_file": ABSENT, "path_symlink": 0, "fd_readdir": 0}
what, name, room, directory = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
arguments = " ".join("({}.const {})".format(*each.split(".")) for each in ARGUMENTS[name].split())
program = pylinker.Program(wasmtime.wat2wasm(f'''(module
  (import "wasi_snapshot_preview1" "{name}" (func $call (param {CALLS[name]}) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "ab")
  (func (export "call") (result i32) (call $call {arguments}))
  (func (export "_start")))'''), dirs={"/": directory})
call = program.main["call"]
held = []
if what == "descriptors":
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        pass
    for each in held[:room]:
        os.close(each)
    del held[:room]
else:
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + (room << 19), resource.RLIM_INFINITY))
scarce = MFILE if what == "descriptors" else NOMEM
results = [call(), call()]  # the first that succeeds may leave too little for the second
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for each in held:
    os.close(each)
results.append(call())
ends = {DONE[name], 20} if name == "path_symlink" else {DONE[name]}  # 20: it is there
assert all(each in ends | {scarce, NOMEM} for each in results[:2]), results
assert results[2] in ends, results
print(results[0] == scarce)
"""


def first_call(what: str, name: str, room: int, directory: Path) -> bool:
    """Whether the first call of a process was refused for want of ``what``."""
    command = [sys.executable, "-c", _SCRIPT, what, name, str(room), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout == "True\n"


@pytest.mark.parametrize("name", ["path_open", "path_unlink_file", "path_symlink", "fd_readdir"])
def test_without_descriptors_the_first_call_of_a_file_fails_and_a_later_one_does_not(
    tmp_path: Path, name: str
) -> None:
    found = [first_call("descriptors", name, room, tmp_path) for room in (0, 2, 20)]
    assert found == [True, True, False]


def test_each_number_of_descriptors_is_enough_or_an_error(tmp_path: Path) -> None:
    found = [first_call("descriptors", "path_open", room, tmp_path) for room in range(1, 12, 2)]
    assert found[0] and not found[-1]
    assert found == sorted(found, reverse=True)


def test_without_address_space_the_first_call_of_a_file_fails_and_a_later_one_does_not(
    tmp_path: Path,
) -> None:
    assert [first_call("space", "path_open", room, tmp_path) for room in (0, 4, 1 << 13)] == [
        True,
        True,
        False,
    ]
