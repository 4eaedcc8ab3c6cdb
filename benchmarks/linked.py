"""A generated program of many symbols: a main module and its libraries, as wasm-ld makes them.

Each library imports functions of the libraries before it, some of its own and some of main's (these
two kinds are bound late), data through ``GOT.mem`` and function pointers through ``GOT.func``; main
imports functions, data and function pointers of all libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pylinker.wasm import FuncType, Kind, Limits, writer
from pylinker.wasm.types import MemoryType

_TYPES = (
    FuncType((), ()),
    FuncType(("i32",), ("i32",)),
    FuncType(("i32", "i32"), ("i32",)),
    FuncType(("i32", "i32", "i32"), ("i32",)),
    FuncType(("i64", "i32"), ("i64",)),
    FuncType(("i32",), ()),
    FuncType(("f64",), ("f64",)),
    FuncType(("i32", "i64", "i32", "i32"), ("i32",)),
)
_ZEROS = {"i32": b"\x41\0", "i64": b"\x42\0", "f64": b"\x44" + bytes(8)}
_RELOCS = "__wasm_apply_data_relocs"


class Shape(NamedTuple):
    """The size of a program: libraries, and exports and imports of each.

    ``late`` of the functions a library imports are main's and as many its own.
    """

    libraries: int = 10
    functions: int = 200
    data: int = 40
    imported_functions: int = 150
    late: int = 10
    imported_data: int = 25
    imported_pointers: int = 15
    main_functions: int = 1170
    main_data: int = 50
    main_pointers: int = 50

    @property
    def imports(self) -> int:
        """Symbols that the modules import, without memory, table, and base addresses."""
        library = self.imported_functions + self.imported_data + self.imported_pointers
        first = 2 * self.late
        return (
            self.main_functions
            + self.main_data
            + self.main_pointers
            + first
            + (self.libraries - 1) * library
        )


def write(directory: Path, shape: Shape) -> Path:
    """Write the modules of a program and return the path of its main module."""
    for number in range(shape.libraries):
        (directory / f"lib{number}.so").write_bytes(_library(number, shape))
    path = directory / "main.wasm"
    path.write_bytes(_main(shape))
    return path


def function_name(library: int, number: int) -> str:
    """The name of an exported function; as long as names usually are."""
    return f"_ZN6linked7library{library}8functionEi{number}v"


def _function_type(number: int) -> FuncType:
    return _TYPES[number % len(_TYPES)]


def _data_name(library: int, number: int) -> str:
    return f"linked_library{library}_data{number}"


def _library(number: int, shape: Shape) -> bytes:
    functions: list[tuple[str, FuncType]] = [
        (f"main_function{each}", _function_type(each)) for each in range(shape.late)
    ]
    functions += [(function_name(number, each), _function_type(each)) for each in range(shape.late)]
    data: list[str] = []
    pointers: list[str] = []
    if number:
        before = [
            (library, each)
            for each in range(shape.functions)
            for library in range(max(0, number - 10), number)
        ]
        functions += [
            (function_name(library, each), _function_type(each)) for library, each in before
        ][: shape.imported_functions - 2 * shape.late]
        count = shape.imported_data
        data = [
            _data_name(max(0, number - 1 - each % 10), each % shape.data)
            for each in range(2 * count)
        ]
        data = list(dict.fromkeys(data))[:count]
        names = [function_name(library, each) for library, each in before]
        pointers = names[-shape.imported_pointers :]
    exports = [
        (function_name(number, each), _function_type(each)) for each in range(shape.functions)
    ]
    variables = [_data_name(number, each) for each in range(shape.data)]
    needed = [f"lib{each}.so" for each in range(max(0, number - 10), number)]
    return _module(needed, functions, data, pointers, exports, variables)


def _main(shape: Shape) -> bytes:
    libraries = range(shape.libraries)
    every = [(library, each) for each in range(shape.functions) for library in libraries]
    functions = [(function_name(library, each), _function_type(each)) for library, each in every][
        : shape.main_functions
    ]
    data = [_data_name(library, each) for each in range(shape.data) for library in libraries][
        : shape.main_data
    ]
    pointers = [function_name(library, each) for library, each in every][-shape.main_pointers :]
    exports = [(f"main_function{each}", _function_type(each)) for each in range(shape.late)]
    exports.append(("_start", FuncType((), ())))
    return _module([f"lib{each}.so" for each in libraries], functions, data, pointers, exports, [])


def _module(
    needed: Sequence[str],
    functions: Sequence[tuple[str, FuncType]],
    data: Sequence[str],
    pointers: Sequence[str],
    exports: Sequence[tuple[str, FuncType]],
    variables: Sequence[str],
) -> bytes:
    types = {type_: index for index, type_ in enumerate(_TYPES)}
    cell, constant = b"\x7f\x01", b"\x7f\x00"

    def imported(module: str, name: str, kind: Kind, rest: bytes) -> bytes:
        return writer.name(module) + writer.name(name) + bytes([kind]) + rest

    imports = [
        imported("env", "memory", Kind.MEMORY, writer.memory_type(MemoryType(Limits(1, None)))),
        imported(
            "env",
            "__indirect_function_table",
            Kind.TABLE,
            writer.value_type("funcref") + writer.limits(Limits(1, None)),
        ),
        imported("env", "__stack_pointer", Kind.GLOBAL, cell),
        imported("env", "__memory_base", Kind.GLOBAL, constant),
        imported("env", "__table_base", Kind.GLOBAL, constant),
        *(
            imported("env", name, Kind.FUNC, writer.unsigned(types[type_]))
            for name, type_ in functions
        ),
        *(imported("GOT.mem", name, Kind.GLOBAL, cell) for name in data),
        *(imported("GOT.func", name, Kind.GLOBAL, cell) for name in pointers),
    ]
    got = 3
    defined = [(_RELOCS, FuncType((), ())), *exports]
    size = 4 * (len(variables) + len(data) + len(pointers))
    bodies = [_relocations(got, len(data) + len(pointers), 4 * len(variables))]
    bodies += [
        _body(type_, functions[number % len(functions)][1], number % len(functions))
        for number, (_, type_) in enumerate(exports)
    ]
    exported = [
        writer.name(name) + bytes([Kind.FUNC]) + writer.unsigned(len(functions) + number)
        for number, (name, _) in enumerate(defined)
    ]
    first_variable = got + len(data) + len(pointers)
    exported += [
        writer.name(name) + bytes([Kind.GLOBAL]) + writer.unsigned(first_variable + number)
        for number, name in enumerate(variables)
    ]
    taken = min(20, len(exports))  # functions whose address the module takes itself
    memory = writer.unsigned(max(size, 16)) + writer.unsigned(4)
    table = writer.unsigned(taken) + writer.unsigned(0)
    dylink = b"\x01" + writer.unsigned(len(memory + table)) + memory + table
    names = writer.vector([writer.name(each) for each in needed])
    dylink += b"\x02" + writer.unsigned(len(names)) + names
    elements = writer.vector([writer.unsigned(len(functions) + 1 + each) for each in range(taken)])
    text = b"0123456789abcdef"
    return writer.module(
        [
            writer.custom_section("dylink.0", dylink),
            writer.section(1, writer.vector([writer.func_type(each) for each in _TYPES])),
            writer.section(2, writer.vector(imports)),
            writer.section(
                3, writer.vector([writer.unsigned(types[type_]) for _, type_ in defined])
            ),
            writer.section(
                6,
                writer.vector(
                    [
                        constant + b"\x41" + writer.s32(4 * each) + b"\x0b"
                        for each in range(len(variables))
                    ]
                ),
            ),
            writer.section(7, writer.vector(exported)),
            writer.section(9, writer.vector([b"\0\x23" + writer.unsigned(2) + b"\x0b" + elements])),
            writer.section(10, writer.vector(bodies)),
            writer.section(
                11,
                writer.vector(
                    [b"\0\x23" + writer.unsigned(1) + b"\x0b" + writer.unsigned(len(text)) + text]
                ),
            ),
        ]
    )


def _relocations(first_global: int, count: int, offset: int) -> bytes:
    """Write each of the GOT's entries into the module's data."""
    code = b"".join(
        b"\x23\x01\x23"
        + writer.unsigned(first_global + each)
        + b"\x36\x02"
        + writer.unsigned(offset + 4 * each)
        for each in range(count)
    )
    return writer.function_body(code)


def _body(type_: FuncType, called: FuncType, function: int) -> bytes:
    """A function that works a little on the stack's memory, then calls another with zeros."""
    # *(sp + 4) = *sp * 3 + 7
    step = b"\x23\x00\x23\x00\x28\x02\x00\x41\x03\x6c\x41\x07\x6a\x36\x02\x04"
    code = b"\x03\x40" + step * 4 + b"\x23\x00\x28\x02\x00\x0d\x00\x0b"
    code += (
        b"".join(_ZEROS[each] for each in called.params)
        + b"\x10"
        + writer.unsigned(function)
        + b"\x1a" * len(called.results)
    )
    return writer.function_body(code + b"".join(_ZEROS[each] for each in type_.results))
