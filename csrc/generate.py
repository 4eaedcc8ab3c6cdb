"""Generates ``pylinker/_core.pyi`` (types) and ``pylinker/native/enums.py`` (numbers) of the core.

Run it after a change in a header, with the core rebuilt: ``python csrc/generate.py``.
``tests/test_project.py`` checks that both files are up to date. The types and numbers come from
cffi's own tables in the compiled core; the headers are only read for the names of parameters and
for the grouping of numbers.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import keyword
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from build import CSRC, declarations, ordered_headers

PACKAGE = Path(__file__).resolve().parent.parent / "pylinker"
STUB, ENUMS = PACKAGE / "_core.pyi", PACKAGE / "native" / "enums.py"

_INTEGERS = (
    "int8_t",
    "int16_t",
    "int32_t",
    "int64_t",
    "int",
    "size_t",
    "uintptr_t",
    "uint8_t",
    "uint16_t",
    "uint32_t",
    "uint64_t",
    "unsigned int",
)
_ARRAYS = ("uint8_t", "int32_t", "uint32_t", "uint64_t", "uintptr_t")

_INTERNAL = ("pl_cell_kind", "pl_wasi_private")
"""Enums that Python does not use: creating a class takes time at each start."""

_HEAD = '''"""The compiled C core. Made by csrc/generate.py from the headers; do not edit.

A C type ``pl_x`` is a class of that name, with the fields that cffi supports; ``pl_x *`` and
``pl_x[]`` are ``pl_x_p``, any other pointer is a ``Pointer``. ``void *`` and NULL are assignable to
any type.
"""

from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, SupportsIndex, TypeVar, overload

from typing_extensions import Buffer

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., Any])

class Pointer(Generic[_T]):
    @overload
    def __getitem__(self, index: int, /) -> _T: ...
    @overload
    def __getitem__(self, index: slice, /) -> Pointer[_T]: ...
    def __setitem__(self, index: int | slice, value: Any, /) -> None: ...
    def __add__(self, count: int, /) -> Any: ...
    def __iter__(self) -> Iterator[_T]: ...
    def __len__(self) -> int: ...

class Number:
    def __int__(self) -> int: ...
    def __index__(self) -> int: ...

class Field:
    offset: int
    type: Type

class Type:
    cname: str
    kind: str
    fields: list[tuple[str, Field]]
    relements: dict[str, int]
    item: Type
    length: int | None

class Bytes:
    @overload
    def __getitem__(self, index: int, /) -> bytes: ...
    @overload
    def __getitem__(self, index: slice, /) -> bytes: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def __len__(self) -> int: ...

'''

_FFI = """
class FFI:
    NULL: Any
    def addressof(self, value: object, /, *fields: str | int) -> Any: ...
    def buffer(self, pointer: object, size: int = -1, /) -> Bytes: ...
    def def_extern(
        self,
        *,
        name: str = ...,
        error: float | None = ...,
        onerror: Callable[[Any, BaseException | None, Any], int | None] = ...,
    ) -> Callable[[_F], _F]: ...
    def from_handle(self, handle: object, /) -> Any: ...
    def gc(
        self, pointer: _T, destructor: Callable[[_T], object] | None, size: int = 0, /
    ) -> _T: ...
    def memmove(self, target: object, source: object, size: int, /) -> None: ...
    def sizeof(self, type: object, /) -> int: ...
    def string(self, pointer: Pointer[bytes], most: int = -1, /) -> bytes: ...
    def typeof(self, type: object, /) -> Type: ...
    def unpack(self, pointer: Pointer[_T], count: int, /) -> list[_T]: ...
"""


def core() -> ModuleType:
    """Return the compiled core alone: the package may not match it yet."""
    package = importlib.util.find_spec("pylinker")
    folders = package.submodule_search_locations if package is not None else None
    names = [f"_core{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    path = next(
        path for folder in folders or () for name in names if (path := Path(folder) / name).exists()
    )
    spec = importlib.util.spec_from_file_location("_core", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _text() -> str:
    """Return the text that cffi reads."""
    files = [*ordered_headers(), *sorted(CSRC.glob("*.cdef"))]
    return "\n".join(declarations(path.read_text(encoding="utf-8")) for path in files)


class Stub:
    """``_core.pyi``."""

    def __init__(self, module: ModuleType, text: str) -> None:
        self.ffi, self.lib = module.ffi, module.lib
        self.text = " ".join(text.split())

    def __str__(self) -> str:
        structs = list(self.structs())
        lines = [_HEAD, *(line for name, kind in structs for line in self.struct(name, kind)), _FFI]
        for function, argument in (
            ("new", "init: object = ..."),
            ("cast", "value: object"),
            ("from_buffer", "source: object"),
        ):
            lines += self.overloads(function, argument, structs)
        lines.append("\nclass Lib:\n")
        lines += (f"    {line}\n" for name in sorted(dir(self.lib)) for line in self.member(name))
        return "".join([*lines, "\nffi: FFI\nlib: Lib\n"])

    def structs(self) -> Iterator[tuple[str, Any]]:
        """Iterate over structures and unions with their names, in alphabetical order."""
        typedefs, tags, unions = self.ffi.list_types()
        names = {
            *tags,
            *unions,
            *(name for name in typedefs if self.ffi.typeof(name).kind in ("struct", "union")),
        }
        for name in sorted(names):
            kind = self.ffi.typeof(
                name
                if name in typedefs
                else f"union {name}"
                if name in unions
                else f"struct {name}"
            )
            if self.name(kind) == name:
                yield name, kind

    @staticmethod
    def name(kind: Any) -> str:
        """Return the name of a structure's class."""
        return str(kind.cname).split()[-1]

    def struct(self, name: str, kind: Any) -> Iterator[str]:
        """Write the classes of a structure and of pointers to it."""
        fields = self.fields(kind)
        if fields:
            yield f"class {name}:\n"
            yield from (f"    {field}: {self.type(each.type)}\n" for field, each in fields)
        else:
            yield f"class {name}: ...\n"
        yield f"class {name}_p({name}, Pointer[{name}]): ...\n"

    def fields(self, kind: Any) -> list[tuple[str, Any]]:
        """Return the fields of a structure, none if it is opaque."""
        try:
            self.ffi.sizeof(kind)
        except self.ffi.error:
            return []
        return list(kind.fields)

    def type(self, kind: Any) -> str:
        """Return the Python type of a result of a C type."""
        what = kind.kind
        if what == "primitive":
            name = str(kind.cname)
            return {"double": "float", "float": "float", "_Bool": "bool", "char": "bytes"}.get(
                name
            ) or ("int" if name in _INTEGERS else "Any")
        if what in ("struct", "union"):
            return self.name(kind)
        if what == "enum":
            return "int"
        if what == "void":
            return "None"
        if what == "function":
            return f"Callable[[{', '.join(map(self.type, kind.args))}], {self.type(kind.result)}]"
        item = kind.item  # of a pointer or an array
        if item.kind == "function":
            return self.type(item)
        if item.kind == "void":
            return "Any"
        return (
            f"{self.name(item)}_p"
            if item.kind in ("struct", "union")
            else f"Pointer[{self.type(item)}]"
        )

    def parameter(self, kind: Any) -> str:
        """Return the Python type of an argument of a C type."""
        given = self.type(kind)
        return (
            f"{given} | bytes"
            if given in ("Pointer[bytes]", "Pointer[int]")
            and kind.item.cname in ("char", "uint8_t")
            else given
        )

    def member(self, name: str) -> Iterator[str]:
        """Write a function or a number of the core."""
        value = getattr(self.lib, name)
        if isinstance(value, int):
            yield f"{name}: int"
            return
        kind = self.ffi.typeof(value)
        kind = kind.item if kind.kind == "pointer" else kind
        names = self.parameters(name)
        given = [
            f"{each}: {self.parameter(type_)}" for each, type_ in zip(names, kind.args, strict=True)
        ]
        yield f"def {name}({', '.join(['self', *given])}, /) -> {self.type(kind.result)}: ..."

    def parameters(self, function: str) -> list[str]:
        """Return the names of a function's parameters as its header has them."""
        begin = re.search(rf"\b{function}\((?=[^)])", self.text)
        assert begin is not None, function
        parts, depth = [""], 0
        for character in self.text[begin.end() :]:
            depth += (character in "([") - (character in ")]")
            if depth < 0:
                break
            if character == "," and depth == 0:
                parts.append("")
            else:
                parts[-1] += character
        if parts == ["void"]:
            return []
        found = [
            re.search(r"\(\*(\w+)\)", part) or re.search(r"(\w+)(?:\[\w*\])?$", part)
            for part in parts
        ]
        return [
            match[1] + ("_" if keyword.iskeyword(match[1]) or match[1] == "self" else "")
            for match in found
            if match is not None
        ]

    def overloads(
        self, function: str, argument: str, structs: list[tuple[str, Any]]
    ) -> Iterator[str]:
        """Write a method of ``ffi`` whose result depends on the text of a C type."""
        arrays = ", ".join(f'"{name} *", "{name}[]"' for name in _ARRAYS)
        types = [
            (f'"{name} *", "{name}[]"', f"{name}_p")
            for name, kind in structs
            if function == "cast" or self.fields(kind)
        ]
        if function != "cast":
            types += [(f'"{name} **", "{name} *[]"', f"Pointer[{name}_p]") for name, _ in structs]
        types += [
            (arrays, "Pointer[int]"),
            ('"char[]", "char *"', "Pointer[bytes]"),
            ('"char *[]"', "Pointer[Pointer[bytes]]"),
        ]
        if function == "cast":
            types += [('"uintptr_t"', "Number"), ('"void *"', "Any")]
        for texts, result in types:
            yield (
                f"    @overload\n    def {function}"
                f"(self, type: Literal[{texts}], {argument}, /) -> {result}: ...\n"
            )
        if function == "from_buffer":
            yield f"    @overload\n    def {function}(self, {argument}, /) -> Any: ...\n"


def enums(module: ModuleType) -> str:
    """Return ``enums.py``: classes of enums with a common prefix, constants for other numbers."""
    classes, constants, exported = [], [], []
    for path in ordered_headers():
        text = declarations(path.read_text(encoding="utf-8"))
        for tag, body in re.findall(
            r"^enum (\w+ )?\{(.*?)\};", text, flags=re.MULTILINE | re.DOTALL
        ):
            if tag.strip() in _INTERNAL:
                continue
            names = re.findall(r"(?:^|,)\s*PL_(\w+)", body)
            numbers = {name: getattr(module.lib, f"PL_{name}") for name in names}
            prefix = os.path.commonprefix(names)  # noqa: RUF071 - cut at a word below
            prefix = prefix[: prefix.rfind("_") + 1]
            if tag and prefix:
                title = "".join(word.title() for word in tag.strip().split("_")[1:])
                members = "".join(
                    f"    {name.removeprefix(prefix)} = {number}\n"
                    for name, number in numbers.items()
                )
                classes.append(
                    f"class {title}(enum.IntEnum):\n"
                    f'    """``enum {tag.strip()}`` of ``csrc/{path.name}``."""\n\n{members}'
                )
                exported.append(title)
            else:
                constants.append(f"# of {path.name}{f' (enum {tag.strip()})' if tag else ''}\n")
                constants += [f"{name}: Final = {number}\n" for name, number in numbers.items()]
                exported += names
    head = (
        '"""The numbers of the C core. Made by csrc/generate.py from the headers; do not edit."""'
    )
    head += "\n\n"
    head += "from __future__ import annotations\n\nimport enum\nfrom typing import Final\n\n"
    listed = "".join(
        f'    "{name}",\n' for name in sorted(exported, key=lambda name: (not name.isupper(), name))
    )
    return head + f"__all__ = [\n{listed}]\n\n" + "".join(constants) + "\n\n" + "\n\n".join(classes)


def generated() -> dict[Path, str]:
    """Return the text of the generated files."""
    module = core()
    return {STUB: str(Stub(module, _text())), ENUMS: enums(module)}


def main() -> None:
    """Write the files, or with ``--check`` list those that are not up to date."""
    stale = {
        path: text
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    if "--check" in sys.argv:
        sys.exit("".join(f"{path}: run csrc/generate.py\n" for path in stale) or None)
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
