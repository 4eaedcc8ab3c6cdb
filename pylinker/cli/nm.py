"""``pylinker nm``: the dynamic symbols of a module, in the style of ``nm -D``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.text import Text

from pylinker.cli.output import console, describe, print_json, printable, table, traceback_option
from pylinker.linker import Limits, read_file
from pylinker.native.enums import SymbolKind
from pylinker.runtime.outline import SYMBOL_SPACES, kind_of, outline_of
from pylinker.wasm import Kind, ModuleInfo, SymbolFlags, body_sizes, parse_module

__all__ = ["nm"]

_DATA = {SymbolKind.DATA: "data", SymbolKind.THREAD_LOCAL: "thread-local data"}
LETTERS = {
    "function": "T",
    "data": "D",
    "thread-local data": "L",
    "tag": "E",
    "global": "G",
    "memory": "M",
    "table": "B",
}


@dataclass(frozen=True)
class Symbol:
    """One import or export.

    ``value`` is the offset of data from the module's memory base (from its thread-local block for
    thread-local data, absolute in an ordinary program), or the index of a function; ``size`` is the
    size in bytes of a function's body. Both are None if unknown.
    """

    name: str
    letter: str
    kind: str
    type: str
    defined: bool
    weak: bool
    value: int | None = None
    size: int | None = None
    module: str | None = None


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-u", "--undefined-only", is_flag=True, help="Show only undefined symbols.")
@click.option("-U", "--defined-only", is_flag=True, help="Show only defined symbols.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
def nm(*, file: Path, undefined_only: bool, defined_only: bool, as_json: bool) -> None:
    """List the defined and undefined symbols of the module FILE, in the style of nm -D.

    \b
    T function   D data   L thread-local data   E exception tag   G global   M memory   B table
    U undefined  W weak and defined             w weak and undefined

    """  # noqa: D301 - click needs the character, not an escape of a raw string
    data = read_file(file.name, file, Limits().library_size)[1]
    listed = [
        each
        for each in symbols(parse_module(data, name=file.name), body_sizes(data, name=file.name))
        if not (undefined_only and each.defined) and not (defined_only and not each.defined)
    ]
    if as_json:
        print_json({"file": str(file), "symbols": [asdict(each) for each in listed]})
        return
    listing = table("value", "size", "", "name", "kind", "type", numbers=("value", "size"))
    for each in listed:
        name = (
            each.name
            if each.module is None or each.module in SYMBOL_SPACES
            else f"{each.module}.{each.name}"
        )
        value = "" if each.value is None else f"{each.value:08x}"
        cells = (
            value,
            "" if each.size is None else str(each.size),
            each.letter,
            name,
            each.kind,
            each.type,
        )
        listing.add_row(
            *(Text(printable(cell)) for cell in cells), style=None if each.defined else "dim"
        )
    console().print(listing)


def symbols(module: ModuleInfo, sizes: list[int]) -> list[Symbol]:
    """Return the undefined symbols in import order, then the defined ones in export order."""
    dylink = module.dylink
    found = []
    for wanted in module.imports:
        kind = kind_of(wanted)
        weak = bool(
            dylink and dylink.flags_of_import(wanted.module, wanted.name) & SymbolFlags.BINDING_WEAK
        )
        letter = "w" if weak else "U"
        type_ = describe(wanted.type)
        found.append(
            Symbol(wanted.name, letter, kind, type_, defined=False, weak=weak, module=wanted.module)
        )
    imported = module.imported_count(Kind.FUNC)
    outline = outline_of(module)
    data = {
        name: (_DATA[symbol], value)
        for name, symbol, _, value in outline.symbols()
        if symbol in _DATA
    }
    for export in module.exports.values():
        flags = dylink.export_flags.get(export.name, 0) if dylink else 0
        of = module.export_type(export)
        kind, value, size = export.kind.label, None, None
        if export.kind is Kind.FUNC:
            value = export.index
            size = (
                sizes[export.index - imported]
                if imported <= export.index < imported + len(sizes)
                else None
            )
        elif export.name in data:
            kind, value = data[export.name]
        weak = bool(flags & SymbolFlags.BINDING_WEAK)
        letter = "W" if weak else LETTERS[kind]
        found.append(
            Symbol(
                export.name,
                letter,
                kind,
                describe(of),
                defined=True,
                weak=weak,
                value=value,
                size=size,
            )
        )
    return found
