"""``pylinker inspect``: the kind of a module, and its metadata for a linker."""

from __future__ import annotations

from pathlib import Path

import click

from pylinker.cli.output import console, describe, print_json, printable, table, traceback_option
from pylinker.linker import Limits, read_file, why_no_library
from pylinker.wasm import DylinkInfo, ExternType, Kind, ModuleInfo, SymbolFlags, parse_module

__all__ = ["inspect"]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@traceback_option
def inspect(*, file: Path, as_json: bool) -> None:
    """Show the dependencies, imports and exports of the module FILE."""
    module = parse_module(read_file(file.name, file, Limits().library_size)[1], name=file.name)
    facts = {"file": str(file), "kind": kind_of(module)}
    dylink = dylink_facts(module.dylink) if module.dylink else None
    import_flags, export_flags = (
        (module.dylink.import_flags, module.dylink.export_flags) if module.dylink else ({}, {})
    )
    imports = [
        {
            "module": each.module,
            **row(each.name, each.kind, each.type, import_flags.get((each.module, each.name), 0)),
        }
        for each in module.imports
    ]
    exports = [
        row(each.name, each.kind, module.export_type(each), export_flags.get(each.name, 0))
        for each in module.exports.values()
    ]
    if as_json:
        print_json({**facts, "dylink": dylink, "imports": imports, "exports": exports})
        return
    out = console()
    summary = table("", "")
    summary.show_header = False
    for key, value in {**facts, **(dylink or {})}.items():
        text = ", ".join(value) if isinstance(value, list) else str(value)
        summary.add_row(key.replace("_", " "), printable(text) or "-")
    out.print(summary)
    for title, rows in (("imports", imports), ("exports", exports)):
        if rows:
            out.print(f"\n{len(rows)} {title}", style="bold")
            listing = table(*rows[0])
            for cells in rows:
                listing.add_row(
                    *(
                        printable(cell if isinstance(cell, str) else " ".join(cell))
                        for cell in cells.values()
                    )
                )
            out.print(listing)


def row(name: str, kind: Kind, extern: ExternType, flags: int) -> dict[str, str | list[str]]:
    """Return one import or export in the form to be printed."""
    return {"name": name, "kind": kind.label, "type": describe(extern), "flags": flag_names(flags)}


def kind_of(module: ModuleInfo) -> str:
    """Return a description of the kind of a module."""
    if why_no_library(module) is None:
        return "shared library"
    if module.dylink is not None and (module.is_position_independent or module.data_range is None):
        memory = "imports" if module.imported_memories else "defines"
        return f"position-independent program, {memory} its memory"
    if module.dylink is not None or "_start" in module.exports:
        shared = {each.name for each in module.imports if each.kind in (Kind.MEMORY, Kind.TABLE)}
        linkable = {
            "memory",
            "__indirect_function_table",
            "__stack_pointer",
        } <= module.exports.keys() | shared
        return "program that can load libraries" if linkable else "static program"
    return "module without dynamic linking information"


def dylink_facts(dylink: DylinkInfo) -> dict[str, object]:
    """Return the contents of a ``dylink.0`` section; sizes in bytes and table slots."""
    return {
        "memory_size": dylink.memory_size,
        "memory_alignment": dylink.memory_alignment,
        "table_size": dylink.table_size,
        "table_alignment": dylink.table_alignment,
        "needed": list(dylink.needed),
        "runtime_path": list(dylink.runtime_path),
    }


def flag_names(flags: int) -> list[str]:
    """Return the names of symbol ``flags``; bits without a name as one hexadecimal number."""
    known = [flag for flag in SymbolFlags if flags & flag]
    rest = flags & ~sum(known)
    return [flag.name.lower().replace("_", "-") for flag in known if flag.name] + (
        [hex(rest)] if rest else []
    )
