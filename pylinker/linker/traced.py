"""A linker that is traced: the same in everything it does, with spans around what takes time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from pylinker.linker.group import InstanceGroup
from pylinker.linker.linker import Linker
from pylinker.linker.plan import LoadPlan

if TYPE_CHECKING:
    from pylinker.linker.context import Change
    from pylinker.linker.linker import Holder, Load
    from pylinker.linker.module import LoadedModule
    from pylinker.linker.operation import DlOperation, LoadModules
    from pylinker.linker.plan import ModuleBytes, Request
    from pylinker.linker.prepared import PreparedInstanceGroup
    from pylinker.linker.trace import Tracer

__all__ = ["TracedLinker"]


class TracedGroup(InstanceGroup):
    """A group that notes what it does to modules."""

    def __init__(self, tracer: Tracer, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tracer = tracer
        tracer.name_row(self.state.number, "main thread" if self.turn is not None else "new thread")

    def apply(self, operation: DlOperation) -> None:
        """Carry an operation out."""
        with self._tracer.span("instantiate", operation=repr(operation)):
            super().apply(operation)

    def relocate(self, module: LoadedModule) -> None:
        """Apply relocations."""
        with self._tracer.span("relocations", module=module.name):
            super().relocate(module)

    def construct(self, module: LoadedModule) -> None:
        """Run constructors."""
        with self._tracer.span("constructors", module=module.name):
            super().construct(module)


class TracedPlan(LoadPlan):
    """A plan that notes its steps."""

    def __init__(self, tracer: Tracer, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tracer = tracer

    def discover(self, roots: Sequence[LoadedModule | Request]) -> list[LoadedModule]:
        """Find and read."""
        with self._tracer.span("find", names=[each.name for each in roots]):
            return super().discover(roots)

    def resolve(self, *, bind_now: bool) -> LoadModules:
        """Decide what imports mean."""
        with self._tracer.span("resolve", modules=[each.name for each in self.new]):
            return super().resolve(bind_now=bind_now)


class TracedLinker(Linker):
    """A linker that notes what it does in a tracer. Takes the keywords of Linker."""

    def __init__(self, tracer: Tracer, **keywords: Any) -> None:
        self._tracer = tracer
        self._group_type = functools.partial(TracedGroup, tracer)
        self._plan_type = functools.partial(TracedPlan, tracer)
        super().__init__(trace=tracer.native, **keywords)

    def load_module(
        self,
        name: str | ModuleBytes,
        mode: int = 0,
        *,
        requester: LoadedModule | None = None,
        trusted: bool = False,
        search: Sequence[str] | None = None,
    ) -> LoadedModule:
        """Open a library."""
        with self._tracer.span("dlopen", library=name if isinstance(name, str) else name.name):
            return super().load_module(name, mode, requester=requester, trusted=trusted, search=search)

    def dlclose(self, module: LoadedModule, holder: Holder | None = None) -> None:
        """Close a handle."""
        with self._tracer.span("dlclose", library=module.name):
            super().dlclose(module, holder)

    def create_instance_group(self, prepared: PreparedInstanceGroup) -> InstanceGroup:
        """Make the instances of a new thread."""
        with self._tracer.span("new thread"):
            return super().create_instance_group(prepared)

    def note_thread(self, group: InstanceGroup, tid: int) -> None:
        """Name the thread's row."""
        super().note_thread(group, tid)
        self._tracer.name_row(group.state.number, f"thread {tid}")

    def _load(self, change: Change, load: Load, plan: LoadPlan, mode: int) -> None:
        with self._tracer.span("link", modules=[each.name for each in plan.new]):
            super()._load(change, load, plan, mode)

    def commit_start(self, plan: LoadPlan, operation: LoadModules, begin: Callable[[], None] | None = None) -> None:
        """Carry out the load at the start."""
        with self._tracer.span("link", modules=[each.name for each in plan.new]):
            super().commit_start(plan, operation, begin)
