"""From "load these" to a LoadModules operation: locate, order, compile, place, resolve.

Nothing of this runs guest code or touches a store. A plan changes nothing that
:meth:`LoadPlan.undo` does not put back: the linker calls it on any failure, up to and including a
trap in the last constructor.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from pylinker._system import check_errno
from pylinker.errors import (
    LibraryNotFoundError,
    LimitError,
    NotDynamicError,
    UndefinedSymbol,
    UndefinedSymbolError,
)
from pylinker.linker.debug.trace import UNTRACED
from pylinker.linker.modules.locator import open_wherever
from pylinker.linker.modules.module import Definition, LoadedModule
from pylinker.linker.plan.debug_load import tell_load, wants_loads
from pylinker.linker.plan.imports import NewPointers
from pylinker.linker.plan.operation import LoadModules, SlotPatch
from pylinker.linker.plan.record import SharedTrampolines, native_library
from pylinker.linker.plan.resolver import Resolver
from pylinker.linker.plan.space import SlotAllocator
from pylinker.linker.plan.state import LinkerState
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.search import RegularFile
from pylinker.runtime.code import Uncompiled
from pylinker.wasm import Kind

if TYPE_CHECKING:
    from pylinker.linker.modules.locator import Located, Locator, StrPath
    from pylinker.linker.plan.record import HostCalls
    from pylinker.runtime.code import Code, CodeCache
    from pylinker.wasm import ModuleInfo


__all__ = [
    "Files",
    "LoadPlan",
    "ModuleBytes",
    "Rehearsal",
    "Request",
    "Unread",
    "bytes_of",
    "check_alignment",
    "check_size",
    "read_file",
    "why_no_library",
]

logger = logging.getLogger("pylinker.linker")

_PAGE = 1 << 16


class ModuleBytes:
    """A module that is given as bytes, wherever the path of one may be given.

    The same bytes are the same library, as the same file is: opening them twice counts one more
    handle.

    Args:
        data: The bytes of the module.
        name: What other modules may name it by in their list of needed libraries. Without one it
            is called by the beginning of its SHA-256.
    """

    __slots__ = ("data", "key", "name")

    def __init__(self, data: bytes | bytearray | memoryview, *, name: str | None = None) -> None:
        self.data = bytes(data)
        digest = hashlib.sha256(self.data).hexdigest()
        self.key = f"sha256:{digest}"  # no absolute path, so it is never that of a file
        self.name = name or f"module-{digest[:12]}"

    def __repr__(self) -> str:
        return f"ModuleBytes(<{len(self.data)} bytes>, name={self.name!r})"


class Request:
    """A library somebody asks for: its ``name``, who asks, whether the host wrote the name itself, and where to search for it.

    ``search`` are directories of the guest that take the place of its ``LD_LIBRARY_PATH``, or None.
    ``given`` is the module itself, if the host gave its bytes: the name is then not looked for.
    """

    __slots__ = ("given", "name", "requester", "search", "trusted")

    def __init__(
        self,
        name: str | ModuleBytes,
        requester: LoadedModule | None = None,
        *,
        trusted: bool = False,
        search: Sequence[str] | None = None,
    ) -> None:
        self.given = name if isinstance(name, ModuleBytes) else None
        self.name = name.name if isinstance(name, ModuleBytes) else name
        self.requester = requester
        self.trusted = trusted
        self.search = search


class Unread(Exception):  # noqa: N818 - not an error a user meets: the caller reads, and comes again
    """A file has to be read that was not read before, and not now."""


class _File:
    """A module that was found, with its ``key``: a file with its ``path`` and ``home``, or the bytes that the host gave."""

    __slots__ = ("_given", "_located", "code", "home", "key", "path")

    def __init__(self, located: Located | None, given: ModuleBytes | None = None) -> None:
        self._located = located
        self._given = given
        self.path = located.path if located else None
        self.home = located.home if located else None
        self.key = located.path if located else given.key if given else ""
        self.code: Code | Uncompiled | None = None  # None: not read yet

    def read(self, name: str, limit: int, requester: str | None) -> bytes:
        """Return the bytes. Raises LimitError, LibraryNotFoundError."""
        if self._located is not None:
            return bytes_of(
                name, self._located.path, self._located.file, limit, requester=requester
            )
        assert self._given is not None
        return check_size(name, self._given.data, limit)


def check_size(name: str, data: bytes, limit: int) -> bytes:
    """Return a module that was given as bytes, if it has no more than ``limit``.

    Raises LimitError.
    """
    if len(data) > limit:
        raise LimitError(
            f"{name}: the module has {len(data)} bytes; the limit is {limit}: raise Limits(library_size=...)",
            module=name,
        )
    return data


class Files:
    """The files that plans for one load have found and read, by what was asked for: a second plan does neither again.

    Without ``may_read`` a plan that needs another one raises Unread.
    """

    __slots__ = ("known", "may_read")

    def __init__(self) -> None:
        self.known: dict[tuple[object, ...], _File] = {}
        self.may_read = True


class LoadPlan:
    """One load: the modules it brings, in which order, and what each of their imports means.

    Attributes: ``state``, ``scope`` (all modules reached, breadth-first), ``new`` (those not loaded
    before, dependencies first), ``pointers`` (to functions of the program's user), ``permanent``
    (nothing of it will be unloaded), ``check`` (called in loops whose length the modules choose;
    what it raises ends them), ``files`` (what was read for this load before), ``tracer`` (what
    notes its steps).
    """

    def __init__(
        self, state: LinkerState, locator: Locator, cache: CodeCache, host_calls: HostCalls
    ) -> None:
        self.state = state
        self._locator = locator
        self._cache = cache
        self._host_calls = host_calls
        self.rehearses = False  # it has the read lock only, and changes nothing that others see
        self._names: dict[str, LoadedModule] = {}
        self._paths: dict[str, LoadedModule] = {}
        self._added: list[LoadedModule] = []
        self._given: list[tuple[LoadedModule, int]] = []
        self._grants: list[Grant] = []  # of these slots, in the same order
        self.is_applied = False  # the loading group may have instances of it
        self.is_published = False  # all groups have
        self.permanent = False
        self.check: Callable[[], None] = lambda: None
        self.files = Files()
        self.tracer = UNTRACED
        self._aims: list[tuple[LoadedModule, int, LoadedModule, int]] = []
        self._uncompiled: list[tuple[LoadedModule, Uncompiled, _File | None]] = []
        self.pointers = NewPointers(state.imports, state.table, host_calls)
        self.scope: list[LoadedModule] = []
        self.new: list[LoadedModule] = []

    # 1. Find

    def discover(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        """Find the roots and everything they need, breadth-first; returns the roots.

        Raises LinkError children.
        """
        with self.tracer.span("find", names=roots):
            return self._reach(roots)

    def _reach(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        found = [root if isinstance(root, LoadedModule) else self._find(root) for root in roots]
        if len(found) == 1 and self._discover_one(found[0]):
            return found
        for root in found:
            if root not in self.state.known and root not in self._added:
                self._names.setdefault(root.name, root)
                self._added.append(root)
        queue = deque(dict.fromkeys(found))
        seen = set(queue)
        depth, left = 0, len(queue)  # how many are as deep as the next one
        while queue:
            if not left:
                depth, left = depth + 1, len(queue)
                if depth > self.state.limits.needed_depth:
                    raise LimitError(
                        f"{queue[0].name}: libraries need each other in a chain of more than {self.state.limits.needed_depth}; "
                        "raise Limits(needed_depth=...)",
                        module=queue[0].name,
                    )
            left -= 1
            module = queue.popleft()
            self.scope.append(module)
            if module not in self.state.known and module.info.dylink is not None:
                names = dict.fromkeys(module.info.dylink.needed)
                if len(names) > self.state.limits.modules:
                    raise LimitError(
                        f"{module.name}: needs {len(names)} libraries; the limit is {self.state.limits.modules} modules: "
                        "raise Limits(modules=...)",
                        module=module.name,
                    )
                module.needed = self._find_needed(module, names)
            for each in module.needed:
                if each not in seen:
                    seen.add(each)
                    queue.append(each)
        self._order(found)
        return found

    def _find_needed(self, module: LoadedModule, names: Iterable[str]) -> list[LoadedModule]:
        """Find what a module needs."""
        return [self._find(Request(name, module)) for name in names]

    def _discover_one(self, root: LoadedModule) -> bool:
        """Be done with a root that is new and needs nothing, as most that are opened later are; False if it is not like that."""
        dylink = root.info.dylink
        if dylink is None or dylink.needed or len(self._added) != 1 or self._added[0] is not root:
            return False
        self.scope.append(root)
        self.new.append(root)
        return True

    def find_loaded(self, request: Request) -> LoadedModule | None:
        """Return the module a request means if it is loaded already (or about to be), by name only."""
        if request.given is not None:
            return self._paths.get(request.given.key) or self.state.by_path(request.given.key)
        return self._names.get(request.name) or self.state.by_name(request.name)

    def path_of(self, request: Request) -> str:
        """Return the path of the file a request means. Raises LibraryNotFoundError, Unread."""
        return self._file_of(request).key

    def _file_of(self, request: Request) -> _File:
        requester = request.requester
        dylink = requester.info.dylink if requester else None
        search = None if request.search is None else tuple(request.search)
        origin, home = (requester.origin, requester.home) if requester else (None, None)
        key: tuple[object, ...] = (
            request.name,
            request.trusted,
            search,
            origin,
            home,
            dylink.runtime_path if dylink else (),
        )
        if request.given is not None:
            key = (request.given.key,)
        found = self.files.known.get(key)
        if found is None:
            if not self.files.may_read:
                raise Unread
            found = self.files.known[key] = _File(
                None if request.given else self._locate(request), request.given
            )
        return found

    def _locate(self, request: Request) -> Located:
        requester = request.requester
        dylink = requester.info.dylink if requester else None
        limit = self.state.limits.runtime_path
        if requester is not None and dylink is not None and len(dylink.runtime_path) > limit:
            raise LimitError(
                f"{requester.name}: a runtime path of {len(dylink.runtime_path)} directories; the limit is {limit}: "
                "raise Limits(runtime_path=...)",
                module=requester.name,
            )
        return self._locator.find(
            request.name,
            origin=requester.origin if requester and dylink and dylink.runtime_path else None,
            runtime_path=dylink.runtime_path if dylink else (),
            requester=requester.name if requester else None,
            search=request.search,
            home=requester.home if requester else None,
            trusted=request.trusted,
        )

    def _find(self, request: Request) -> LoadedModule:
        self.check()
        module = self.find_loaded(request)
        if module is not None:
            return module
        found = self._file_of(request)
        module = self._paths.get(found.key) or self.state.by_path(found.key)
        if module is None:
            name = os.path.basename(request.name) if request.trusted else request.name
            requester = request.requester
            module = self._new_module(name, found, requester=requester.name if requester else None)
            module.home = found.home or (requester.home if requester else None)
            self._names[module.name] = module
        self._names.setdefault(request.name, module)
        return module

    def _new_module(self, name: str, found: _File, *, requester: str | None) -> LoadedModule:
        code = found.code
        if code is None:
            if not self.files.may_read:
                raise Unread
            code = found.code = self._cache.find(
                found.read(name, self.state.limits.library_size, requester),
                name=name,
                rewrite=self.state.rewrite_waits,
            )
        reason = why_no_library(code.info)
        if reason is not None:
            raise NotDynamicError(f"{name} {reason}\n  {found.path or 'bytes'}", module=name)
        module = LoadedModule(
            name, found.path, code.info, None, self.state.next_number(), key=found.key
        )
        count = len(self.state.modules) + len(self._added)
        if count >= self.state.limits.modules:
            raise LimitError(
                f"{name}: the limit of {self.state.limits.modules} modules is reached: raise Limits(modules=...)",
                module=name,
            )
        self._have(module, code, found)
        self._paths[found.key] = module
        self._added.append(module)
        return module

    def load(self, module: LoadedModule, data: bytes) -> None:
        """Give a module its code, at once or by :meth:`compile`. Raises LinkError children."""
        self._have(
            module, self._cache.find(data, name=module.name, rewrite=self.state.rewrite_waits)
        )

    def _have(
        self, module: LoadedModule, found: Code | Uncompiled, file: _File | None = None
    ) -> None:
        if isinstance(found, Uncompiled):
            self._uncompiled.append((module, found, file))
        else:
            module.code = found

    def validate(self) -> None:
        """Have wasmtime look at the modules that have no code yet.

        Raises ParseError, UnsupportedError.
        """
        for _, each, _ in self._uncompiled:
            each.validate()

    def compile(
        self, *, bind_now: bool, reading: Callable[[], AbstractContextManager[object]] = nullcontext
    ) -> None:
        """Compile what has no code yet, after all that can be known in less time: what is undefined, and what is not valid.

        Raises LinkError children. Without the load lock, ``reading`` is what keeps the modules of
        the program as they are.
        """
        if self._uncompiled:
            with reading():
                Rehearsal(self).decide(bind_now=bind_now)
            self.validate()
            for module, each, file in self._uncompiled:
                self.check()
                module.code = each.compile()
                if file is not None:
                    file.code = module.code
            self._uncompiled.clear()

    def _order(self, roots: Sequence[LoadedModule]) -> None:
        """Fill ``new``: dependencies first; in a cycle, the module reached first comes last, as with ``ld.so``."""
        if len(self.scope) == 1:
            self.new += self._added
            return
        done: set[LoadedModule] = set()
        added = set(self._added)
        for root in roots:
            if root in done:
                continue
            done.add(root)
            stack: list[tuple[LoadedModule, Iterator[LoadedModule]]] = [(root, iter(root.needed))]
            while stack:  # not recursive: a chain of libraries may be longer than Python's stack
                module, rest = stack[-1]
                following = next((each for each in rest if each not in done), None)
                if following is None:
                    stack.pop()
                    if module in added:
                        self.new.append(module)
                else:
                    done.add(following)
                    stack.append((following, iter(following.needed)))

    # 2. Place

    def make_room(self, memory_size: int) -> None:
        """Grow the memory, of ``memory_size`` bytes now, for all new modules at once; LimitError before it has grown."""
        self.state.memory.make_room(
            self.wanted_memory(), memory_size=memory_size, module=self.scope[0].name
        )

    def wanted_memory(self) -> list[tuple[int, int]]:
        """Return size and alignment (bytes) of the memory that each new module wants; LimitError for what no module can have."""
        wanted = []
        for module in self.new:
            if module.info.dylink is not None:
                check_alignment(module)
                wanted.append((module.info.dylink.memory_size, module.info.dylink.memory_alignment))
        return wanted

    def place(self, module: LoadedModule, *, memory_base: int | None = None) -> None:
        """Give a module, whose alignments are checked, its memory (unless the caller chose ``memory_base``) and its table slots."""
        dylink = module.info.dylink
        if dylink is None:
            return
        if memory_base is not None:
            module.memory_base = memory_base
        else:
            module.memory_base = self.state.memory.allocate(
                dylink.memory_size, dylink.memory_alignment, module.grants, module=module.name
            )
        module.table_base = self.state.table.allocate(
            dylink.table_size, dylink.table_alignment, module.grants, module=module.name
        )
        module.memory_reserved = memory_base is None
        if not module.brings_table:  # else they get slots as they are asked for: its table can grow once there is an instance
            self._place_functions(module)

    def _place_functions(self, module: LoadedModule) -> None:
        """Give the exported functions of a module their table slots, so that no pointer to one of them ever needs a rendezvous.

        Where there is no room for all of them, they get slots one by one as they are asked for.
        """
        count = len(module.outline.slot_exports)
        if count:
            try:
                module.slot_base = self.state.table.allocate(
                    count, 1, module.grants, module=module.name
                )
            except LimitError as error:
                logger.debug(
                    "%s: functions get slots when they are asked for: %s", module.name, error
                )
            else:
                module.has_slots = True

    # 3. Resolve

    def resolve(self, *, bind_now: bool) -> LoadModules:
        """Decide what every import of the new modules means, and return the operation that carries the load out.

        Raises UndefinedSymbolError, which lists everything that is missing, SignatureMismatchError,
        UnsupportedError, LimitError.
        """
        with self.tracer.span("resolve", modules=self.new):
            return self._resolve(bind_now=bind_now)

    def _resolve(self, *, bind_now: bool) -> LoadModules:
        self.state.heap.give([module for module in self.scope if module not in self.state.known])
        undefined: list[UndefinedSymbol] = []
        notes: list[str] = []
        patches: list[SlotPatch] = []
        scope = self.state.load_scope(self.scope)
        shared = SharedTrampolines() if self.permanent else None
        resolvers = []
        for module in self.new:
            self.check()
            resolver = Resolver(self, module, scope, undefined, patches, notes, bind_now=bind_now)
            resolver.resolve()
            resolvers.append(resolver)
            if not undefined:
                self._write_down(module, shared)
                if module is not self.new[-1]:
                    scope.become_ready(module)
            module.ready = True
        if undefined:
            raise UndefinedSymbolError(undefined, note="; ".join(notes))
        if shared is not None:
            shared.make(self._cache, self._host_calls, self.check)
        lazy = [module for module in self.new if module.plt.lazy]
        if lazy:
            addresses = scope.addresses()
            for module in lazy:
                module.native.bind_lazily(module.plt.lazy, addresses)
        for module, index, target, position in self._aims:
            module.native.aim(index, target.native, position)
        if wants_loads():
            everything = list(dict.fromkeys((*self.state.global_scope, *self.scope)))
            tell_load(
                [
                    (module, resolver.symbols())
                    for module, resolver in zip(self.new, resolvers, strict=True)
                ],
                everything,
            )
        return LoadModules(
            tuple(self.new), self._table_size(), tuple(patches), hosts=self.pointers.slots
        )

    def _write_down(self, module: LoadedModule, shared: SharedTrampolines | None) -> None:
        """Make the record from which all groups instantiate a new module."""
        self.state.give_place(module)
        module.native = native_library(
            module, self.state.tags, self._cache, self._host_calls, shared, self.check
        )
        module.address = module.native.address

    def aim_later(
        self, module: LoadedModule, index: int, target: LoadedModule, position: int
    ) -> None:
        """Let a trampoline lead to an export of another module as soon as both have their records."""
        self._aims.append((module, index, target, position))

    def _table_size(self) -> int:
        """Return how large the table must be: for what was given out, and for what the modules say they import."""
        wanted = self.state.table.size
        for module in self.new:
            for table in module.info.imported_tables:
                if table.limits.minimum > wanted:
                    wanted = table.limits.minimum
                    if wanted > self.state.limits.table:
                        raise LimitError(
                            f"{module.name}: imports a table of {wanted} slots; the limit is {self.state.limits.table}: "
                            "raise Limits(table=...)",
                            module=module.name,
                        )
        return wanted

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:
        """Return the table slot of a function, giving it one if it has none yet."""
        slot = definition.value
        if slot is None:
            module, export = definition.module, definition.export
            slot = self.state.table.allocate(1, 1, self._grants, module=module.name)
            module.slots[export.index] = slot
            self._given.append((module, export.index))
            patches.append(SlotPatch(slot, definition))
        return slot

    @property
    def given_slots(self) -> list[int]:
        """The table slots that the plan gave to functions, of new modules and of others."""
        given = [
            module.slots[function] for module, function in self._given if function in module.slots
        ]
        return given + [each.slot for each in self.pointers.slots]

    def keep(self) -> None:
        """Leave the slots that were given out to the modules whose functions they are of.

        If it is interrupted, :meth:`undo` does the rest.
        """
        while self._given:
            module, grant = self._given[-1][0], self._grants[-1]
            module.grants += [grant]  # and nothing is called up to the second `del`
            del self._given[-1]
            del self._grants[-1]

    def undo(self) -> None:
        """Give back memory and slots. A second time does nothing."""
        self.pointers.undo()
        for module, function in self._given:
            module.slots.pop(function, None)
        release_all(self._grants)
        self._given = []
        for module in self._added:
            self.state.release(module)


class _NoSlots(SlotAllocator):
    """A table that gives out nothing."""

    def allocate(self, count: int, alignment: int, grants: list[Grant], *, module: str) -> int:  # noqa: ARG002
        """Return no slot."""
        return 0


class Rehearsal(LoadPlan):
    """Decides the imports of another plan's modules as :meth:`LoadPlan.resolve` will, on stand-ins, and keeps nothing."""

    def __init__(self, plan: LoadPlan) -> None:
        super().__init__(plan.state, plan._locator, plan._cache, plan._host_calls)
        self.rehearses = True
        double = {
            each: LoadedModule(
                each.name, each.path, each.info, None, each.number, is_main=each.is_main
            )
            for each in plan.new
        }
        self.new = [*double.values()]
        self.scope = [double.get(each, each) for each in plan.scope]
        self.pointers = NewPointers(
            plan.state.imports, _NoSlots(0), plan._host_calls, rehearses=True
        )

    def decide(self, *, bind_now: bool) -> None:
        """Raise what :meth:`LoadPlan.resolve` would."""
        undefined: list[UndefinedSymbol] = []
        notes: list[str] = []
        for _, resolver in self.resolvers(undefined, notes, bind_now=bind_now):
            resolver.resolve()
        if undefined:
            raise UndefinedSymbolError(undefined, note="; ".join(notes))

    def resolvers(
        self, undefined: list[UndefinedSymbol], notes: list[str], *, bind_now: bool
    ) -> Iterator[tuple[LoadedModule, Resolver]]:
        """Iterate over what decides the imports of each new module, in the order of a load: done with one before the next."""
        scope = self.state.load_scope(self.scope)
        for module in self.new:
            check_alignment(module)
            # Who has the heap is decided with the placement.
            module.heap = None if self.state.heap.is_unknown_to(module) else (0, 0)
            yield module, Resolver(self, module, scope, undefined, [], notes, bind_now=bind_now)
            module.ready = True

    def slot_for(self, definition: Definition, patches: list[SlotPatch]) -> int:  # noqa: ARG002
        """Return no slot."""
        return 0


def why_no_library(info: ModuleInfo) -> str | None:
    """Return why a module cannot be opened as a library, as the end of a sentence about it, or None if it can."""
    start = info.private.get("_start")
    if start is not None and start.kind is Kind.FUNC:
        return (
            "is a program and not a dynamic library: it exports _start (run it as the main module)"
        )
    if info.dylink is None:
        return "is not a dynamic library: it has no dylink.0 section (link it with -shared)"
    if info.memories and not info.imported_memories:
        return "is a program and not a dynamic library: it brings its own memory (link it with -shared)"
    if not info.is_position_independent:
        return "is a program and not a dynamic library: it lies at fixed addresses (link it with -shared)"
    if info.fixed_slots:
        return "is not a dynamic library: it puts functions into fixed slots of the table (link it with -shared)"
    return None


def check_alignment(module: LoadedModule) -> None:
    """Refuse alignments beyond a page: no compiler asks for one, and a hostile one would waste gigabytes. Raises LimitError."""
    dylink = module.info.dylink
    if dylink is not None and max(dylink.memory_alignment, dylink.table_alignment) > _PAGE:
        raise LimitError(
            f"{module.name}: asks for data aligned to {dylink.memory_alignment} bytes and slots aligned to {dylink.table_alignment}; "
            f"the limit is {_PAGE}",
            module=module.name,
        )


def read_file(name: str, path: StrPath, limit: int, *, role: str = "library") -> tuple[str, bytes]:
    """Return the path of a file of the host's, links resolved, and its bytes.

    ``role`` is what it is called if it cannot be read.

    Raises LimitError beyond ``limit`` bytes, LibraryNotFoundError if it cannot be read.
    """
    file = RegularFile()
    real, problem = open_wherever(path, file)
    if problem is not None:
        raise LibraryNotFoundError(name, searched=[(real, problem)], role=role)
    return real, bytes_of(name, real, file, limit)


def bytes_of(
    name: str, path: str, file: RegularFile, limit: int, *, requester: str | None = None
) -> bytes:
    """Return the bytes of a file that is open. Raises LimitError, LibraryNotFoundError."""
    try:
        data = file.read(limit)
    except OSError as error:
        reason = os.strerror(check_errno(error)).lower()
        raise LibraryNotFoundError(name, searched=[(path, reason)], requester=requester) from error
    if data is None:
        # A guest is told the first line, and paths of the host are none of its business.
        raise LimitError(
            f"{name}: the file has more than {limit} bytes: raise Limits(library_size=...)\n  {path}",
            module=name,
        )
    return data
