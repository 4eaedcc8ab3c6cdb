"""The one lookup of symbols: its definitions, from the data of the cache alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

import pylinker
from pylinker.wasm import CachedInfo

Write = Callable[[str, str], Path]

HEAD = """(module
  (@dylink.0 (mem-info (memory 64 4) (table 1 0)) (export-info "tls" tls)
    (export-info "fixed" absolute))
  (import "env" "memory" (memory 1))
  (import "env" "__indirect_function_table" (table 0 funcref))
  (import "env" "__memory_base" (global $memory i32))
  (import "env" "__table_base" (global $table i32))"""

SYMBOLS = f"""{HEAD}
  (func (export "given") (result i32) (i32.const 1))
  (func $element (export "element") (result i32) (i32.const 2))
  (elem (global.get $table) func $element)
  (global (export "near") i32 (i32.const 8))
  (global (export "fixed") i32 (i32.const 1024))
  (global (export "based") i32 (i32.add (global.get $memory) (i32.const 12)))
  (global (export "tls") i32 (i32.const 4))
  (global (export "mutable") (mut i32) (i32.const 4))
  (global (export "square") i32 (i32.mul (global.get $memory) (global.get $memory)))
  (tag (export "tag") (param i32)))"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_bytes(wasmtime.wat2wasm(text))
        return path

    return write


def test_a_definition_says_where_a_symbol_is(write: Write) -> None:
    with pylinker.CDLL(write("libone.so", SYMBOLS)) as library:
        (module,) = library.program._linker.state.modules
        first = library.address_of("given")
        values = {
            name: library.address_of(name)
            for name in ("given", "element", "near", "fixed", "based")
        }
        assert values == {
            "given": module.slot_base,
            "element": module.table_base,
            "near": module.memory_base + 8,
            "fixed": 1024,
            "based": module.memory_base + 12,
        }
        assert library.program.dlsym(pylinker.RTLD_DEFAULT, "given") == first
        for name in ("mutable", "square", "absent", "\udc80"):
            assert name not in library
            with pytest.raises(pylinker.SymbolNotFoundError):
                library.address_of(name)
        definition = module.find("tls")
        assert definition is not None
        assert (definition.is_thread_local, definition.value) == (True, 4)
        definition = module.find("tag")
        assert definition is not None
        assert (definition.value, definition.label) == (None, "tag")
        assert list(library) == ["given", "element"]


def test_a_lookup_does_not_read_a_module_again(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("libtwo.so", f'{HEAD} (func (export "deep") (result i32) (i32.const 3)))')
    path = write("libone.so", SYMBOLS.replace("(mem-info", '(needed "libtwo.so") (mem-info'))
    caller = write(
        "libcaller.so",
        f"""{HEAD}
        (import "env" "element" (func $element (result i32)))
        (import "env" "late" (func $late (result i32)))
        (import "GOT.func" "element" (global $pointer (mut i32)))
        (import "GOT.mem" "based" (global $data (mut i32)))
        (func (export "call") (result i32) (call $element))
        (func (export "call_late") (result i32) (call $late))
        (func (export "pointer") (result i32) (global.get $pointer))
        (func (export "data") (result i32) (global.get $data)))""",
    )
    late = write("liblate.so", f'{HEAD} (func (export "late") (result i32) (i32.const 5)))')
    cache = tmp_path / "cache"

    def program() -> pylinker.Program:
        return pylinker.Program(None, preload=[path], library_path=[tmp_path], cache=cache)

    with program() as once:
        once.dlopen(caller)
        once.dlopen(late)
    monkeypatch.setattr(
        CachedInfo, "_read_again", lambda self: pytest.fail(f"{self.name} is read again")
    )
    pylinker.api.program._caches.clear()  # as a new process
    with program() as again:
        library = again.dlopen("libone.so")
        assert (library["given"](), library["element"](), library.deep()) == (1, 2, 3)
        assert "absent" not in library
        assert library.address_of("near") == again.dlsym(library, "near")
        assert again.dlsym(pylinker.RTLD_DEFAULT, "deep") == library.address_of("deep")
        opened = again.dlopen(caller)
        assert (opened.call(), opened.pointer(), opened.data()) == (
            2,
            library.address_of("element"),
            library.address_of("based"),
        )
        again.dlopen(late, pylinker.RTLD_GLOBAL)
        assert opened.call_late() == 5
        assert list(library) == ["given", "element"]


def test_scopes_are_forgotten_with_what_is_in_them(write: Write) -> None:
    text = f'{HEAD} (func (export "which") (result i32) (i32.const NUMBER)))'
    first, second = (write(f"lib{number}.so", text.replace("NUMBER", number)) for number in "12")
    with pylinker.Program(None) as program:
        for _ in range(3):
            one = program.dlopen(first, pylinker.RTLD_GLOBAL)
            two = program.dlopen(second, pylinker.RTLD_GLOBAL)
            assert (
                program.dlsym(pylinker.RTLD_DEFAULT, "which")
                == one.address_of("which")
                != two.address_of("which")
            )
            one.close()
            assert program.dlsym(pylinker.RTLD_DEFAULT, "which") == two.address_of("which")
            two.close()
            with pytest.raises(pylinker.SymbolNotFoundError):
                program.dlsym(pylinker.RTLD_DEFAULT, "which")
        state = program._linker.state
        assert not state._handle_scopes
        assert not state._local_scopes
