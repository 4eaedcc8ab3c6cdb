"""The start of a program: its main module, its libraries, and where they lie in memory.

Four kinds of main module differ in who owns memory and table:

* position-independent, importing memory and table: the linker makes both;
* position-independent, defining its memory: the linker raises the minimum of that memory to what
  the program needs;
* a program at fixed addresses, with a ``dylink.0`` section or without: libraries are placed behind
  it. It is instantiated first, with all calls into libraries bound lazily; but if it needs
  libraries or imports from the GOT, all are decided together and instantiated in one load, since
  entries of the GOT are filled before the program exists;
* none: a set of libraries; the linker makes memory and table.

In the memory the linker lays out, the stack comes first, so that an overflow traps at address 0
instead of overwriting data; then the main module's data, then the libraries', then the heap.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import wasmtime

from pylinker.errors import LimitError, LinkError, SignatureMismatchError, UnsupportedError
from pylinker.linker.modules.layout import (
    constant_global,
    initial_memory,
    program_layout,
    sharing,
    sharing_note,
)
from pylinker.linker.modules.module import LoadedModule
from pylinker.linker.plan.files import ModuleBytes, Request
from pylinker.linker.plan.heap import asks_for_heap
from pylinker.linker.plan.plan import check_alignment
from pylinker.linker.ranges import align_up
from pylinker.runtime.outline import HeapUse
from pylinker.wasm import GOT_FUNC, GOT_MEM, Limits, MemoryType, TableType, with_memory_minimum

if TYPE_CHECKING:
    from pylinker.linker.load.linker import Linker
    from pylinker.linker.plan.operation import LoadModules
    from pylinker.linker.plan.plan import LoadPlan
    from pylinker.runtime.code import CodeCache
    from pylinker.wasm import ModuleInfo

__all__ = ["MainFile", "start"]

_PAGE = 1 << 16
_STACK_ALIGNMENT = 16
_GOT = frozenset({GOT_FUNC, GOT_MEM})


class MainFile(NamedTuple):
    """A main module before it is loaded."""

    name: str
    """Its name in messages."""
    path: str | None
    """The path of its file, or None for bytes in memory."""
    data: bytes
    """Its bytes."""


def start(
    linker: Linker,
    cache: CodeCache,
    main: MainFile | None,
    libraries: Sequence[str | ModuleBytes],
    *,
    stack_size: int,
) -> None:
    """Load a program: its main module, then ``libraries`` (names that the host wrote).

    That is their order in the global scope. Raises LinkError children; the linker cannot be used
    then.
    """
    module: LoadedModule | None = None
    if main is not None:
        info = cache.parse(main.data, name=main.name)
        _check_memory(info, main.name)
        module = LoadedModule(
            main.name, main.path, info, None, linker.state.next_number(), is_main=True
        )
        linker.state.main = module
    else:
        linker.state.next_number()  # number 1 is the handle of the program as a whole
    requests = [Request(name, trusted=True) for name in libraries]
    if main is None or module is None:
        _start_independent(linker, None, None, requests, stack_size)
    elif module.is_position_independent:
        _start_independent(linker, main, module, requests, stack_size)
    else:
        _start_fixed(linker, main, module, requests)


def _start_independent(
    linker: Linker,
    main: MainFile | None,
    module: LoadedModule | None,
    requests: Sequence[Request],
    stack_size: int,
) -> None:
    plan = linker.new_plan()
    plan.permanent = True
    plan.discover([*([module] if module else []), *requests])
    _note_wasix(linker, plan.scope)
    memory = _common_memory(plan.scope)
    _check_threads(linker, plan.scope, shared=memory.shared)
    heap, pages = _lay_out(linker, plan, stack_size, memory.minimum)
    _check_pages(pages, memory.maximum)
    linker.state.linker_symbols.update(
        {
            "__stack_low": 0,
            "__stack_high": align_up(stack_size, _STACK_ALIGNMENT),
            "__global_base": align_up(stack_size, _STACK_ALIGNMENT),
            "__data_end": heap,
            "__heap_base": heap,
            "__heap_end": pages * _PAGE,
        }
    )
    linker.state.heap.lay_out(heap, pages * _PAGE)
    if module is not None and main is not None:
        if module.info.memories:  # everything else needs this memory
            plan.new.remove(module)
            plan.new.insert(0, module)
        _load_main(plan, main, module, pages)
    plan.compile(bind_now=linker.bind_now)
    operation = plan.resolve(bind_now=linker.bind_now)
    _make_memory(linker, module, pages, memory)
    _make_table(linker, plan, module, operation)
    linker.group.make_stack_pointer(align_up(stack_size, _STACK_ALIGNMENT))
    linker.commit_start(plan, operation)


def _start_fixed(
    linker: Linker, main: MainFile, module: LoadedModule, requests: Sequence[Request]
) -> None:
    linker.state.linker_symbols.update(program_layout(module.info))
    linker.state.heap.belongs_to_program(module)
    dylink = module.info.dylink
    moves_heap = module.outline.heap & HeapUse.SBRK_POINTER and requests
    if (
        moves_heap
        or (dylink is not None and dylink.needed)
        or any(each.module in _GOT for each in module.info.imports)
    ):
        _start_together(linker, main, module, requests)
    else:
        _start_alone(linker, main, module, requests)


def _start_alone(
    linker: Linker, main: MainFile, module: LoadedModule, requests: Sequence[Request]
) -> None:
    """Start a program at fixed addresses that imports no addresses.

    Its libraries are loaded as if it had opened them.
    """
    plan = linker.new_plan()
    plan.permanent = True
    plan.discover([module])
    _note_wasix(linker, plan.scope)
    _note_slots(linker, module)
    plan.load(module, main.data)
    _check_threads(linker, [module], shared=any(each.limits.shared for each in _memories([module])))
    if requests and module.code is None:
        preview = linker.new_plan()
        preview.discover(requests)
        preview.validate()
    plan.compile(bind_now=False)
    operation = plan.resolve(bind_now=False)
    for type_ in _memories([module]):
        linker.group.make_memory(type_)
    for table in _tables([module]):
        linker.group.make_table(table.limits)
    if module.info.is_dynamic and not (module.info.tables or module.info.imported_tables):
        linker.group.make_table(Limits(1, None))
    linker.commit_start(plan, operation)
    if linker.group.has_table:
        linker.state.table.note_size(linker.group.table_size)
    if requests:
        later = linker.new_plan()
        later.permanent = True
        later.discover(requests)
        later.compile(bind_now=linker.bind_now)
        linker.load_later(later)
    linker.symbols.check_trampolines(module)


def _start_together(
    linker: Linker, main: MainFile, module: LoadedModule, requests: Sequence[Request]
) -> None:
    """Start a program at fixed addresses together with its libraries.

    They lie behind the memory that it imports or defines. Emscripten's ``sbrk`` takes all memory
    behind the data, so in its programs the libraries lie where the heap would begin, and the heap
    begins behind them: it is moved before any constructor runs, as Emscripten's own loader does.
    """
    plan = linker.new_plan()
    plan.permanent = True
    plan.discover([module, *requests])
    _note_wasix(linker, plan.scope)
    memory = _common_memory(plan.scope)
    _check_threads(linker, plan.scope, shared=memory.shared)
    pages = _lay_out_behind(linker, plan, module, memory.minimum)
    _check_pages(pages, memory.maximum)
    # Everything else needs what it brings: memory, table, stack pointer.
    plan.new.remove(module)
    plan.new.insert(0, module)
    _load_main(plan, main, module, pages)
    plan.compile(bind_now=linker.bind_now)
    operation = plan.resolve(bind_now=linker.bind_now)
    _make_memory(linker, module, pages, memory)
    _make_table(linker, plan, module, operation)
    begin = module.outline.heap & HeapUse.TAKES_ALL and len(plan.scope) > 1
    linker.commit_start(
        plan, operation, functools.partial(_move_heap, linker, module) if begin else None
    )


def _move_heap(linker: Linker, main: LoadedModule) -> None:
    """Let Emscripten's ``sbrk`` begin behind the libraries of the start.

    Runs a function of the guest that only returns an address.
    """
    group, memory = linker.group, linker.memory
    try:
        address = group.call(group.function(main, "emscripten_get_sbrk_ptr"))
    except wasmtime.Trap as error:
        raise LinkError(
            f"{main.name}: emscripten_get_sbrk_ptr trapped",
            module=main.name,
            symbol="emscripten_get_sbrk_ptr",
        ) from error
    begins = constant_global(main.info, "__heap_base") or 0
    if memory.read(address, 4) != begins.to_bytes(4, "little"):
        raise LinkError(
            f"{main.name}: its heap is in use before it was started",
            module=main.name,
            symbol="emscripten_get_sbrk_ptr",
        )
    memory.write(address, linker.state.heap.start.to_bytes(4, "little"))


def _note_slots(linker: Linker, main: LoadedModule) -> None:
    """Reserve the slots of a main module at fixed addresses, and others if it imports a base."""
    linker.state.table.note_size(main.fixed_slots)
    dylink = main.info.dylink
    if dylink is not None and any(
        (each.module, each.name) == ("env", "__table_base") for each in main.info.imports
    ):
        check_alignment(main)
        main.table_base = linker.state.table.allocate(
            dylink.table_size, dylink.table_alignment, main.grants, module=main.name
        )


def _load_main(plan: LoadPlan, main: MainFile, module: LoadedModule, pages: int) -> None:
    """Give the main module its code, at once or by ``plan.compile``.

    A memory that it defines begins with ``pages`` pages.
    """
    data = main.data
    if module.info.memories:
        data = with_memory_minimum(data, pages, name=module.name)
        if "memory" not in module.info.exports:
            raise UnsupportedError(
                f"{module.name}: defines its memory but does not export it as 'memory'",
                module=module.name,
            )
    plan.load(module, data)


def _check_pages(pages: int, maximum: int | None) -> None:
    if maximum is not None and pages > maximum:
        raise LimitError(
            f"the program needs {pages} pages of memory; a module allows at most {maximum}"
        )


def _make_memory(linker: Linker, module: LoadedModule | None, pages: int, memory: Limits) -> None:
    """Make the memory unless the main module brings it."""
    if module is None or not module.info.memories:
        maximum = memory.maximum
        if maximum is not None:
            maximum = min(maximum, linker.state.limits.memory // _PAGE)
        linker.group.make_memory(MemoryType(Limits(pages, maximum, memory.shared)))


def _make_table(
    linker: Linker, plan: LoadPlan, module: LoadedModule | None, operation: LoadModules
) -> None:
    """Make the table unless the main module brings it."""
    maxima = [
        each.limits.maximum for each in _tables(plan.scope) if each.limits.maximum is not None
    ]
    if maxima and min(maxima) < operation.table_size:
        raise LimitError(
            f"the program needs {operation.table_size} table slots; "
            f"a module allows at most {min(maxima)}"
        )
    linker.state.table_maximum = min(maxima, default=None)
    if module is None or not module.brings_table:
        linker.group.make_table(Limits(operation.table_size, linker.state.table_maximum))


def _note_wasix(linker: Linker, modules: Sequence[LoadedModule]) -> None:
    """Have the program be a WASIX program if one of its modules wants that."""
    if any(module.outline.wasix for module in modules):
        linker.become_wasix()


def _check_threads(linker: Linker, modules: Sequence[LoadedModule], *, shared: bool) -> None:
    """Refuse a threaded program whose memory cannot be shared by all its instances.

    Raises UnsupportedError.
    """
    own = [module for module in modules if module.info.memories]
    if linker.state.threaded and (own or not shared):
        name = own[0].name if own else modules[0].name if modules else "program"
        raise UnsupportedError(
            f"{name}: threads=True needs a memory that is shared and imported: "
            "compile with -pthread, link with --shared-memory --import-memory",
            module=name,
        )


def _lay_out(linker: Linker, plan: LoadPlan, stack_size: int, minimum: int) -> tuple[int, int]:
    """Place all modules of the plan.

    Returns:
        The start of the heap in bytes, and the size of the memory in pages.
    """
    cursor = align_up(stack_size, _STACK_ALIGNMENT)
    for module in plan.scope:
        if module.is_main:
            linker.state.table.note_size(module.fixed_slots)
        cursor = _place_at(linker, plan, module, cursor)
    heap = align_up(cursor, _STACK_ALIGNMENT)
    wanted = any(asks_for_heap(module.outline.heap) for module in plan.scope)
    pages = max(align_up(heap + wanted, _PAGE) // _PAGE, minimum)
    _check_memory_limit(linker, pages)
    return heap, pages


def _lay_out_behind(linker: Linker, plan: LoadPlan, main: LoadedModule, minimum: int) -> int:
    """Place the libraries of a plan behind a main module at fixed addresses.

    Returns:
        The size of the memory in pages.
    """
    _note_slots(linker, main)
    size = cursor = initial_memory(main.info) or 0
    heap = main.outline.heap
    moves = bool(heap & HeapUse.TAKES_ALL and len(plan.scope) > 1)
    if moves:
        begins = constant_global(main.info, "__heap_base")
        if begins is None or not heap & HeapUse.SBRK_POINTER:
            raise UnsupportedError(
                f"{main.name}: its heap takes all memory, and it does not export "
                "emscripten_get_sbrk_ptr and __heap_base, so there is no place for the libraries "
                "that it begins with",
                module=main.name,
                symbol="emscripten_get_sbrk_ptr",
            )
        cursor = begins
    start = cursor
    for module in plan.scope:
        if module is not main:
            cursor = _place_at(linker, plan, module, cursor)
    if moves:
        linker.state.heap.start = align_up(cursor, _STACK_ALIGNMENT)
        # The heap is as large as the program wants it.
        cursor = size + linker.state.heap.start - start
    pages = max(align_up(cursor, _PAGE) // _PAGE, minimum)
    _check_memory_limit(linker, pages)
    if asks_for_heap(heap) and "__heap_base" not in main.info.exports:  # the linker decides
        linker.state.heap.lay_out(align_up(cursor, _STACK_ALIGNMENT), pages * _PAGE)
    return pages


def _place_at(linker: Linker, plan: LoadPlan, module: LoadedModule, cursor: int) -> int:
    """Place a module of the start behind ``cursor``; returns where it ends."""
    dylink = module.info.dylink
    assert dylink is not None
    check_alignment(module)
    base = align_up(cursor, max(dylink.memory_alignment, _STACK_ALIGNMENT))
    end = base + dylink.memory_size
    if end > linker.state.limits.memory:
        raise LimitError(
            f"{module.name}: {dylink.memory_size} bytes of data aligned to "
            f"{dylink.memory_alignment} do not fit into "
            f"{linker.state.limits.memory} bytes of memory: raise Limits(memory=...)",
            module=module.name,
        )
    plan.allocate(module, memory_base=base)
    return end


def _check_memory(info: ModuleInfo, name: str) -> None:
    """Refuse a main module with a 64-bit memory: WASI and libraries have 32-bit addresses.

    Raises UnsupportedError.
    """
    if any(each.limits.is64 for each in (*info.imported_memories, *info.memories)):
        raise UnsupportedError(f"{name}: 64-bit memories are not supported", module=name)


def _check_memory_limit(linker: Linker, pages: int) -> None:
    if pages * _PAGE > linker.state.limits.memory:
        raise LimitError(
            f"the program needs {pages * _PAGE} bytes of memory; "
            f"the limit is {linker.state.limits.memory}: raise Limits(memory=...)"
        )


def _common_memory(modules: Iterable[LoadedModule]) -> Limits:
    """Return limits that all modules accept: the largest minimum, the smallest maximum.

    Raises:
        SignatureMismatchError: There are none.
    """
    minimum, maximum, first = 1, None, None
    for module in modules:
        for type_ in (*module.info.memories, *_memories([module])):
            if type_.limits.is64:
                raise UnsupportedError(
                    f"{module.name}: 64-bit memories are not supported", module=module.name
                )
            if first is None:
                first = (module, type_.limits.shared)
            elif first[1] != type_.limits.shared:
                raise SignatureMismatchError(
                    module=module.name,
                    symbol="memory",
                    wanted=sharing(type_.limits.shared),
                    provider=first[0].name,
                    found=sharing(first[1]),
                    note=sharing_note(
                        first[0].name if type_.limits.shared else module.name, shared=False
                    ),
                )
            minimum = max(minimum, type_.limits.minimum)
            if type_.limits.maximum is not None:
                maximum = (
                    type_.limits.maximum if maximum is None else min(maximum, type_.limits.maximum)
                )
    return Limits(minimum, maximum, shared=bool(first and first[1]))


def _memories(modules: Iterable[LoadedModule]) -> list[MemoryType]:
    return [memory for module in modules for memory in module.info.imported_memories]


def _tables(modules: Iterable[LoadedModule]) -> list[TableType]:
    return [table for module in modules for table in module.info.imported_tables]
