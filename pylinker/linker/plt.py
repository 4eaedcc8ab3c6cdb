"""The PLT of a module: what it calls through trampolines."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pylinker.linker.module import Definition, LoadedModule
    from pylinker.wasm import ModuleInfo

__all__ = ["PltEntry", "ProcedureLinkage"]


@dataclass(slots=True)
class PltEntry:
    """A function import bound at its first call, in each group by itself.

    ``definition`` is what it was found to mean, at load or at the first call of any group: the same for all.
    """

    module: str
    name: str
    type: FuncType
    definition: Definition | None = None


class ProcedureLinkage(Sequence[PltEntry]):
    """The entries of one module's PLT, by the numbers of its trampolines.

    The first are those that the core has decided (:meth:`decided`), of which there may be thousands: each is made when it is asked for.
    ``late`` is what the core said of them: for each the number of the import, that of the module it was found in, and the export's.
    """

    __slots__ = ("_count", "_entries", "_info", "_targets", "late")

    def __init__(self, info: ModuleInfo) -> None:
        self._info = info
        self._entries: dict[int, PltEntry] = {}
        self._count = 0
        self._targets: Mapping[int, LoadedModule] = {}
        self.late: Sequence[int] = ()

    def decided(self, late: Sequence[int], modules: Sequence[LoadedModule | None]) -> None:
        """Have the entries that the core has decided; ``modules`` are those of its scope. Before all others."""
        self.late = late
        # Not all of them: an entry keeps what it leads to.
        self._targets = {number: target for number in set(late[1::3]) if (target := modules[number]) is not None}
        self._count = len(late) // 3

    def append(self, entry: PltEntry) -> None:
        """Add an entry."""
        self._entries[self._count] = entry
        self._count += 1

    def signature(self) -> bytes:
        """Return bytes that, with the module's own, say of which functions the entries are, in their order."""
        decided = array("I", self.late[::3])
        others = "".join([f"{each.name!r} {each.type}" for each in self[len(decided) :]])
        return b"%d %b %b" % (len(decided), decided.tobytes(), others.encode())

    def types(self) -> Iterator[FuncType]:
        """Iterate over the types of the entries, none of which is made for it."""
        for imported in self.late[::3]:
            type_ = self._info.import_at(imported).type
            assert isinstance(type_, FuncType)
            yield type_
        for number in range(len(self.late) // 3, self._count):
            yield self._entries[number].type

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> PltEntry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[PltEntry]: ...

    def __getitem__(self, index: int | slice) -> PltEntry | Sequence[PltEntry]:
        numbers = range(self._count)[index]
        if isinstance(numbers, range):
            return [self._at(number) for number in numbers]
        return self._at(numbers)

    def _at(self, number: int) -> PltEntry:
        entry = self._entries.get(number)
        if entry is None:
            imported, target, _ = self.late[3 * number : 3 * number + 3]
            space, name, _, type_ = self._info.import_at(imported)
            assert isinstance(type_, FuncType)
            made = PltEntry(space, name, type_, self._targets[target].find(name))
            entry = self._entries.setdefault(number, made)  # two threads that ask for the same one get the same
        return entry
