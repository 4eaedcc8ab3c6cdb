"""The link check: the report of a plan that is not carried out.

It lists the references and definitions of symbols, and all problems. The modules are parsed, not
compiled, and no guest code runs. The plan and its decisions are those of a load. The scope is that
of a program at its start: the main module, the libraries that are named, then their dependencies,
breadth-first. Libraries that a program opens later with ``dlopen`` are only included if they are
named.
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
from pylinker.linker.plan.files import Request, read_file
from pylinker.linker.plan.heap import asks_for_heap, takes_heap_first
from pylinker.linker.plan.imports import HostImports
from pylinker.linker.plan.plan import DryRun, LoadPlan
from pylinker.linker.plan.state import LinkerState
from pylinker.runtime.code import CodeCache
from pylinker.runtime.outline import SYMBOL_SPACES, kind_of
from pylinker.wasm import Import, MemoryType, ModuleInfo, parse_module

if TYPE_CHECKING:
    from pylinker.errors import UndefinedSymbol
    from pylinker.linker.modules.module import Definition
    from pylinker.linker.plan.resolver import Resolver
    from pylinker.native.objects import Values

__all__ = [
    "HOST",
    "Binding",
    "Category",
    "CheckedModule",
    "Finding",
    "LinkReport",
    "Missing",
    "check_links",
]

HOST: Final = "pylinker"
"""The provider of symbols that no module defines, such as WASI, WASIX and ``dlopen``."""

Category: TypeAlias = Literal["undefined", "mismatched", "weak", "duplicate", "unserved", "heap"]


@dataclass(frozen=True)
class CheckedModule:
    """One module of the check."""

    name: str
    """The name of the module."""
    path: str
    """The path of its file."""
    info: ModuleInfo
    """The parsed module."""
    is_main: bool
    """Whether it is the main module."""
    needed: tuple[str, ...]
    """The names of the libraries that it needs."""


@dataclass(frozen=True)
class Missing:
    """A library that cannot be loaded."""

    name: str
    """The name of the library."""
    requester: str | None
    """The module that needs it; None for a library that the caller named."""
    problem: str
    """The reason."""


@dataclass(frozen=True)
class Binding:
    """One import that has a definition."""

    importer: str
    """The name of the importing module."""
    provider: str
    """The name of the defining module, or :data:`HOST`."""
    symbol: str
    """The name of the symbol."""
    kind: str
    """The kind of the symbol."""


@dataclass(frozen=True)
class Finding:
    """One symbol that deserves attention."""

    category: Category
    """The category of the finding.

    ``undefined``: no module defines it; ``detail`` tells if the C library does. ``mismatched``: its
    definition has another type; ``detail`` has both. ``weak``: a weak import; undefined ones are
    null. ``duplicate``: several modules define it, the first definition is used. ``unserved``: a
    function of WASIX that returns ENOTSUP. ``heap``: several modules have a heap; ``defined_by``
    has the range, the others get an empty one.
    """
    symbol: str
    """The name of the symbol."""
    kind: str
    """The kind of the symbol."""
    wanted_by: tuple[str, ...]
    """The names of the modules that reference it."""
    defined_by: tuple[str, ...] = ()
    """The names of the modules that define it."""
    detail: str = ""
    """The details, for people."""


@dataclass(frozen=True)
class LinkReport:
    """The result of a check, in the order of the scope."""

    modules: tuple[CheckedModule, ...]
    """The modules."""
    missing: tuple[Missing, ...]
    """The libraries that cannot be loaded."""
    bindings: tuple[Binding, ...]
    """The imports that have a definition."""
    findings: tuple[Finding, ...]
    """The symbols that deserve attention."""

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, undefined or mismatched."""
        return not self.missing and not any(
            each.category in ("undefined", "mismatched") for each in self.findings
        )

    def of(self, category: Category) -> list[Finding]:
        """Return the findings of one category."""
        return [each for each in self.findings if each.category == category]


def check_links(
    main: str,
    libraries: Sequence[str] = (),
    *,
    library_path: Sequence[str] = (),
    host_imports: Collection[str] = (),
    limits: Limits | None = None,
) -> LinkReport:
    """Check the program ``main`` and its libraries.

    A problem of a library is part of the result.

    Args:
        main: The path of the main module.
        libraries: Libraries to include: a path if there is a slash or the file exists, else a name
            that is searched for.
        library_path: Directories of the search.
        host_imports: Functions that the host will provide, by name or ``module.name``.
        limits: The limits of the program.

    Raises:
        ParseError: ``main`` is not a module.
        OSError: ``main`` cannot be read.
        LinkError: ``main`` cannot be read.
    """
    limits = limits or Limits()
    name = os.path.basename(main)
    path, data = read_file(name, main, limits.library_size)
    info = parse_module(data, name=name)
    plan = _Discovery(
        _state(info, host_imports, limits),
        Locator(library_path, default_path=(os.path.dirname(path),)),
    )
    plan.reach(
        LoadedModule(name, path, info, None, plan.state.next_number(), is_main=True), libraries
    )
    report = _Report(plan)
    modules = tuple(
        CheckedModule(each.name, each.path or "", each.info, each.is_main, _needed(each.info))
        for each in plan.scope
    )
    findings = (*report.findings(), *report.duplicates(), *report.heaps())
    return LinkReport(modules, tuple(plan.missing.values()), tuple(report.bindings), findings)


def _needed(info: ModuleInfo) -> tuple[str, ...]:
    return tuple(dict.fromkeys(info.dylink.needed)) if info.dylink else ()


def _state(main: ModuleInfo, host_imports: Collection[str], limits: Limits) -> LinkerState:
    """Return the state of a program with this main module, in which nothing is loaded.

    The user provides functions of the names ``host_imports``.
    """
    functions: dict[str | tuple[str, str], Callable[..., None]] = {}
    for name in host_imports:
        functions[name] = _stand_in
        for dot in (index for index, each in enumerate(name) if each == "."):
            functions[name[:dot], name[dot + 1 :]] = _stand_in
    state = LinkerState(limits, HostImports(functions))
    state.threaded = True
    state.linker_symbols.update(
        dict.fromkeys(LAYOUT, 0) if main.is_position_independent else program_layout(main)
    )
    return state


def _stand_in(*_: object) -> None:
    """Stand for a function of the user."""


def _no_calls(_module: LoadedModule | None, name: str) -> Callable[[Values], None]:
    raise InternalError(f"{name} is made for a plan that is not carried out")


class _Discovery(LoadPlan):
    """Finds the dependencies of a program."""

    missing: dict[str, Missing]
    """The libraries that were not found, by name."""

    def __init__(self, state: LinkerState, locator: Locator) -> None:
        super().__init__(state, locator, CodeCache(None), _no_calls)
        self.missing = {}

    def reach(self, main: LoadedModule, libraries: Iterable[str]) -> None:
        """Find ``libraries`` (a path if there is a slash or such a file) and all dependencies."""
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
class _References:
    """The modules of a finding."""

    wanted_by: dict[str, None] = field(default_factory=dict)
    """The names of the modules that reference the symbol."""
    defined_by: tuple[str, ...] = ()
    """The names of the modules that define it."""


class _Report:
    """The decisions of a load, reported and not carried out; all calls are bound at load."""

    def __init__(self, plan: LoadPlan) -> None:
        self.bindings: list[Binding] = []
        self._references: dict[tuple[Category, str, str, str], _References] = {}
        dry_run = DryRun(plan)
        self._modules = dry_run.scope
        self._has_fixed_heap = (
            plan.state.heap.owner is not None and "__heap_end" in plan.state.linker_symbols
        )
        self._shared = next(
            (each.limits.shared for module in self._modules for each in _memories(module.info)),
            None,
        )
        undefined: list[UndefinedSymbol] = []
        reports: dict[LoadedModule, list[Callable[[], None]]] = {}
        for module, resolver in dry_run.resolvers(undefined, [], bind_now=True):
            resolver.look_up()
            reports[module] = list(self._imports(module, resolver, undefined))
        for module in self._modules:
            self._memory(module)
            for report in reports[module]:
                report()

    def findings(self) -> list[Finding]:
        """Return the findings about imports, the worst first."""
        ranks = ("undefined", "mismatched", "unserved", "weak")
        noted = sorted(self._references.items(), key=lambda item: ranks.index(item[0][0]))
        return [
            Finding(
                category, symbol, kind, tuple(references.wanted_by), references.defined_by, detail
            )
            for (category, symbol, kind, detail), references in noted
        ]

    def duplicates(self) -> Iterator[Finding]:
        """Iterate over the symbols that several modules define; the one in use comes first."""
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
        """Bind all imports of a module, in order; each result reports one."""
        symbols = {symbol.number: symbol for symbol in resolver.symbols()}
        rest = set(resolver.rest)
        unserved = set(wasix.unserved(module.info))
        for index, wanted in enumerate(module.info.imports):
            symbol = symbols.get(index)
            definition = symbol.definition if symbol is not None else None
            if symbol is None and wanted.module in SYMBOL_SPACES:
                continue  # memory, table or a base
            if (
                wanted.module == wasix.WASIX
                and wanted.name in unserved
                and not resolver.is_host_import(wanted)
            ):
                yield partial(
                    self._note,
                    "unserved",
                    wanted.name,
                    "function",
                    module,
                    detail="returns ENOTSUP (58)",
                )
                continue
            if symbol is not None and resolver.is_weak(wanted):
                having = () if definition is None else (definition.module.name,)
                yield partial(self._note, "weak", wanted.name, kind_of(wanted), module, having)
            report = self._bind(
                module, resolver, index, definition, undefined, in_rest=index in rest
            )
            if report is not None:
                yield report

    def _bind(
        self,
        module: LoadedModule,
        resolver: Resolver,
        index: int,
        definition: Definition | None,
        undefined: list[UndefinedSymbol],
        *,
        in_rest: bool,
    ) -> Callable[[], None] | None:
        """Bind one import; return a function that reports the result, None for a weak one."""
        wanted = module.info.imports[index]
        symbol, kind = _name_of(wanted), kind_of(wanted)
        count = len(undefined)
        try:
            if in_rest:
                resolver.source(index, wanted)
        except SignatureMismatchError as error:
            return partial(self._mismatch, module, wanted, definition, error)
        except UnsupportedError as error:
            return partial(self._note, "mismatched", symbol, kind, module, detail=str(error))
        if len(undefined) > count:
            library = library_of(wanted.name) if wanted.module in SYMBOL_SPACES else None
            detail = f"of the {library}" if library else ""
            return partial(self._note, "undefined", symbol, kind, module, detail=detail)
        if index in resolver.unbound:
            return None
        provider = HOST if definition is None else definition.module.name
        return partial(self.bindings.append, Binding(module.name, provider, symbol, kind))

    def _memory(self, module: LoadedModule) -> None:
        """Report a memory of another sort."""
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
        references = self._references.setdefault((category, symbol, kind, detail), _References())
        references.wanted_by[module.name] = None
        references.defined_by = defined_by


def _name_of(wanted: Import) -> str:
    return wanted.name if wanted.module in SYMBOL_SPACES else f"{wanted.module}.{wanted.name}"


def _memories(info: ModuleInfo) -> list[MemoryType]:
    return [*info.memories, *info.imported_memories]
