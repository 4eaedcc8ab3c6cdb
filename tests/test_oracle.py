"""pylinker's parser and wasm-tools agree on every module that the scenarios build."""

from __future__ import annotations

import pytest

from pylinker.wasm import (
    FuncType,
    GlobalType,
    Kind,
    MemoryType,
    ModuleInfo,
    TableType,
    TagType,
    parse_module,
)
from recipes import RECIPES
from toolchain import Scenario
from wat import Skeleton, skeleton

pytestmark = pytest.mark.slow

KINDS = {
    Kind.FUNC: "func",
    Kind.TABLE: "table",
    Kind.MEMORY: "memory",
    Kind.GLOBAL: "global",
    Kind.TAG: "tag",
}
MODULES = sorted({(name, module.output) for name, recipe in RECIPES.items() for module in recipe})


def described(kind: object) -> str:
    """A type in the words of :mod:`wat`."""
    match kind:
        case FuncType() | TagType(FuncType()):
            return str(kind if isinstance(kind, FuncType) else kind.type)
        case MemoryType(limits) | TableType(_, limits):
            maximum = "" if limits.maximum is None else limits.maximum
            rest = (
                [kind.element]
                if isinstance(kind, TableType)
                else ["shared"]
                if limits.shared
                else []
            )
            return " ".join([f"{limits.minimum}..{maximum}", *rest])
        case GlobalType(value, mutable):
            return f"mut {value}" if mutable else value
        case _:
            raise AssertionError(kind)


@pytest.fixture(params=MODULES, ids="/".join)
def pair(request: pytest.FixtureRequest, scenario: Scenario) -> tuple[ModuleInfo, Skeleton]:
    """One built module, as pylinker and as wasm-tools read it."""
    folder, name = request.param
    path = scenario(folder) / name
    return parse_module(path.read_bytes(), name=name), skeleton(path)


def test_pylinker_and_wasm_tools_agree(pair: tuple[ModuleInfo, Skeleton]) -> None:
    info, expected = pair
    assert info.is_dynamic == (expected.dylink is not None)
    if expected.dylink is not None:
        dylink = info.dylink
        assert dylink is not None
        assert (dylink.memory_size, dylink.memory_alignment) == (
            expected.dylink.memory[0],
            1 << expected.dylink.memory[1],
        )
        assert (dylink.table_size, dylink.table_alignment) == (
            expected.dylink.table[0],
            1 << expected.dylink.table[1],
        )
        assert dylink.needed == expected.dylink.needed
        assert dylink.runtime_path == expected.dylink.runtime_path
        assert dict(dylink.export_flags) == expected.dylink.export_flags
        assert dict(dylink.import_flags) == expected.dylink.import_flags
    assert [
        (each.module, each.name, KINDS[each.kind], described(each.type)) for each in info.imports
    ] == expected.imports
    assert {
        name: (KINDS[export.kind], export.index, described(info.export_type(export)))
        for name, export in info.exports.items()
    } == expected.exports
    assert info.start == expected.start


def test_the_oracle_saw_every_part_of_a_dylink_section(scenario: Scenario) -> None:
    seen = [skeleton(scenario(folder) / name).dylink for folder, name in MODULES]
    dylinks = [each for each in seen if each is not None]
    assert len(dylinks) < len(seen)  # programs without the section are among them
    for part in ("needed", "runtime_path", "export_flags", "import_flags"):
        assert any(getattr(each, part) for each in dylinks), part
    assert any(each.memory[1] >= 6 for each in dylinks)
    assert any(each.table[0] for each in dylinks)
