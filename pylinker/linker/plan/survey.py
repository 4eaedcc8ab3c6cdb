"""What linking would decide: the report of a plan that is not carried out.

Who wants which symbol, who has it, and what is wrong. The modules are read, not compiled; nothing
of a guest runs. The plan and its decisions are those of a load. The scope is that of a program at
its start: the main module, the libraries that are named, then what these need, breadth-first. What
a program opens later with ``dlopen`` is only seen if it is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pylinker._libc import library_of
from pylinker.errors import (
    InternalError,
    LibraryNotFoundError,
    LinkError,
    SignatureMismatchError,
    UnsupportedError,
)
from pylinker.linker.guests import wasix
from pylinker.linker.limits import Limits
from pylinker.linker.modules.layout import LAYOUT, program_layout, sharing
from pylinker.linker.modules.locator import Locator
from pylinker.linker.modules.module import LoadedModule
from pylinker.linker.plan.heap import asks_for_heap, takes_heap_first
from pylinker.linker.plan.imports import HostImports
from pylinker.linker.plan.plan import LoadPlan, Rehearsal, Request, read_file
from pylinker.linker.plan.state import LinkerState
from pylinker.runtime.code import CodeCache
from pylinker.runtime.outline import SYMBOL_SPACES, kind_of
from pylinker.wasm import Import, MemoryType, ModuleInfo, parse_module

if TYPE_CHECKING:
    from pylinker.errors import UndefinedSymbol
    from pylinker.linker.modules.module import Definition
    from pylinker.linker.plan.resolver import Resolver
    from pylinker.native.objects import Values

__all__ = ["HOST", "Binding", "Category", "Finding", "Missing", "Survey", "Surveyed", "survey"]

HOST: Final = "pylinker"
"""Who has what no module has: pylinker, for WASI, WASIX, ``dlopen`` and the like."""

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

    ``category``: ``undefined`` (no module defines it; ``detail`` says if the C library does),
    ``mismatched`` (its definition has another type; ``detail`` has both), ``weak`` (a weak import;
    undefined ones are null), ``duplicate`` (several define it, the first is taken), ``unserved`` (a
    function of WASIX that answers ENOTSUP), ``heap`` (several modules have a heap: ``defined_by``
    has the range, the others get an empty one). ``wanted_by`` and ``defined_by`` are names of
    modules.
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
        return not self.missing and not any(
            each.category in ("undefined", "mismatched") for each in self.findings
        )

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

    ``given`` are functions that the host will give, by name or ``module.name``. Raises ParseError
    if ``main`` is no module, OSError or LinkError if it cannot be read; what is wrong with a
    library is in the result.
    """
    limits = limits or Limits()
    name = os.path.basename(main)
    path, data = read_file(name, main, limits.library_size)
    info = parse_module(data, name=name)
    plan = _Discovery(
        _state(info, given, limits), Locator(library_path, default_path=(os.path.dirname(path),))
    )
    plan.reach(
        LoadedModule(name, path, info, None, plan.state.next_number(), is_main=True), libraries
    )
    report = _Report(plan, frozenset(given))
    modules = tuple(
        Surveyed(each.name, each.path or "", each.info, each.is_main, _needed(each.info))
        for each in plan.scope
    )
    findings = (*report.findings(), *report.duplicates(), *report.heaps())
    return Survey(modules, tuple(plan.missing.values()), tuple(report.bindings), findings)


def _needed(info: ModuleInfo) -> tuple[str, ...]:
    return tuple(dict.fromkeys(info.dylink.needed)) if info.dylink else ()


def _state(main: ModuleInfo, given: Collection[str], limits: Limits) -> LinkerState:
    """Return the state of a program with this main module, in which nothing is loaded; the user gives functions of these names."""
    functions: dict[str | tuple[str, str], Callable[..., None]] = {}
    for name in given:
        functions[name] = _given
        for dot in (place for place, each in enumerate(name) if each == "."):
            functions[name[:dot], name[dot + 1 :]] = _given
    state = LinkerState(limits, HostImports(functions))
    state.threaded = True
    state.linker_symbols.update(
        dict.fromkeys(LAYOUT, 0) if main.is_position_independent else program_layout(main)
    )
    return state


def _given(*_: object) -> None:
    """Stand for a function of the program's user."""


def _no_calls(_module: LoadedModule | None, name: str) -> Callable[[Values], None]:
    raise InternalError(f"{name} is made for a plan that is not carried out")


class _Discovery(LoadPlan):
    """Finds what a program needs; ``missing`` are the libraries that it has not found, by name."""

    def __init__(self, state: LinkerState, locator: Locator) -> None:
        super().__init__(state, locator, CodeCache(None), _no_calls)
        self.missing: dict[str, Missing] = {}

    def reach(self, main: LoadedModule, libraries: Iterable[str]) -> None:
        """Find ``libraries`` (a path if there is a slash or the file exists) and all that is needed."""
        if not main.is_position_independent:
            self.state.heap.belongs_to_program(main)
        self._names[main.name] = main
        if main.key is not None:
            self._paths[main.key] = main
        paths = [
            os.path.join(".", name) if os.sep not in name and os.path.isfile(name) else name
            for name in libraries
        ]
        found = [
            module
            for name in paths
            if (module := self._try(Request(name, trusted=True))) is not None
        ]
        self.discover([main, *found])

    def _find_needed(self, module: LoadedModule, names: Iterable[str]) -> list[LoadedModule]:
        return [found for name in names if (found := self._try(Request(name, module))) is not None]

    def _try(self, request: Request) -> LoadedModule | None:
        if request.name in self.missing:
            return None
        try:
            return self._find(request)
        except LibraryNotFoundError as error:
            problem = _reasons(error)
        except LinkError as error:
            problem = " ".join(str(error).split())
        requester = request.requester
        self.missing[request.name] = Missing(
            request.name, requester.name if requester else None, problem
        )
        return None


def _reasons(error: LibraryNotFoundError) -> str:
    tried = "; ".join(f"{path}: {reason}" for path, reason in error.searched)
    return f"not found ({tried})" if tried else "not found: no directory to search"


@dataclass
class _Wish:
    """What is known of a symbol in one category: who wants it, who has it."""

    wanted_by: dict[str, None] = field(default_factory=dict)
    defined_by: tuple[str, ...] = ()


class _Report:
    """What a load of a plan would decide, told and not carried out: everything is bound at once."""

    def __init__(self, plan: LoadPlan, given: frozenset[str]) -> None:
        self.bindings: list[Binding] = []
        self._given = given
        self._wishes: dict[tuple[Category, str, str, str], _Wish] = {}
        rehearsal = Rehearsal(plan)
        self._modules = rehearsal.scope
        self._has_fixed_heap = (
            plan.state.heap.owner is not None and "__heap_end" in plan.state.linker_symbols
        )
        self._shared = next(
            (each.limits.shared for module in self._modules for each in _memories(module.info)),
            None,
        )
        undefined: list[UndefinedSymbol] = []
        told: dict[LoadedModule, list[Callable[[], None]]] = {}
        for module, resolver in rehearsal.resolvers(undefined, [], bind_now=True):
            resolver.look_up()
            told[module] = list(self._imports(module, resolver, undefined))
        for module in self._modules:
            self._memory(module)
            for tell in told[module]:
                tell()

    def findings(self) -> list[Finding]:
        """Return what was noted of imports, the worst first."""
        ranks = ("undefined", "mismatched", "unserved", "weak")
        noted = sorted(self._wishes.items(), key=lambda item: ranks.index(item[0][0]))
        return [
            Finding(category, symbol, kind, tuple(wish.wanted_by), wish.defined_by, detail)
            for (category, symbol, kind, detail), wish in noted
        ]

    def duplicates(self) -> Iterator[Finding]:
        """Iterate over the symbols that several modules define: who is taken comes first."""
        wanted: dict[str, dict[str, None]] = {}
        for each in self.bindings:
            wanted.setdefault(each.symbol, {})[each.importer] = None
        definers: dict[str, list[LoadedModule]] = {}
        for module in self._modules:
            for name, *_ in module.outline.symbols():
                definers.setdefault(name, []).append(module)
        for name, modules in definers.items():
            if len(modules) > 1:
                definition = modules[0].find(name)
                label = definition.label if definition is not None else ""
                yield Finding(
                    "duplicate",
                    name,
                    label,
                    tuple(wanted.get(name, ())),
                    tuple(each.name for each in modules),
                )

    def heaps(self) -> Iterator[Finding]:
        """Iterate over the one finding that there is if several modules have a heap."""
        asking = [module for module in self._modules if asks_for_heap(module.outline.heap)]
        asking.sort(key=lambda each: takes_heap_first(each.outline.heap))
        if self._has_fixed_heap:
            asking = [self._modules[0], *(module for module in asking if not module.is_main)]
        if len(asking) > 1:
            names = tuple(module.name for module in asking)
            yield Finding(
                "heap",
                "__heap_base",
                "data",
                names[1:],
                names[:1],
                "an empty range, so that each malloc grows its own memory",
            )

    def _imports(
        self, module: LoadedModule, resolver: Resolver, undefined: list[UndefinedSymbol]
    ) -> Iterator[Callable[[], None]]:
        """Decide all imports of a module, in their order; what comes out tells of one."""
        symbols = {symbol.number: symbol for symbol in resolver.symbols()}
        rest = set(resolver.rest)
        unserved = set(wasix.unserved(module.info))
        for index, wanted in enumerate(module.info.imports):
            symbol = symbols.get(index)
            definition = symbol.definition if symbol is not None else None
            if symbol is None and wanted.module in SYMBOL_SPACES:
                continue  # a part of how the modules lie together
            if (
                wanted.module == wasix.WASIX
                and wanted.name in unserved
                and not resolver.is_given(wanted)
            ):
                yield partial(
                    self._note,
                    "unserved",
                    wanted.name,
                    "function",
                    module,
                    detail="answers ENOTSUP (58)",
                )
                continue
            if symbol is not None and resolver.is_weak(wanted):
                having = () if definition is None else (definition.module.name,)
                yield partial(self._note, "weak", wanted.name, kind_of(wanted), module, having)
            count = len(undefined)
            try:
                if index in rest:
                    resolver.source(index, wanted)
            except SignatureMismatchError as error:
                yield partial(self._mismatch, module, wanted, definition, error)
            except UnsupportedError as error:
                yield partial(
                    self._note,
                    "mismatched",
                    _name_of(wanted),
                    kind_of(wanted),
                    module,
                    detail=str(error),
                )
            else:
                if len(undefined) > count:
                    library = library_of(wanted.name) if wanted.module in SYMBOL_SPACES else None
                    detail = f"of the {library}" if library else ""
                    yield partial(
                        self._note,
                        "undefined",
                        _name_of(wanted),
                        kind_of(wanted),
                        module,
                        detail=detail,
                    )
                elif index not in resolver.unbound:
                    provider = HOST if definition is None else definition.module.name
                    yield partial(
                        self.bindings.append,
                        Binding(module.name, provider, _name_of(wanted), kind_of(wanted)),
                    )

    def _memory(self, module: LoadedModule) -> None:
        """Note a memory of another sort."""
        for wanted in module.info.imports:
            if (
                isinstance(wanted.type, MemoryType)
                and wanted.module == "env"
                and wanted.type.limits.shared != self._shared
            ):
                detail = f"wants {wanted.type}, others have {sharing(bool(self._shared))}"
                self._note(
                    "mismatched", wanted.name, "memory", module, (self._modules[0].name,), detail
                )

    def _mismatch(
        self,
        module: LoadedModule,
        wanted: Import,
        definition: Definition | None,
        error: SignatureMismatchError,
    ) -> None:
        kind = kind_of(wanted)
        wants = (
            kind
            if wanted.module != "env" and wanted.module in SYMBOL_SPACES
            else f"{kind} {wanted.type}"
        )
        if definition is None:
            provider, has = HOST, f"{wanted.kind.label} {error.found}"
        else:
            provider, has = (
                definition.module.name,
                f"{definition.export.kind.label} {definition.type}",
            )
        self._note(
            "mismatched", _name_of(wanted), kind, module, (provider,), f"wants {wants}, has {has}"
        )

    def _note(
        self,
        category: Category,
        symbol: str,
        kind: str,
        module: LoadedModule,
        defined_by: tuple[str, ...] = (),
        detail: str = "",
    ) -> None:
        wish = self._wishes.setdefault((category, symbol, kind, detail), _Wish())
        wish.wanted_by[module.name] = None
        wish.defined_by = defined_by


def _name_of(wanted: Import) -> str:
    return wanted.name if wanted.module in SYMBOL_SPACES else f"{wanted.module}.{wanted.name}"


def _memories(info: ModuleInfo) -> list[MemoryType]:
    return [*info.memories, *info.imported_memories]
