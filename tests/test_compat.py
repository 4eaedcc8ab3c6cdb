"""wasmtime is accepted by its declarations and behaviour, whatever its version number."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
import wasmtime

from pylinker._core import ffi, lib
from pylinker.native.api import api_shapes
from pylinker.native.core import core_file
from pylinker.runtime import compat
from pylinker.runtime.abi import differences
from pylinker.runtime.private import BINDINGS, DLL, address_of_function
from pylinker.runtime.probe import probe

ROOT = Path(__file__).resolve().parent.parent
NAMES = [name for name, _ in api_shapes()]


class Altered:
    """An object with some attributes that differ; None: that are not there."""

    def __init__(self, original: Any, **changes: Any) -> None:
        self._original = original
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        if name in self._changes:
            if self._changes[name] is None:
                raise AttributeError(name)
            return self._changes[name]
        return getattr(self._original, name)


def signature(
    name: str, *, result: Any = ..., parameters: Callable[[list[Any]], list[Any]] = list
) -> types.SimpleNamespace:
    """wasmtime-py's declaration of this function, with another result or other parameters."""
    original = getattr(DLL, name)
    return types.SimpleNamespace(
        restype=original.restype if result is ... else result,
        argtypes=parameters(list(original.argtypes)),
    )


def struct(*fields: tuple[str, Any]) -> type[ctypes.Structure]:
    return type("Struct", (ctypes.Structure,), {"_fields_": list(fields)})


class TestDeclarations:
    def test_the_installed_wasmtime_declares_what_the_core_uses(self) -> None:
        assert list(differences(BINDINGS, DLL)) == []

    @pytest.mark.parametrize(
        ("name", "other", "text"),
        [
            (
                "wasmtime_val_t",
                struct(("words", ctypes.c_uint64 * 9)),
                "wasmtime_val_t has 72 bytes, pylinker was built for 32",
            ),
            (
                "wasmtime_val_t",
                struct(("of", ctypes.c_uint64 * 3), ("kind", ctypes.c_uint8)),
                "wasmtime_val_t.of is 24 bytes at 0",
            ),
            (
                "wasmtime_extern_t",
                struct(("kind", ctypes.c_uint8), ("x", ctypes.c_uint64 * 3)),
                "wasmtime_extern_t has no field of",
            ),
            (
                "wasmtime_func_t",
                struct(("store_id", ctypes.c_uint32), ("x", ctypes.c_uint64)),
                "wasmtime_func_t.store_id is 4 bytes at 0",
            ),
            (
                "wasmtime_val_t",
                struct(("kind", ctypes.c_uint32), ("of", ctypes.c_uint64 * 3)),
                "wasmtime_val_t.kind is 4 bytes at 0, pylinker was built for 1 at 0",
            ),
            ("wasmtime_tag_t", None, "there is no wasmtime_tag_t"),
        ],
        ids=["larger", "moved", "renamed", "narrower", "wider", "gone"],
    )
    def test_another_layout_is_told(self, name: str, other: Any, text: str) -> None:
        found = list(differences(Altered(BINDINGS, **{name: other}), DLL))
        assert any(each.startswith(text) for each in found), found

    @pytest.mark.parametrize(
        ("trap_codes", "text"), [({"HEAP_MISALIGNED": 7}, "is 7"), ({}, "is not there")]
    )
    def test_the_numbers_of_traps_are_compared(self, trap_codes: dict[str, int], text: str) -> None:
        numbers = {
            f"WASMTIME_TRAP_CODE_{name}": types.SimpleNamespace(value=number)
            for name, number in trap_codes.items()
        }
        other = types.SimpleNamespace(**numbers)
        told = list(differences(Altered(BINDINGS, wasmtime_trap_code_enum=other), DLL))
        assert f"WASMTIME_TRAP_CODE_HEAP_MISALIGNED {text}, pylinker was built for 2" in told
        assert len(told) == 3

    @pytest.mark.parametrize("name", NAMES)
    def test_every_function_is_compared(self, name: str) -> None:
        for changed in (
            signature(name, result=ctypes.c_float),
            signature(name, parameters=lambda now: [*now, ctypes.c_int]),
            signature(name, parameters=lambda now: [*now[:-1], ctypes.c_float]),
        ):
            (told,) = differences(BINDINGS, Altered(DLL, **{name: changed}))
            assert told.startswith(f"{name} is declared (") and ", pylinker calls it (" in told
        assert list(differences(BINDINGS, Altered(DLL, **{name: None}))) == [
            f"there is no function {name}"
        ]

    def test_the_parameters_of_a_callback_are_compared(self) -> None:
        other = ctypes.CFUNCTYPE(
            ctypes.c_size_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32
        )
        changed = signature(
            "wasmtime_func_new_unchecked", parameters=lambda now: [*now[:2], other, *now[3:]]
        )
        (told,) = differences(BINDINGS, Altered(DLL, wasmtime_func_new_unchecked=changed))
        assert "c_uint" in told

    def test_public_names_are_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # An older wasmtime.Config takes any attribute, and does nothing.
        monkeypatch.setattr(wasmtime, "Config", type("Config", (), {"wasm_threads": None}))
        monkeypatch.delattr(wasmtime, "TagType")
        told = list(differences(BINDINGS, DLL))
        assert (
            "wasmtime.Config has no max_wasm_stack" in told
            and "wasmtime.Config has no wasm_gc" in told
        )
        assert "there is no wasmtime.TagType" in told


def in_place(name: str, type_: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a function of wasmtime in the core's table; the new one gets the original first."""
    original = ffi.cast(type_, address_of_function(name))
    callback = ffi.callback(type_, lambda *arguments: function(original, *arguments))
    lib.pl_api_set(NAMES.index(name), ffi.cast("void *", callback))
    try:
        yield
    finally:
        lib.pl_api_set(NAMES.index(name), ffi.cast("void *", original))


def error() -> Any:
    return ffi.cast("pl_error *(*)(char *)", address_of_function("wasmtime_error_new"))(
        ffi.new("char[]", b"injected")
    )


def trapping(_original: Any, *arguments: Any) -> Any:
    trap_new = ffi.cast("pl_trap *(*)(char *, size_t)", address_of_function("wasmtime_trap_new"))
    arguments[-1][0] = trap_new(ffi.new("char[]", b"injected"), 8)
    return ffi.NULL


def other_value(_original: Any, _context: Any, _global: Any, cell: Any) -> None:
    cell.kind = lib.PL_CELL_I32
    cell.of.i32 = 5


def unseen(original: Any, failed: Any, frames: Any) -> None:
    original(failed, frames)
    ffi.cast("void(*)(pl_frames *)", address_of_function("wasm_frame_vec_delete"))(frames)
    frames.size = 0


class TestBehaviour:
    def test_the_installed_wasmtime_does_what_the_core_relies_on(self) -> None:
        assert probe() is None

    @pytest.mark.parametrize(
        ("name", "type_", "function", "text"),
        [
            (
                "table_size",
                "uint64_t(*)(pl_context *, pl_table *)",
                lambda *_: 7,
                "a new slot of a table is not null",
            ),
            (
                "table_get",
                "_Bool(*)(pl_context *, pl_table *, uint64_t, pl_cell *)",
                lambda original, *arguments: original(*arguments) or True,
                "a table has slots beyond its size",
            ),
            (
                "table_set",
                "pl_error *(*)(pl_context *, pl_table *, uint64_t, pl_cell *)",
                lambda *_: ffi.NULL,
                "another function than",
            ),
            (
                "table_grow",
                "pl_error *(*)(pl_context *, pl_table *, uint64_t, pl_cell *, uint64_t *)",
                lambda *_: error(),
                "does not grow",
            ),
            (
                "table_grow",
                "pl_error *(*)(pl_context *, pl_table *, uint64_t, pl_cell *, uint64_t *)",
                lambda *_: ffi.NULL,
                "has grown by",
            ),
            (
                "global_get",
                "void(*)(pl_context *, pl_global *, pl_cell *)",
                other_value,
                "another value than it was made with",
            ),
            (
                "global_set",
                "pl_error *(*)(pl_context *, pl_global *, pl_cell *)",
                lambda *_: ffi.NULL,
                "a global has another value",
            ),
            (
                "global_new",
                "pl_error *(*)(pl_context *, pl_type *, pl_cell *, pl_global *)",
                lambda *_: error(),
                "a global cannot be made",
            ),
            (
                "tag_new",
                "pl_error *(*)(pl_context *, pl_type *, pl_handle *)",
                lambda *_: error(),
                "a tag cannot be made",
            ),
            (
                "memory_new",
                "pl_error *(*)(pl_context *, pl_type *, pl_memory *)",
                lambda *_: error(),
                "a memory cannot be made",
            ),
            (
                "memory_data_size",
                "size_t(*)(pl_context *, pl_memory *)",
                lambda *_: 1,
                "a memory is not what its guest uses",
            ),
            (
                "memory_grow",
                "pl_error *(*)(pl_context *, pl_memory *, uint64_t, uint64_t *)",
                lambda *_: error(),
                "a memory is not what",
            ),
            (
                "sharedmemory_data_size",
                "size_t(*)(pl_shared_memory *)",
                lambda *_: 1,
                "a shared memory is not what its guest uses",
            ),
            (
                "instance_new",
                (
                    "pl_error *(*)(pl_context *, pl_module *, pl_extern *, size_t, "
                    "pl_instance *, pl_trap **)"
                ),
                lambda *_: error(),
                "does not accept the kinds of its imports",
            ),
            (
                "instance_new",
                (
                    "pl_error *(*)(pl_context *, pl_module *, pl_extern *, size_t, "
                    "pl_instance *, pl_trap **)"
                ),
                trapping,
                "does not accept the kinds of its imports",
            ),
            (
                "func_call_unchecked",
                "pl_error *(*)(pl_context *, pl_func *, pl_value *, size_t, pl_trap **)",
                lambda *_: ffi.NULL,
                "a shared memory is not what its guest uses",
            ),
            ("error_wasm_trace", "void(*)(pl_error *, pl_frames *)", unseen, "has no backtrace"),
        ],
    )
    def test_what_it_does_otherwise_is_told(
        self, name: str, type_: str, function: Callable[..., Any], text: str
    ) -> None:
        for _ in in_place(f"wasmtime_{name}", type_, function):
            assert text in str(probe())
        assert probe() is None


def imported(
    preparation: str, *options: str, cache: Path | None = None, after: str = ""
) -> subprocess.CompletedProcess[str]:
    """The output of a process that imports pylinker after some setup: ``fine``, or the error."""
    attempt = (
        "try:\n    import pylinker\nexcept ImportError as error:\n    print(error)\nelse:\n"
        "    print('fine')"
    )
    script = f"{preparation}\n{attempt}\n{after}\n"
    env = {**os.environ, "PYLINKER_CACHE": os.fspath(cache) if cache else ""}
    command = [sys.executable, *options, "-c", script]
    return subprocess.run(
        command, cwd=gettempdir(), capture_output=True, text=True, check=True, timeout=120, env=env
    )


def marks(cache: Path) -> list[Path]:
    return sorted(cache.glob("works-*"))


def version(number: str) -> str:
    """Return a script after which the folder of wasmtime tells another version."""
    return (
        "import os, wasmtime\nfound = os.listdir\n"
        "parent = os.path.dirname(os.path.dirname(wasmtime.__file__))\n"
        f"os.listdir = lambda path='.': ['wasmtime-{number}.dist-info'] if path == parent "
        f"else found(path)"
    )


LAYOUT = (
    "import ctypes\nfrom wasmtime import _bindings\n"
    "class Larger(ctypes.Structure):\n    _fields_ = [('words', ctypes.c_uint64 * 9)]\n"
    "_bindings.wasmtime_val_t = Larger"
)
FUNCTION = (
    "from wasmtime import _ffi\n"
    "class Without:\n"
    "    def __init__(self, dll):\n        self._dll = dll\n"
    "    def __getattr__(self, name):\n"
    "        if name == 'wasmtime_table_grow':\n            raise AttributeError(name)\n"
    "        return getattr(self._dll, name)\n"
    "_ffi.dll = Without(_ffi.dll)"
)
LIMITS = (
    "import wasmtime\nTable = wasmtime.TableType\n"
    "wasmtime.TableType = lambda kind, limits: Table(kind, wasmtime.Limits(3, 4))"
)
REFUSES = (
    "import wasmtime\ndef refuse(*_):\n    raise wasmtime.WasmtimeError('no\\nway')\n"
    "wasmtime.SharedMemory = refuse"
)


class TestImport:
    @pytest.mark.parametrize(
        ("preparation", "text"),
        [
            (LAYOUT, "wasmtime_val_t has 72 bytes, pylinker was built for 32"),
            (FUNCTION, "there is no function wasmtime_table_grow"),
            (LIMITS, "a new slot of a table is not null"),
            (REFUSES, "WasmtimeError: no way"),
        ],
        ids=["layout", "function", "behaviour", "error"],
    )
    def test_it_is_refused_with_what_differs(self, preparation: str, text: str) -> None:
        first, second, advice = imported(preparation).stdout.splitlines()
        assert first == f"pylinker cannot use wasmtime {compat.VERSION}:"
        assert second == f"  {text}"
        assert f"pip install 'wasmtime>={compat.OLDEST},<{compat.NEWEST + 1}'" in advice

    @pytest.mark.parametrize("number", ["12.0.0", "99.1rc1", "garbage"])
    def test_no_number_is_refused(self, number: str) -> None:
        assert imported(version(number), "-W", "ignore").stdout == "fine\n"

    @pytest.mark.parametrize(
        ("number", "warnings"), [(f"{compat.NEWEST}.9.9", 0), (f"{compat.NEWEST + 1}.0.0", 1)]
    )
    def test_a_newer_one_than_any_tested_is_warned_of_once(
        self, number: str, warnings: int
    ) -> None:
        after = (
            "import pylinker.cli, pylinker.wasm\nfor _ in range(2):\n"
            "    pylinker.Program(cache=False).close()"
        )
        done = imported(version(number), "-W", "always", after=after)
        assert done.stdout == "fine\n"
        assert (
            done.stderr.count("RuntimeWarning: pylinker was tested with wasmtime up to") == warnings
        )
        assert done.stderr.count("<string>:") == warnings  # the line of the importer

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="read from /proc")
    def test_it_starts_no_thread_and_handles_no_signal(self, tmp_path: Path) -> None:
        state = (
            "print([line for line in open('/proc/self/status') if line.startswith(('SigCgt', "
            "'Threads'))])"
        )
        before, fine, after = imported(
            f"import wasmtime\n{state}", cache=tmp_path, after=state
        ).stdout.splitlines()
        assert fine == "fine" and before == after
        assert len(marks(tmp_path)) == 1  # it was tried


class TestMemory:
    """The marks in the cache directory.

    Tables with other limits show whether it is tried: with them it fails.
    """

    def test_it_is_tried_once_for_a_version(self, tmp_path: Path) -> None:
        cache = tmp_path / "new" / "cache"
        assert imported("", cache=cache).stdout == "fine\n"
        assert len(marks(cache)) == 1
        assert imported(LIMITS, cache=cache).stdout == "fine\n"
        assert "a new slot" in imported(f"{LIMITS}\n{version('49.5.0')}", cache=cache).stdout
        assert imported(version("49.5.0"), cache=cache).stdout == "fine\n"
        assert len(marks(cache)) == 2

    def test_what_failed_is_not_remembered(self, tmp_path: Path) -> None:
        for _ in range(2):
            assert "a new slot" in imported(LIMITS, cache=tmp_path).stdout
        assert marks(tmp_path) == []

    def test_another_build_of_the_same_version_is_tried(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        library = tmp_path / "library"
        library.write_bytes(b"one")
        monkeypatch.setattr(compat, "DLL", types.SimpleNamespace(_name=str(library)))
        before = compat._key()
        library.write_bytes(b"another")
        assert compat._key() != before

    @pytest.mark.parametrize("damage", ["directory", "link", "contents"])
    def test_a_damaged_mark_does_no_harm(self, tmp_path: Path, damage: str) -> None:
        imported("", cache=tmp_path)
        (mark,) = marks(tmp_path)
        if damage == "contents":
            mark.write_bytes(b"\0" * 1000)
            assert imported(LIMITS, cache=tmp_path).stdout == "fine\n"
            return
        mark.unlink()
        if damage == "directory":
            mark.mkdir()
        else:
            mark.symlink_to(tmp_path / "elsewhere")
        assert imported("", cache=tmp_path).stdout == "fine\n"
        assert "a new slot" in imported(LIMITS, cache=tmp_path).stdout
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.parametrize("place", ["file/cache", "file", "long"])
    def test_a_directory_that_cannot_be_used_does_no_harm(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").write_bytes(b"")
        cache = tmp_path / ("x" * 5000 if place == "long" else place)
        done = imported("", "-W", "error", cache=cache)
        assert (done.stdout, done.stderr) == ("fine\n", "")
        assert "a new slot" in imported(LIMITS, cache=cache).stdout

    def test_a_mark_of_another_user_is_none(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compat.check_behaviour(tmp_path)
        (mark,) = marks(tmp_path)
        assert compat._is_own(mark)
        monkeypatch.setattr(os, "geteuid", lambda: mark.stat().st_uid + 1)
        assert not compat._is_own(mark)

    def test_a_mark_that_is_there_already_is_kept(self, tmp_path: Path) -> None:
        compat.check_behaviour(tmp_path)
        (mark,) = marks(tmp_path)
        compat._remember(mark)  # another process was faster
        assert marks(tmp_path) == [mark]


class TestSources:
    PRIVATE = re.compile(
        r"wasmtime\._\w+|from wasmtime import.*\b_\w+|\b_(ffi|bindings)\b"
        r"|(?<!self)\._(from_ptr|from_raw|consume|context)\("
    )

    def test_private_names_of_wasmtime_stand_in_one_file_and_have_a_replacement(self) -> None:
        one = ROOT / "pylinker" / "runtime" / "private.py"
        files = [
            *(ROOT / "pylinker").rglob("*.py"),
            *(ROOT / "benchmarks").rglob("*.py"),
            *(ROOT / "examples").rglob("*.py"),
        ]
        comments = re.compile(r'"""(?:.|\n)*?"""|#.*')
        found = {
            path
            for path in files
            if self.PRIVATE.search(comments.sub("", path.read_text(encoding="utf-8")))
        }
        assert found == {one}
        text = one.read_text(encoding="utf-8")
        code = comments.sub("", text)
        table = set(re.findall(r"^- ``(\w+)[.\w]*``: \S", text, re.MULTILINE))
        used = set(
            re.findall(r"(?<=\.)_[a-z]\w*(?=\()|(?<=import )_\w+|(?<=, )_ffi$", code, re.MULTILINE)
        )
        assert used == table

    def test_one_place_says_which_versions(self) -> None:
        pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert f'"wasmtime>={compat.OLDEST}"]' in pyproject  # and no upper bound
        wanted = [str(compat.OLDEST), "48", str(compat.NEWEST)]
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        assert re.search(r"^wasmtimes=\((.*)\)$", script, re.MULTILINE)[1].split() == wanted
        workflow = (ROOT / ".github" / "workflows" / "wasmtime.yml").read_text(encoding="utf-8")
        assert re.search(r"wasmtime: \[(.*)\]", workflow)[1].replace('"', "").split(", ") == wanted

    @pytest.mark.skipif(shutil.which("nm") is None, reason="nm is missing")
    def test_the_core_links_no_wasmtime(self) -> None:
        undefined = subprocess.run(
            ["nm", "-u", core_file()], capture_output=True, text=True, check=True
        ).stdout
        assert "wasmtime_" not in undefined and "wasm_" not in undefined
