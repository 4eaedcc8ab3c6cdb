"""What linking would decide, told without linking: who wants which symbol, who has it, and what is wrong.

The modules are read, not compiled; nothing of a guest runs. The scope is that of a program at its start: the main module, the libraries
that are named, then what these need, breadth-first. The first definition counts, weak or strong, as for the linker itself. What a program
opens later with ``dlopen`` is only seen if it is named.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from pylinker._libc import library_of
from pylinker.errors import LibraryNotFoundError, LinkError
from pylinker.linker import wasix
from pylinker.linker.heap import asks_for_heap, has_no_end, takes_heap_first
from pylinker.linker.hostcalls import host_type, provided_type
from pylinker.linker.layout import LAYOUT, program_layout
from pylinker.linker.limits import Limits
from pylinker.linker.locator import Home, Locator
from pylinker.linker.plan import bytes_of, read_file, why_no_library
from pylinker.runtime.outline import DESTRUCTORS, HEAP, outline_of
from pylinker.wasm import ExternType, FuncType, Import, Kind, MemoryType, ModuleInfo, SymbolFlags, parse_module

__all__ = ["HOST", "Binding", "Category", "Finding", "Missing", "Survey", "Surveyed", "survey"]

HOST: Final = "pylinker"
"""Who has what no module has: pylinker, for WASI, WASIX, ``dlopen`` and the like."""

_OWN_GLOBALS = frozenset({"__memory_base", "__stack_pointer", "__table_base"})
_TAGS = frozenset({"__c_longjmp", "__cpp_exception"})
_SPACES = {"GOT.func": "function pointer", "GOT.mem": "data"}

Category: TypeAlias = Literal["undefined", "mismatched", "weak", "duplicate", "unserved", "heap"]


@dataclass(frozen=True)
class Surveyed:
    """One module: ``name``, ``path``, what was read of it, and the names of the libraries it needs."""

    name: str
    path: str
    info: ModuleInfo
    is_main: bool
    needed: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """A library that cannot be had: its name, who needs it (None: whoever asked for the survey), and why not."""

    name: str
    requester: str | None
    problem: str


@dataclass(frozen=True)
class Binding:
    """One import that has a definition: ``provider`` is the name of a module, or :data:`HOST`."""

    importer: str
    provider: str
    symbol: str
    kind: str


@dataclass(frozen=True)
class Finding:
    """One symbol that deserves a look.

    ``category``: ``undefined`` (no module defines it; ``detail`` says if the C library does), ``mismatched`` (its definition has another
    type; ``detail`` has both), ``weak`` (a weak import; undefined ones are null), ``duplicate`` (several define it, the first is taken),
    ``unserved`` (a function of WASIX that answers ENOTSUP), ``heap`` (several modules have a heap: ``defined_by`` has the range, the
    others get an empty one). ``wanted_by`` and ``defined_by`` are names of modules.
    """

    category: Category
    symbol: str
    kind: str
    wanted_by: tuple[str, ...]
    defined_by: tuple[str, ...] = ()
    detail: str = ""


@dataclass(frozen=True)
class Survey:
    """All that was seen, in the order of the scope."""

    modules: tuple[Surveyed, ...]
    missing: tuple[Missing, ...]
    bindings: tuple[Binding, ...]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, undefined or mismatched."""
        return not self.missing and not any(each.category in ("undefined", "mismatched") for each in self.findings)

    def of(self, category: Category) -> list[Finding]:
        """Return the findings of one category."""
        return [each for each in self.findings if each.category == category]


def survey(
    main: str,
    libraries: Sequence[str] = (),
    *,
    library_path: Sequence[str] = (),
    given: Collection[str] = (),
    limits: Limits | None = None,
) -> Survey:
    """Survey the program ``main`` (a path) with ``libraries`` (a path if there is a slash or the file exists, else searched for).

    ``given`` are functions that the host will give, by name or ``module.name``. Raises ParseError if ``main`` is no module, OSError or
    LinkError if it cannot be read; what is wrong with a library is in the result.
    """
    limits = limits or Limits()
    path, data = read_file(os.path.basename(main), main, limits.library_size)
    info = parse_module(data, name=os.path.basename(main))
    found = _Reach(Locator(library_path, default_path=(os.path.dirname(path),)), limits)
    found.add(Surveyed(os.path.basename(main), path, info, is_main=True, needed=_needed(info)))
    for name in libraries:
        found.find(os.path.join(".", name) if os.sep not in name and os.path.isfile(name) else name, None)
    found.follow()
    judge = _Judge(tuple(found.modules.values()), frozenset(given))
    for module in judge.modules:
        judge.look_at(module)
    return Survey(judge.modules, tuple(found.missing), tuple(judge.bindings), (*judge.findings(), *judge.duplicates(), *judge.heaps()))


def _needed(info: ModuleInfo) -> tuple[str, ...]:
    return tuple(dict.fromkeys(info.dylink.needed)) if info.dylink else ()


class _Reach:
    """Finds what a program needs, breadth-first."""

    def __init__(self, locator: Locator, limits: Limits) -> None:
        self.modules: dict[str, Surveyed] = {}  # by path
        self.missing: list[Missing] = []
        self._locator = locator
        self._limits = limits
        self._names: set[str] = set()
        self._homes: dict[str, Home | None] = {}  # by path
        self._pending: deque[Surveyed] = deque()

    def add(self, module: Surveyed) -> None:
        self._names.add(module.name)
        if module.path not in self.modules:
            self.modules[module.path] = module
            self._pending.append(module)

    def find(self, name: str, requester: Surveyed | None) -> None:
        if name in self._names:
            return
        self._names.add(name)
        runtime_path = requester.info.dylink.runtime_path if requester and requester.info.dylink else ()
        origin = os.path.dirname(requester.path) if requester and runtime_path else None
        home = self._homes.get(requester.path) if requester else None
        try:
            found = self._locator.find(name, origin=origin, runtime_path=runtime_path, home=home, trusted=requester is None)
            path = found.path
            shown = os.path.basename(name) if requester is None else name
            info = parse_module(bytes_of(shown, path, found.file, self._limits.library_size), name=shown)
            self._homes.setdefault(path, found.home or home)
        except LibraryNotFoundError as error:
            self.missing.append(Missing(name, requester.name if requester else None, _reasons(error)))
        except LinkError as error:
            self.missing.append(Missing(name, requester.name if requester else None, str(error)))
        else:
            reason = why_no_library(info)
            if reason is not None:
                self.missing.append(Missing(name, requester.name if requester else None, f"{path} {reason}"))
            elif len(self.modules) >= self._limits.modules:
                self.missing.append(Missing(name, requester.name if requester else None, f"more than {self._limits.modules} modules"))
            else:
                self.add(Surveyed(shown, path, info, is_main=False, needed=_needed(info)))

    def follow(self) -> None:
        while self._pending:
            module = self._pending.popleft()
            for name in module.needed:
                self.find(name, module)


def _reasons(error: LibraryNotFoundError) -> str:
    tried = "; ".join(f"{path}: {reason}" for path, reason in error.searched)
    return f"not found ({tried})" if tried else "not found: no directory to search"


@dataclass
class _Wish:
    """What is known of a symbol in one category: who wants it, who has it."""

    wanted_by: dict[str, None] = field(default_factory=dict)
    defined_by: tuple[str, ...] = ()


class _Judge:
    """Decides what each import means, as far as that can be told from names and types."""

    def __init__(self, modules: tuple[Surveyed, ...], given: frozenset[str]) -> None:
        self.modules = modules
        self.bindings: list[Binding] = []
        self._given = given
        self._definers: dict[str, list[Surveyed]] = {}
        for module in modules:
            for name in outline_of(module.info).symbols:
                self._definers.setdefault(name, []).append(module)
        self._wishes: dict[tuple[Category, str, str, str], _Wish] = {}
        main = modules[0].info
        self._layout = LAYOUT if main.is_position_independent else frozenset(program_layout(main))
        self._main_has_heap = not main.is_position_independent and "__heap_end" in self._layout
        self._shared = next((each.limits.shared for module in modules for each in _memories(module.info)), None)

    def findings(self) -> list[Finding]:
        """Return what was noted of imports, the worst first."""
        ranks = ("undefined", "mismatched", "unserved", "weak")
        noted = sorted(self._wishes.items(), key=lambda item: ranks.index(item[0][0]))
        return [
            Finding(category, symbol, kind, tuple(wish.wanted_by), wish.defined_by, detail)
            for (category, symbol, kind, detail), wish in noted
        ]

    def duplicates(self) -> Iterable[Finding]:
        """Iterate over the symbols that several modules define: who is taken comes first."""
        wanted: dict[str, dict[str, None]] = {}
        for each in self.bindings:
            wanted.setdefault(each.symbol, {})[each.importer] = None
        for name, definers in self._definers.items():
            if len(definers) > 1:
                kind = outline_of(definers[0].info).symbols[name].kind
                label = "data" if kind is Kind.GLOBAL else kind.label
                yield Finding("duplicate", name, label, tuple(wanted.get(name, ())), tuple(each.name for each in definers))

    def heaps(self) -> Iterable[Finding]:
        """Iterate over the one finding that there is if several modules have a heap."""
        asking = [module for module in self.modules if asks_for_heap(outline_of(module.info).heap)]
        asking.sort(key=lambda each: takes_heap_first(outline_of(each.info).heap))
        if self._main_has_heap:
            asking = [self.modules[0], *(module for module in asking if not module.is_main)]
        if len(asking) > 1:
            names = tuple(module.name for module in asking)
            yield Finding("heap", "__heap_base", "data", names[1:], names[:1], "an empty range, so that each malloc grows its own memory")

    def look_at(self, module: Surveyed) -> None:
        """Judge all imports of a module."""
        unserved = set(wasix.unserved(module.info))
        for each in module.info.imports:
            if each.module in ("env", *_SPACES):
                self._symbol(module, each)
            elif each.module == wasix.WASIX and each.name in unserved and f"{each.module}.{each.name}" not in self._given:
                self._note("unserved", each.name, "function", module, detail="answers ENOTSUP (58)")
            else:
                self._host(module, each)

    def _host(self, module: Surveyed, wanted: Import) -> None:
        """Judge an import that no module can have."""
        name = f"{wanted.module}.{wanted.name}"
        provided = provided_type(wanted.module, wanted.name, threaded=True)
        found: ExternType | None = None if provided is None else provided[0]
        if found is None and wanted.module == wasix.WASIX and isinstance(wanted.type, FuncType):
            found = wanted.type
        if name in self._given or (found is not None and found == wanted.type):
            self.bindings.append(Binding(module.name, HOST, name, wanted.kind.label))
        elif found is not None:
            self._mismatch(module, wanted, HOST, found)
        else:
            self._note("undefined", name, wanted.kind.label, module)

    def _symbol(self, module: Surveyed, wanted: Import) -> None:
        kind = _SPACES.get(wanted.module, wanted.kind.label)
        if self._is_structure(module, wanted):
            return
        weak = bool(module.info.dylink and module.info.dylink.flags_of_import(wanted.module, wanted.name) & SymbolFlags.BINDING_WEAK)
        definers = self._definers.get(wanted.name, [])
        is_function = wanted.kind is Kind.FUNC or wanted.module == "GOT.func"
        if is_function and wanted.name in DESTRUCTORS and not module.is_main and module not in definers:
            definers = []  # registering a destructor is the linker's to do, whoever defines it
        if is_function and wanted.name in self._given:  # what the host gives comes first
            definers = []
        if definers:
            provider = definers[0]
            export = outline_of(provider.info).symbols[wanted.name]
            type_ = provider.info.export_type(export)
            fits = type_ == wanted.type and export.kind is wanted.kind
            if wanted.module == "GOT.func":
                fits = export.kind is Kind.FUNC
            elif wanted.module == "GOT.mem":
                fits = type_ == ("i32", False) and export.kind is Kind.GLOBAL
            if not fits:
                self._mismatch(module, wanted, provider.name, type_, export.kind)
                return
            self.bindings.append(Binding(module.name, provider.name, wanted.name, kind))
        elif wanted.kind is Kind.FUNC and (other := self._other_type(wanted)) is not None:
            self._mismatch(module, wanted, HOST, other)
            return
        elif not self._has_host(module, wanted):
            if not weak or wanted.kind not in (Kind.FUNC, Kind.GLOBAL):
                library = library_of(wanted.name)
                self._note("undefined", wanted.name, kind, module, detail=f"of the {library}" if library else "")
        else:
            self.bindings.append(Binding(module.name, HOST, wanted.name, kind))
        if weak:
            self._note("weak", wanted.name, kind, module, tuple(each.name for each in definers[:1]))

    def _has_host(self, module: Surveyed, wanted: Import) -> bool:
        """Whether pylinker or its user has what no module defines."""
        if wanted.module == "GOT.mem":
            return self._lays_out(module, wanted.name)
        if wanted.module == "env" and wanted.kind is Kind.TAG:
            return wanted.name in _TAGS
        if wanted.kind is Kind.FUNC or wanted.module == "GOT.func":
            return wanted.name in self._given or host_type("env", wanted.name) is not None
        return False

    def _other_type(self, wanted: Import) -> FuncType | None:
        """Return the type of a function that pylinker provides, if it is imported with another one."""
        found = host_type("env", wanted.name) if wanted.name not in self._given else None
        return found if found != wanted.type else None

    def _lays_out(self, module: Surveyed, name: str) -> bool:
        """Whether the linker says where a part of the program's memory is."""
        if name in HEAP and self._main_has_heap and not has_no_end(outline_of(module.info).heap):
            return True  # an empty range
        return name in self._layout

    def _is_structure(self, module: Surveyed, wanted: Import) -> bool:
        """Whether an import is no symbol, but a part of how modules lie together; a memory of another sort is noted here."""
        if wanted.module != "env":
            return False
        if isinstance(wanted.type, MemoryType):
            if wanted.type.limits.shared != self._shared:
                found = "a shared memory" if self._shared else "a memory that is not shared"
                self._note(
                    "mismatched", wanted.name, "memory", module, (self.modules[0].name,), f"wants {wanted.type}, others have {found}"
                )
            return True
        return wanted.kind is Kind.TABLE or (wanted.kind is Kind.GLOBAL and wanted.name in _OWN_GLOBALS)

    def _mismatch(self, module: Surveyed, wanted: Import, provider: str, found: ExternType, kind: Kind | None = None) -> None:
        label = _SPACES.get(wanted.module, wanted.kind.label)
        wants = label if wanted.module in _SPACES else f"{label} {wanted.type}"
        has = f"{(kind or wanted.kind).label} {found}"
        name = wanted.name if wanted.module in ("env", *_SPACES) else f"{wanted.module}.{wanted.name}"
        self._note("mismatched", name, label, module, (provider,), f"wants {wants}, has {has}")

    def _note(
        self, category: Category, symbol: str, kind: str, module: Surveyed, defined_by: tuple[str, ...] = (), detail: str = ""
    ) -> None:
        wish = self._wishes.setdefault((category, symbol, kind, detail), _Wish())
        wish.wanted_by[module.name] = None
        wish.defined_by = defined_by


def _memories(info: ModuleInfo) -> list[MemoryType]:
    return [*info.memories, *info.imported_memories]
