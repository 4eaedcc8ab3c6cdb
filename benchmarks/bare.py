"""wasmtime without a linker: stores with instances of the same modules.

The instances are created through the C API, from imports that exist already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wasmtime

from pylinker._core import ffi, lib
from pylinker.native.objects import imports_of
from pylinker.native.objects import instantiate as instantiate_module
from pylinker.runtime.engine import address_of, engine
from pylinker.runtime.store import GuestStore
from pylinker.wasm import FuncType, Kind, Limits, MemoryType, parse_module

__all__ = ["Bare"]


class Bare:
    """Modules to instantiate in order in a store.

    All stores share one memory. The table has ``slots`` slots.
    """

    def __init__(self, paths: Sequence[Path], slots: int = 1000) -> None:
        self._slots = slots
        self._infos = [parse_module(path.read_bytes(), name=path.name) for path in paths]
        self._modules = [wasmtime.Module(engine(), path.read_bytes()) for path in paths]
        types = {
            each.type
            for info in self._infos
            for each in info.imports
            if isinstance(each.type, FuncType)
        }
        self._names = {type_: str(number) for number, type_ in enumerate(types)}
        self._donor = wasmtime.Module(engine(), f"(module {''.join(map(self._function, types))})")
        self._first = GuestStore(None)
        self._memory = self._first.new_memory(MemoryType(Limits(1, 1024, shared=True)))

    def _function(self, type_: Any) -> str:
        return (
            f'(func (export "{self._names[type_]}") (param {" ".join(type_.params)}) '
            f"(result {' '.join(type_.results)}) unreachable)"
        )

    def prepare(self, store: GuestStore) -> list[tuple[Any, Any, int]]:
        """Create in ``store`` all imports of the modules; the result is for :meth:`instantiate`."""
        table = store.new_table(Limits(self._slots, None))
        donor = instantiate_module(store.context, address_of(self._donor), [])
        functions = {type_: store.export(donor, name) for type_, name in self._names.items()}
        prepared = []
        for info, module in zip(self._infos, self._modules, strict=True):
            externs: list[Any] = []
            for each in info.imports:
                if each.kind is Kind.FUNC:
                    externs.append(functions[each.type])
                elif each.kind is Kind.GLOBAL:
                    externs.append(store.new_global(1024, mutable=each.type.mutable))
                else:
                    externs.append(self._memory if each.kind is Kind.MEMORY else table)
            prepared.append(
                (ffi.cast("pl_module *", address_of(module)), imports_of(externs), len(externs))
            )
        return prepared

    @staticmethod
    def instantiate(store: GuestStore, prepared: Sequence[tuple[Any, Any, int]]) -> None:
        """Instantiate the modules: a ``wasmtime_instance_new`` each."""
        instance, failure = ffi.new("pl_instance *"), ffi.new("pl_failure *")
        for module, externs, count in prepared:
            assert (
                lib.pl_instance_new(store.context, module, externs, count, instance, failure) == 0
            )
