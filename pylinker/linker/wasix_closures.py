"""WASIX's closures, and what the core asks when a function of unknown type is called or looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pylinker.errors import LimitError, LinkError, MemoryAccessError
from pylinker.linker.hostcalls import HostFunctions, u32
from pylinker.linker.wasix import Errno
from pylinker.native.objects import u32s
from pylinker.runtime.failures import STOPS
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from pylinker.linker.module import LoadedModule
    from pylinker.native.objects import Values
    from pylinker.wasm import ValType

__all__ = ["WasixClosures"]

_TYPES: Final[tuple[ValType, ...]] = ("i32", "i64", "f32", "f64", "v128")
"""WASIX's value types, by number."""

_VALUES: Final = 1000
"""Parameters, and results, that a function may have: wasm's engines agree on that."""


class WasixClosures(HostFunctions):
    """Makes the functions behind imports of ``closure_*``, ``call_dynamic`` and ``reflect_signature``."""

    def _wasix_closure_allocate(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        linker = self.linker
        out = u32(raw[0].i32)
        try:
            linker.memory.check(out, 4)  # now: else a slot would be lost
            linker.memory.write(out, linker.allocate_closure_slot().to_bytes(4, "little"))
            raw[0].i32 = Errno.SUCCESS
        except MemoryAccessError:
            raw[0].i32 = Errno.MEMVIOLATION
        except LimitError:
            raw[0].i32 = Errno.NOMEM
        except LinkError as error:
            raw[0].i32 = _late(error)

    def _wasix_closure_prepare(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        function, closure, params, param_count, results, result_count, environment = u32s(raw, 7)
        try:
            types = self._types(params, param_count), self._types(results, result_count)
            if None in types:
                raw[0].i32 = Errno.INVAL
                return
            type_ = FuncType(*(each for each in types if each is not None))
            done = self.linker.closures.prepare(closure, type_, function, environment)
            raw[0].i32 = Errno.SUCCESS if done else Errno.INVAL
        except MemoryAccessError:
            raw[0].i32 = Errno.MEMVIOLATION
        except LimitError:
            raw[0].i32 = Errno.NOMEM
        except LinkError as error:
            raw[0].i32 = _late(error)

    def _types(self, address: int, count: int) -> tuple[ValType, ...] | None:
        """Read a list of types; None if one is none. Raises MemoryAccessError."""
        memory = self.linker.memory
        if count:
            memory.check(address, count)
        if count > _VALUES:
            return None
        numbers = memory.read(address, count) if count else b""
        return tuple([_TYPES[each] for each in numbers]) if all(each < len(_TYPES) for each in numbers) else None

    def _wasix_closure_free(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        self.linker.closures.free(u32(raw[0].i32))
        raw[0].i32 = Errno.SUCCESS

    def _wasix_call_dynamic(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        self._tell_type(u32(raw[0].i32))

    def _wasix_reflect_signature(self, caller: LoadedModule, raw: Values) -> None:  # noqa: ARG002
        self._tell_type(u32(raw[0].i32))

    def _tell_type(self, slot: int) -> None:
        """Tell the core the type of the function in a table slot. It asks once."""
        linker = self.linker
        changes = linker.context.shared.changes  # before anything is looked at
        type_ = linker.closures.type_of(slot) or linker.symbols.type_at(slot)
        linker.group.know_type(changes, slot, type_)


def _late(error: LinkError) -> Errno:
    """Return the error number for what the linker could not do now: others did not come. The end of the program is raised again."""
    if isinstance(error, STOPS):
        raise error
    return Errno.AGAIN
