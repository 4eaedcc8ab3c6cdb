"""How a program begins: its main module of whatever kind, its libraries, and where they lie in memory.

Four kinds of main module differ in who owns what:

* position-independent, importing memory and table: the linker makes both;
* position-independent, defining its memory: the linker raises the minimum of that memory to what the program needs;
* an ordinary program with addresses of its own: it is instantiated first, with all calls into libraries bound late, and
  libraries are placed behind it;
* none: a set of libraries; the linker makes memory and table.

In the memory the linker lays out, the stack comes first, so that an overflow traps at address 0 instead of eating data; then the main
module's data, then the libraries', then the heap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from pylinker.errors import LimitError, SignatureMismatchError, UnsupportedError
from pylinker.linker.module import LoadedModule
from pylinker.linker.plan import Request, check_alignment
from pylinker.linker.ranges import align_up
from pylinker.wasm import Limits, MemoryType, TableType, with_memory_minimum

if TYPE_CHECKING:
    from pylinker.linker.linker import Linker
    from pylinker.linker.plan import LoadPlan
    from pylinker.runtime.code import CodeCache

__all__ = ["MainFile", "start"]

_PAGE = 1 << 16
_STACK_ALIGNMENT = 16


class MainFile(NamedTuple):
    """A main module before it is loaded: its name, the path of its file (None for bytes in memory) and its bytes."""

    name: str
    path: str | None
    data: bytes


def start(linker: Linker, cache: CodeCache, main: MainFile | None, libraries: Sequence[str], *, stack_size: int) -> None:
    """Load a program: its main module, then ``libraries`` (names the host wrote), in that order of the global scope.

    Raises LinkError children; the linker is of no use then.
    """
    module: LoadedModule | None = None
    if main is not None:
        info = cache.parse(main.data, name=main.name)
        module = LoadedModule(main.name, main.path, info, None, linker.state.next_number(), is_main=True)
        linker.state.main = module
    else:
        linker.state.next_number()  # number 1 is the handle of the program as a whole
    requests = [Request(name, trusted=True) for name in libraries]
    if main is None or module is None:
        _start_independent(linker, cache, None, None, requests, stack_size)
    elif module.is_position_independent:
        _start_independent(linker, cache, main, module, requests, stack_size)
    else:
        _start_fixed(linker, cache, main, module, requests)


def _start_independent(
    linker: Linker,
    cache: CodeCache,
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
    if memory.maximum is not None and pages > memory.maximum:
        raise LimitError(f"the program needs {pages} pages of memory; a module allows at most {memory.maximum}")
    linker.state.linker_symbols.update(
        {
            "__stack_low": 0,
            "__stack_high": align_up(stack_size, _STACK_ALIGNMENT),
            "__heap_base": heap,
            "__heap_end": pages * _PAGE,
        }
    )
    if module is not None and main is not None:
        data = main.data
        if module.info.memories:
            data = with_memory_minimum(data, pages, name=module.name)
            if "memory" not in module.info.exports:
                raise UnsupportedError(f"{module.name}: defines its memory but does not export it as 'memory'", module=module.name)
            # Everything else needs this memory.
            plan.new.remove(module)
            plan.new.insert(0, module)
        module.code = cache.load(data, name=module.name, rewrite=linker.state.rewrite_waits)
    operation = plan.resolve(bind_now=linker.bind_now)
    if module is None or not module.info.memories:
        maximum = memory.maximum
        if maximum is not None:
            maximum = min(maximum, linker.state.limits.memory // _PAGE)
        linker.group.make_memory(MemoryType(Limits(pages, maximum, memory.shared)))
    tables = [each.limits for each in _tables(plan.scope)]
    maxima = [each.maximum for each in tables if each.maximum is not None]
    if maxima and min(maxima) < operation.table_size:
        raise LimitError(f"the program needs {operation.table_size} table slots; a module allows at most {min(maxima)}")
    linker.state.table_maximum = min(maxima, default=None)
    if not (module and module.info.tables and "__indirect_function_table" in module.info.exports):
        linker.group.make_table(Limits(operation.table_size, linker.state.table_maximum))
    linker.group.make_stack_pointer(align_up(stack_size, _STACK_ALIGNMENT))
    linker.commit_start(plan, operation)


def _start_fixed(linker: Linker, cache: CodeCache, main: MainFile, module: LoadedModule, requests: Sequence[Request]) -> None:
    plan = linker.new_plan()
    plan.permanent = True
    plan.discover([module])
    _note_wasix(linker, plan.scope)
    module.code = cache.load(main.data, name=module.name, rewrite=linker.state.rewrite_waits)
    _check_threads(linker, [module], shared=any(each.limits.shared for each in _memories([module])))
    operation = plan.resolve(bind_now=False)
    for type_ in _memories([module]):
        linker.group.make_memory(type_)
    for table in _tables([module]):
        linker.group.make_table(table.limits)
    linker.commit_start(plan, operation)
    if linker.group.has_table:
        linker.state.table.note_size(linker.group.table_size)
    if requests:
        later = linker.new_plan()
        later.permanent = True
        later.discover(requests)
        linker.load_later(later)
    linker.symbols.check_trampolines(module)


def _note_wasix(linker: Linker, modules: Sequence[LoadedModule]) -> None:
    """Have the program be a WASIX program if one of its modules wants that."""
    if any(module.outline.wasix for module in modules):
        linker.become_wasix()


def _check_threads(linker: Linker, modules: Sequence[LoadedModule], *, shared: bool) -> None:
    """Refuse a threaded program whose memory cannot be shared by all its instances. Raises UnsupportedError."""
    own = [module for module in modules if module.info.memories]
    if linker.state.threaded and (own or not shared):
        name = own[0].name if own else modules[0].name if modules else "program"
        raise UnsupportedError(
            f"{name}: threads=True needs a memory that is shared and imported: compile with -pthread, link with "
            "--shared-memory --import-memory",
            module=name,
        )


def _lay_out(linker: Linker, plan: LoadPlan, stack_size: int, minimum: int) -> tuple[int, int]:
    """Place all modules of the plan; returns the start of the heap (bytes) and the size of the memory (pages)."""
    cursor = align_up(stack_size, _STACK_ALIGNMENT)
    for module in plan.scope:
        dylink = module.info.dylink
        assert dylink is not None
        check_alignment(module)
        base = align_up(cursor, max(dylink.memory_alignment, _STACK_ALIGNMENT))
        cursor = base + dylink.memory_size
        if cursor > linker.state.limits.memory:
            raise LimitError(
                f"{module.name}: {dylink.memory_size} bytes of data aligned to {dylink.memory_alignment} do not fit into "
                f"{linker.state.limits.memory} bytes of memory",
                module=module.name,
            )
        plan.place(module, memory_base=base)
    heap = align_up(cursor, _STACK_ALIGNMENT)
    pages = max(align_up(heap, _PAGE) // _PAGE, minimum)
    if pages * _PAGE > linker.state.limits.memory:
        raise LimitError(f"the program needs {pages * _PAGE} bytes of memory; the limit is {linker.state.limits.memory}")
    return heap, pages


def _common_memory(modules: Iterable[LoadedModule]) -> Limits:
    """Return limits that all modules accept: the largest minimum, the smallest maximum; SignatureMismatchError if there are none."""
    minimum, maximum, first = 1, None, None
    for module in modules:
        for type_ in (*module.info.memories, *_memories([module])):
            if type_.limits.is64:
                raise UnsupportedError(f"{module.name}: 64-bit memories are not supported", module=module.name)
            if first is None:
                first = (module, type_.limits.shared)
            elif first[1] != type_.limits.shared:
                raise SignatureMismatchError(
                    module=module.name,
                    symbol="memory",
                    wanted=_sharing(type_.limits.shared),
                    provider=first[0].name,
                    found=_sharing(first[1]),
                )
            minimum = max(minimum, type_.limits.minimum)
            if type_.limits.maximum is not None:
                maximum = type_.limits.maximum if maximum is None else min(maximum, type_.limits.maximum)
    return Limits(minimum, maximum, shared=bool(first and first[1]))


def _sharing(shared: bool) -> str:  # noqa: FBT001
    return "a shared memory" if shared else "a memory that is not shared"


def _memories(modules: Iterable[LoadedModule]) -> list[MemoryType]:
    return [memory for module in modules for memory in module.info.imported_memories]


def _tables(modules: Iterable[LoadedModule]) -> list[TableType]:
    return [table for module in modules for table in module.info.imported_tables]
