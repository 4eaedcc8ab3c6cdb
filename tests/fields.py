"""Modules of a few text fields, for tests of what they import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wasmtime

import pylinker

SHARED = '(import "env" "memory" (memory 1 1024 shared))'
TABLE = '(import "env" "__indirect_function_table" (table 1 funcref))'
BASE = '(import "env" "__memory_base" (global i32))'
"""What every library has that places data: without it, data would lie at fixed addresses."""
MEMORY = '(import "env" "memory" (memory 1))'


def wasm(
    path: Path, *fields: str, slots: int = 0, needed: tuple[str, ...] = (), dynamic: bool = True
) -> Path:
    """Write a module of text fields in any order, with a dylink.0 section or without."""
    needs = "".join(f'(needed "{each}")' for each in needed)
    dylink = f"(@dylink.0 (mem-info (memory 16 2) (table {slots} 0)) {needs})" if dynamic else ""
    ordered = sorted(fields, key=lambda field: not field.startswith("(import"))
    path.write_bytes(wasmtime.wat2wasm(f"(module {dylink} {' '.join(ordered)})"))
    return path


def forward(
    name: str, params: str = "", results: str = "", *, module: str = "env", export: str = "go"
) -> tuple[str, str]:
    """An import, and an exported function that calls it with its own arguments."""
    type_ = f"(param {params}) (result {results})"
    gets = " ".join(f"(local.get {index})" for index in range(len(params.split())))
    return (
        f'(import "{module}" "{name}" (func ${export} {type_}))',
        f'(func (export "{export}") {type_} (call ${export} {gets}))',
    )


def library(
    folder: Path, params: str, results: str, function: Any, **keywords: Any
) -> pylinker.Function:
    """The guest's ``go``, which calls ``function``."""
    path = wasm(folder / "lib.so", *forward("f", params, results))
    return pylinker.CDLL(path, imports={"f": function}, **keywords).go
