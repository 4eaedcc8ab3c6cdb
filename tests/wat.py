"""Read the output of ``wasm-tools print --skeleton``: a second opinion on pylinker's parser.

Only the fields a linker cares about are read; function bodies are not printed at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias

from toolchain import wasm_tools

# A token is a bracket, a string as bytes, or an atom. The comments that number things, (;7;),
# become atoms like ";7".
Node: TypeAlias = "str | bytes | list[Node]"

_TOKEN = re.compile(
    r"""(?P<number>\(;(?P<value>\d+);\))|(?P<skip>\s+|;;[^\n]*|\(;.*?;\))|(?P<open>\()|(?P<close>\))"""
    r"""|(?P<string>"(?:[^"\\]|\\.)*")|(?P<atom>[^\s()"]+(?:"(?:[^"\\]|\\.)*")?)""",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(?:u\{([0-9a-fA-F]+)\}|([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPED = {"t": b"\t", "n": b"\n", "r": b"\r"}
_FLAGS = {
    "binding-weak": 0x1,
    "binding-local": 0x2,
    "visibility-hidden": 0x4,
    "undefined": 0x10,
    "exported": 0x20,
    "explicit-name": 0x40,
    "no-strip": 0x80,
    "tls": 0x100,
    "absolute": 0x200,
}


def _unquote(text: str) -> bytes:
    parts: list[bytes] = []
    end = 0
    for match in _ESCAPE.finditer(text):
        parts.append(text[end : match.start()].encode())
        code, byte, character = match.groups()
        if code:
            parts.append(chr(int(code, 16)).encode())
        elif byte:
            parts.append(bytes([int(byte, 16)]))
        else:
            parts.append(_ESCAPED.get(character, character.encode()))
        end = match.end()
    parts.append(text[end:].encode())
    return b"".join(parts)


def _tree(text: str) -> list[Node]:
    stack: list[list[Node]] = [[]]
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None, f"unreadable text at {text[position : position + 40]!r}"
        position = match.end()
        if match["number"]:
            stack[-1].append(f";{match['value']}")
        elif match["open"]:
            stack.append([])
        elif match["close"]:
            node = stack.pop()
            stack[-1].append(node)
        elif match["string"]:
            stack[-1].append(_unquote(match["string"][1:-1]))
        elif match["atom"]:
            stack[-1].append(match["atom"])
    assert len(stack) == 1
    return stack[0]


@dataclass
class Dylink:
    """The dylink.0 section, alignments as exponents of two."""

    memory: tuple[int, int] = (0, 0)
    table: tuple[int, int] = (0, 0)
    needed: tuple[str, ...] = ()
    runtime_path: tuple[str, ...] = ()
    export_flags: dict[str, int] = field(default_factory=dict)
    import_flags: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass
class Skeleton:
    """A module as wasm-tools sees it. Types are text: ``(i32) -> ()``, ``1..4 shared``, ``0..

    funcref``, ``mut i32``.
    """

    dylink: Dylink | None = None
    imports: list[tuple[str, str, str, str]] = field(
        default_factory=list
    )  # module, name, kind, type
    exports: dict[str, tuple[str, int, str]] = field(
        default_factory=dict
    )  # name: kind, index, type
    start: int | None = None


@cache
def skeleton(path: Path) -> Skeleton:
    """The output of wasm-tools for the module in a file, which does not change meanwhile."""
    (module,) = _tree(wasm_tools("print", "--skeleton", path))
    assert isinstance(module, list) and module[0] == "module"
    found = Skeleton()
    types: list[str] = []
    spaces: dict[str, list[str]] = {"func": [], "memory": [], "table": [], "global": [], "tag": []}
    names: dict[str, dict[str, int]] = {kind: {} for kind in spaces}
    exports: list[list[Node]] = []
    start: Node = ""
    for item in module[1:]:
        if not isinstance(item, list):
            continue
        head = item[0]
        if head == "@dylink.0":
            found.dylink = _dylink(item[1:])
        elif head == "type":
            types.append(_function(item[-1], types) if _head(item[-1]) == "func" else "?")
        elif head == "rec":
            types += [
                _function(each[-1], types) if _head(each[-1]) == "func" else "?"
                for each in item[1:]
                if isinstance(each, list)
            ]
        elif head == "import":
            _, where, name, what = item
            assert isinstance(where, bytes) and isinstance(name, bytes) and isinstance(what, list)
            kind = str(what[0])
            text = _describe(what, types)
            _define(what, kind, text, spaces, names)
            found.imports.append((where.decode(), name.decode(), kind, text))
        elif head in spaces:
            _define(item, str(head), _describe(item, types), spaces, names)
        elif head == "export":
            exports.append(item)
        elif head == "start":
            start = item[1]
    for _, name, what in exports:
        assert isinstance(name, bytes) and isinstance(what, list)
        kind = str(what[0])
        index = _index(what[1], names[kind])
        found.exports[name.decode()] = (kind, index, spaces[kind][index])
    if start:
        found.start = _index(start, names["func"])
    return found


def _head(node: Node) -> Node:
    return node[0] if isinstance(node, list) and node else ""


def _index(reference: Node, names: dict[str, int]) -> int:
    assert isinstance(reference, str)
    return names[reference] if reference.startswith("$") else int(reference)


def _define(
    item: list[Node],
    kind: str,
    text: str,
    spaces: dict[str, list[str]],
    names: dict[str, dict[str, int]],
) -> None:
    identifier = item[1]
    if isinstance(identifier, str) and identifier.startswith("$"):
        names[kind][identifier] = len(spaces[kind])
    spaces[kind].append(text)


def _describe(item: list[Node], types: list[str]) -> str:
    kind = item[0]
    rest = [
        part
        for part in item[1:]
        if not (isinstance(part, str) and part.startswith((";", "$"))) and _head(part) != "@name"
    ]
    if kind in ("func", "tag"):
        return _function(item, types)
    if kind == "global":
        head = rest[0]
        return f"mut {head[1]}" if isinstance(head, list) and head[0] == "mut" else str(head)
    limits = [part for part in rest if isinstance(part, str) and part.isdigit()]
    text = f"{limits[0]}..{limits[1] if len(limits) > 1 else ''}"
    return " ".join([text, *(part for part in rest if part in ("shared", "funcref", "externref"))])  # type: ignore[misc]


def _function(item: Node, types: list[str]) -> str:
    assert isinstance(item, list)
    for part in item:
        if isinstance(part, list) and part[0] == "type":
            return types[int(str(part[1]))]
    flat: dict[str, list[str]] = {"param": [], "result": []}
    for part in item:
        if isinstance(part, list) and part[0] in flat:
            flat[str(part[0])] += [str(each) for each in part[1:]]
    params = f"({', '.join(flat['param'])})"
    results = flat["result"][0] if len(flat["result"]) == 1 else f"({', '.join(flat['result'])})"
    return f"{params} -> {results}"


def _dylink(fields: list[Node]) -> Dylink:
    found = Dylink()
    for each in fields:
        assert isinstance(each, list)
        if each[0] == "mem-info":
            for part in each[1:]:
                assert isinstance(part, list)
                setattr(found, str(part[0]), (int(str(part[1])), int(str(part[2]))))
        elif each[0] == "needed":
            found.needed += tuple(_text(part) for part in each[1:])
        elif each[0] == "runtime-path":
            found.runtime_path += tuple(_text(part) for part in each[1:])
        elif each[0] == "export-info":
            found.export_flags[_text(each[1])] = _flags(each[2:])
        elif each[0] == "import-info":
            found.import_flags[_text(each[1]), _text(each[2])] = _flags(each[3:])
        else:
            raise AssertionError(f"unknown field {each[0]!r} of dylink.0")
    return found


def _text(node: Node) -> str:
    assert isinstance(node, bytes)
    return node.decode()


def _flags(words: list[Node]) -> int:
    return sum(_FLAGS[str(word)] if word in _FLAGS else int(str(word), 0) for word in words)
