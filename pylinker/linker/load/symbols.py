"""Lookups while a program runs: by name, by address and slot, and lazy binding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pylinker._libc import advice
from pylinker.errors import (
    LinkError,
    SignatureMismatchError,
    SymbolNotFoundError,
    UndefinedSymbol,
    UndefinedSymbolError,
)
from pylinker.linker.guests.table import host_type, provided_type
from pylinker.linker.modules.scope import ScopeSnapshot, SymbolScope, reachable
from pylinker.linker.plan.imports import NewPointers, UnknownTypeError
from pylinker.linker.plan.operation import AllocateFunctionTable, ResolveFunction, SlotPatch
from pylinker.linker.plan.state import scope_of_handle
from pylinker.linker.ranges import Grant, release_all
from pylinker.native.enums import SymbolKind
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.groups.link_state import ThreadLinkState
    from pylinker.linker.modules.module import Definition, LoadedModule, PltEntry
    from pylinker.linker.plan.record import HostCalls
    from pylinker.linker.plan.state import LinkerState

__all__ = ["SymbolInfo", "Symbols"]


class SymbolInfo(NamedTuple):
    """The module and symbol of an address or a table slot, as ``dladdr`` returns it."""

    module: str
    """The name of the module."""
    base: int
    """The module's memory base, or its table base for a slot."""
    symbol: str | None
    """The nearest symbol at or below, or None."""
    value: int | None
    """The address or slot of the symbol, or None."""


class Symbols:
    """Lookups in the modules of a program.

    Safe to use from all its threads; blocks for the read lock only, unless it says otherwise.
    """

    def __init__(self, context: ThreadLinkState, host_calls: HostCalls, *, bind_now: bool) -> None:
        self._context = context
        self._host_calls = host_calls
        self._bind_now = bind_now

    def resolve_trampoline(self, module: LoadedModule, index: int) -> None:
        """Bind an entry of a module's PLT in the calling group: at the first call of the guest.

        The definition was found at load or is found by the first group to call; no rendezvous.

        Raises:
            UndefinedSymbolError: The symbol is undefined; a trap with the same text in the guest.
            SignatureMismatchError: It has another type; likewise.
        """
        group = self._context.group
        with self._context.reading():
            entry = module.plt[index]
            definition = entry.definition or self._decide(module, entry)
            if not group.has(definition.module):
                raise LinkError(
                    f"{module.name}: {entry.name} of {definition.module.name} was called before "
                    "that module was instantiated",
                    module=module.name,
                    symbol=entry.name,
                )
            # The other groups need not look it up.
            module.native.aim(index, definition.module.native, definition.position)
            group.bind(module, index, definition)

    def _decide(self, module: LoadedModule, entry: PltEntry) -> Definition:
        state = self._context.state
        definition = self._lookup(module, entry)
        if definition is None:
            host = provided_type(entry.module, entry.name, threaded=state.threaded)
            if host is not None:  # with the right type it was provided at load
                raise SignatureMismatchError(
                    module=module.name,
                    symbol=entry.name,
                    wanted=str(entry.type),
                    provider=host[1],
                    found=str(host[0]),
                )
            name = entry.name if entry.module == "env" else f"{entry.module}.{entry.name}"
            raise UndefinedSymbolError(
                [UndefinedSymbol(module.name, name, "function")],
                note=_called(entry.module, entry.name),
            )
        if definition.type != entry.type:
            raise SignatureMismatchError(
                module=module.name,
                symbol=entry.name,
                wanted=str(entry.type),
                provider=definition.module.name,
                found=str(definition.type),
            )
        # Two groups may come here at once, under read locks: scopes do not change meanwhile, so
        # they decide the same.
        entry.definition = definition
        if definition.module is not module:
            module.bound.add(definition.module)
        return definition

    def _lookup(self, module: LoadedModule, entry: PltEntry) -> Definition | None:
        return (
            self._context.state.scope_of(module).find(entry.name, asks=module)
            if entry.module == "env"
            else None
        )

    def check_trampolines(self, module: LoadedModule) -> None:
        """With ``bind_now``, bind the PLT of a module that was linked before its libraries."""
        if not self._bind_now:
            return
        undefined = []
        for index, entry in enumerate(module.plt):
            host = provided_type(entry.module, entry.name, threaded=self._context.state.threaded)
            with self._context.reading():
                definition = self._lookup(module, entry)
            if definition is not None or host is not None:
                self.resolve_trampoline(module, index)
            elif entry.definition is None:
                undefined.append(UndefinedSymbol(module.name, entry.name, "function"))
        if undefined:
            raise UndefinedSymbolError(undefined)

    def find(
        self,
        name: str,
        scope: Callable[[LinkerState], SymbolScope],
        *,
        asks: LoadedModule | None = None,
        after: LoadedModule | None = None,
    ) -> Definition | None:
        """Return the definition of a name in a scope for ``dlsym``, or None.

        ``main`` has other names in WebAssembly, by its parameters. ``asks`` and ``after`` are those
        of :meth:`SymbolScope.find`.
        """
        with self._context.reading():
            found = scope(self._context.state)
            return (
                found.find_main(after=after)
                if name == "main"
                else found.find(name, asks=asks, after=after)
            )

    def snapshot_of(self, module: LoadedModule | None) -> ScopeSnapshot:
        """Return the scope of a handle of the host (None: the program) as it is now.

        Empty if the guest has closed the library. Never blocks: no lock is held. The generation is
        read before the modules are listed, and lists are replaced and not changed, so a change
        meanwhile makes the snapshot a stale one.
        """
        context = self._context
        shared = context.main_group.state.shared
        generation = shared.changes
        modules: Sequence[LoadedModule]
        if module is None or module.is_main:
            modules = context.state.global_scope
        else:
            modules = reachable(module) if module in context.state.known else ()
        return ScopeSnapshot(modules, shared, context.main_lock, generation)

    def is_stale(self, snapshot: ScopeSnapshot) -> bool:
        """Whether the state has changed since the snapshot. Never blocks."""
        return snapshot.generation != self._context.shared.changes

    def find_of(self, module: LoadedModule | None, name: str) -> Definition | None:
        """Return the definition of a name for a handle of the host (None: the program), or None.

        Works after the program has ended, too: nothing is loaded then, and a load that did not
        finish was about to replace lists, not to change them.
        """
        scope = scope_of_handle(module)
        if self._context.shared.cause:
            return scope(self._context.state).find(name)
        with self._context.reading():
            return scope(self._context.state).find(name)

    @staticmethod
    def functions(modules: Iterable[LoadedModule]) -> list[str]:
        """Return the names of the functions that modules define, each once.

        A name is left out if its first definition is data.
        """
        seen: dict[str, bool] = {}
        for module in modules:
            for name, kind, *_ in module.outline.symbols():
                seen.setdefault(name, kind is SymbolKind.FUNCTION)
        return [name for name, is_function in seen.items() if is_function]

    def value_of(self, definition: Definition) -> int | None:
        """Return the address or table slot of a definition; None if it has neither, as a tag.

        Blocks: for a rendezvous if it is a function that has no slot yet.
        """
        value = definition.value
        if definition.kind is SymbolKind.FUNCTION:
            return self._new_slot(definition) if value is None else value
        if value is not None and definition.is_thread_local:
            module = definition.module
            with self._context.reading():
                base = self._context.group.tls_base(module)
            if not base:  # it has one, but does not export where
                raise SymbolNotFoundError(
                    f"{module.name}: {definition.name} is thread-local, and the module does not "
                    "export __tls_base",
                    module=module.name,
                    symbol=definition.name,
                )
            value += base
        return value

    def _new_slot(self, definition: Definition) -> int:
        module, export = definition.module, definition.export
        state, group = self._context.state, self._context.group
        grants: list[Grant] = []

        def commit() -> None:
            if grants:
                module.slots[export.index] = grants[0].start
                module.grants += grants  # and nothing is called up to the `del`
                del grants[0]

        def undo() -> None:
            if grants and grants[0].start < group.table_size:
                group.empty_slot(grants[0].start)
            release_all(grants)

        try:
            with self._context.exclusive() as change:
                slot = definition.value  # another thread may have been here first
                if slot is not None:
                    return slot
                state.table.note_size(group.table_size)
                slot = state.table.allocate(1, 1, grants, module=module.name)
                operation = ResolveFunction(state.table.size, SlotPatch(slot, definition))
                group.apply(operation)
                change.publish(operation, commit)
        except BaseException:
            if grants:
                self._context.undo(undo)
            raise
        return slot

    def imported(self, name: str) -> int | None:
        """Return the table slot of a function of the program's user, or None.

        Blocks: for a rendezvous if it has no slot yet.

        Raises:
            SymbolNotFoundError: No module imports it, so its type is not known.
        """
        state = self._context.state
        if ("env", name) not in state.imports:
            return None
        try:
            return self._host_slot(
                name, lambda new: new.slot_for(name, importer=None, modules=state.modules)
            )
        except UnknownTypeError as error:
            raise SymbolNotFoundError(str(error), symbol=name) from error

    def provided(self, name: str, type_: FuncType | None = None) -> int | None:
        """Return the table slot of a function that pylinker provides, or None.

        ``type_`` is that of a function that has no name for guests. Blocks: for a rendezvous if it
        has no slot yet.
        """
        found = type_ or host_type("env", name)
        return (
            None if found is None else self._host_slot(name, lambda new: new.provided(name, found))
        )

    def _host_slot(self, name: str, give: Callable[[NewPointers], int]) -> int:
        context = self._context
        state, group = context.state, context.group
        known = state.imports.pointers.get(name)  # they are never freed
        if known is not None:
            return known.slot.slot
        pointers = NewPointers(state.imports, state.table, self._host_calls)

        def undo() -> None:
            for each in pointers.slots:
                if each.slot < group.table_size:
                    group.empty_slot(each.slot)
            pointers.undo()

        try:
            with context.exclusive() as change:
                state.table.note_size(group.table_size)
                slot = give(pointers)
                if pointers.slots:  # else another thread was here first
                    operation = AllocateFunctionTable(state.table.size, pointers.slots[0])
                    group.apply(operation)
                    change.publish(operation, pointers.keep)
        except BaseException:
            if pointers.has_any:
                context.undo(undo)
            raise
        return slot

    def symbol_at(
        self, *, address: int | None = None, slot: int | None = None
    ) -> SymbolInfo | None:
        """Return the module and symbol of an address or a table slot, or None.

        The address may be given as a negative i32.
        """
        if address is not None and -(1 << 31) <= address < 0:
            address += 1 << 32
        with self._context.reading():
            value: int | None
            if slot is not None:
                owner = self._at_slot(slot)
                if owner is None:
                    return None
                module, definition = owner
                base, value = module.table_base, slot
            else:
                assert address is not None
                found = SymbolScope(self._context.state.modules).at_address(address)
                if found is None:
                    return None
                module, definition = found
                base, value = module.memory_base, _value(definition)
        if definition is None:
            return SymbolInfo(module.name, base, None, None)
        return SymbolInfo(module.name, base, definition.name, value)

    def type_at(self, slot: int) -> FuncType | None:
        """Return the type of the function in a table slot, or None.

        Of a module's function or one of the program's user; a guest may have put another there.
        """
        with self._context.reading():
            owner = self._at_slot(slot)
            if owner is None:
                pointers = self._context.state.imports.pointers.values()
                return next((each.type for each in pointers if each.slot.slot == slot), None)
            module, definition = owner
            if definition is not None and isinstance(definition.type, FuncType):
                return definition.type
            function = module.function_at(slot)
            return None if function is None else module.info.function_type(function)

    def locate(
        self, value: int
    ) -> tuple[LoadedModule | None, str, int, str | None, int | None] | None:
        """Return what a function pointer or an address belongs to, as a guest's ``dladdr``.

        A number that is both is taken for a function pointer. The caller has the lock.

        Returns:
            The module (None: the host), its name, its memory base, the symbol and its value; None
            if it belongs to no module.
        """
        state = self._context.state
        for name, pointer in state.imports.pointers.items():
            if pointer.slot.slot == value:
                return None, "pylinker", 0, name, value
        owner = self._at_slot(value)
        if owner is not None:
            module, definition = owner
            at = None if definition is None else value
        else:
            found = SymbolScope(state.modules).at_address(value)
            if found is None:
                return None
            module, definition = found
            at = _value(definition)
        symbol = None if definition is None else definition.name
        return module, module.name, module.memory_base, symbol, at

    def owner_of(self, *, slot: int, address: int | None = None) -> LoadedModule | None:
        """Return the module whose data is at an address or else whose function is in a slot.

        Raises:
            LinkError: The caller is a module that is just being loaded.
        """
        self._context.check_not_instantiating()
        with self._context.reading():
            modules = self._context.state.modules
            for module in modules if address else ():
                assert address is not None
                if module.memory_base <= address < module.memory_base + max(module.memory_size, 1):
                    return module
            owner = self._at_slot(slot)
        return None if owner is None else owner[0]

    def _at_slot(self, slot: int) -> tuple[LoadedModule, Definition | None] | None:
        """Return the module whose function is in a slot, and the symbol that is the function.

        The core knows the slots of all symbols but those that were given out after the load. Only
        for the rest are the element segments of modules read.
        """
        modules = self._context.state.modules
        definition = SymbolScope(modules).at_slot(slot)
        if definition is not None:
            return definition.module, definition
        for module in modules:
            if _may_fill(module, slot):
                function = module.function_at(slot)
                if function is not None:
                    return module, module.definition_of(function)
        return None


def _may_fill(module: LoadedModule, slot: int) -> bool:
    """Whether a function of the module that the core does not know may be in a slot."""
    return (
        not module.is_position_independent
        or module.table_base <= slot < module.table_base + module.table_size
        or slot in module.slots.values()
    )


def _value(definition: Definition | None) -> int | None:
    return None if definition is None else definition.value


def _called(module: str, name: str) -> str:
    """Return the advice for an undefined function that was called.

    A function of the C library has another advice.
    """
    if advice([name]):
        return "it was called"
    key = name if module == "env" else (module, name)
    return (
        f"it was called: give it as imports={{{key!r}: function}}, or load the library that has it"
    )
