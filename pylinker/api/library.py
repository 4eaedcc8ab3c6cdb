"""An open library: its functions as attributes, its data by address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pylinker._pickling import OfOneProcess
from pylinker.api.function import Function
from pylinker.api.handle import Handle
from pylinker.errors import LinkError, RendezvousTimeout, SymbolNotFoundError
from pylinker.native.enums import CAUSE_STOPPED
from pylinker.sync.reentry import check_not_interrupting
from pylinker.wasm import FuncType

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from pylinker.api.session import Session
    from pylinker.linker import LoadedModule

__all__ = ["Library"]


class Library(OfOneProcess):
    """A handle of a library in a program, as ``dlopen`` gives it.

    ``library.name(...)`` and ``library["name"]`` are the function called ``name``, looked up in the
    library and then in what it needs. Iterating gives the names of the functions that the library
    itself defines. A function whose name an attribute of this class has (``name``, ``path``,
    ``close``, ...) is reached as ``library["name"]``.

    Each open handle counts: the library is unloaded when the last one is closed and nothing else
    uses it. ``with`` closes at the end.
    """

    def __init__(self, session: Session, module: LoadedModule | None) -> None:
        self._handle = Handle(session, module)
        self._functions: dict[str, Function] = {}

    def __repr__(self) -> str:
        return f"<Library {self.name!r}{'' if self._handle.open else ' (closed)'}>"

    @property
    def name(self) -> str:
        """The name by which the library was first loaded, without directories.

        For the program as a whole, its own name.
        """
        return self._handle.name

    @property
    def _module(self) -> LoadedModule | None:
        return self._handle.module

    @property
    def path(self) -> str | None:
        """The library's file on the host, links resolved, or None."""
        return self._module.path if self._module else None

    def __getitem__(self, name: str) -> Function:
        """Return the function called ``name``.

        Raises:
            SymbolNotFoundError: It is undefined, or no function. A KeyError.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"{self!r} is indexed by {type(name).__name__}; give the name of a function"
            )
        function = self._functions.get(name)
        if function is None or not self._handle.open:
            function = self._functions[name] = self._function(name)
        return function

    def __getattr__(self, name: str) -> Function:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        function = self[name]
        if self._functions.get(name) is function:
            self.__dict__[name] = function  # the next time it is found without coming here
        return function

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute of the object, as a subclass may.

        AttributeError for a name that is data of the guest: that is in its memory.
        """
        module = None if name in ("_handle", "_functions", "_program") else self._module
        definition = module.find(name) if module is not None else None
        if definition is not None and not isinstance(definition.type, FuncType):
            raise AttributeError(
                f"{self.name}: {name} is data of the guest; "
                f"write to its memory at address_of({name!r})"
            )
        super().__setattr__(name, value)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            with self._handle.entered():
                return False
        return self._handle.find(name) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the functions that the library defines itself.

        In the order of its exports; for the program as a whole, those of its global scope.

        Raises:
            ClosedError: The handle is closed.
        """
        with self._handle.entered() as linker:
            modules = linker.state.global_scope if self._module is None else [self._module]
            return iter(linker.symbols.functions(modules))

    def __dir__(self) -> Iterable[str]:
        try:
            return [*super().__dir__(), *self]
        except LinkError:  # closed: what is left is the handle
            return super().__dir__()

    def _function(self, name: str) -> Function:
        definition = self._handle.find(name)
        if definition is None:
            raise self._undefined(name)
        type_ = definition.type
        if not isinstance(type_, FuncType):
            raise SymbolNotFoundError(
                f"{self.name}: {name} is no function but {definition.export.kind.label} {type_}; "
                f"address_of({name!r}) is its address",
                module=self.name,
                symbol=name,
            )
        return Function(self._handle, name, type_, definition)

    def _undefined(self, name: str) -> SymbolNotFoundError:
        return SymbolNotFoundError(
            f"{self.name}: undefined symbol: {name}", module=self.name, symbol=name
        )

    def address_of(self, name: str) -> int:
        """Return the address of data in bytes, or the table slot of a function.

        Raises:
            SymbolNotFoundError: No module in the library's scope defines the symbol, or it has no
                address.
        """
        value = self._handle.address(name)
        if value is not None:
            return value
        with self._handle.entered() as linker:
            definition = linker.symbols.find_of(self._module, name)
            if definition is None:
                raise self._undefined(name)
            value = linker.symbols.value_of(definition)
        if value is None:
            raise SymbolNotFoundError(
                f"{self.name}: {name} has no address", module=self.name, symbol=name
            )
        return value

    def close(self) -> None:
        """Close this handle (``dlclose``).

        A second time does nothing, or completes the first if that was interrupted. A program that
        has ended unloads nothing.

        Raises:
            wasmtime.Trap: A destructor of the library trapped; the handle is closed all the same.
            RendezvousTimeout: Another thread was loading or closing libraries for
                ``rendezvous_timeout`` seconds; the handle is still open.
        """
        handle, module = self._handle, self._module
        if handle.unloaded:
            return
        check_not_interrupting()  # before anything has changed
        handle.open = False
        for function in list(self._functions.values()):
            if self.__dict__.get(function.name) is function:  # a C function may be called "_handle"
                del self.__dict__[function.name]
        if not handle.session.is_gone:
            with handle.session.entered() as linker:
                for function in list(self._functions.values()):
                    function.close()
                if module is None or module is linker.main:
                    pass
                elif linker.context.shared.cause not in (0, CAUSE_STOPPED):
                    pass  # the program has ended: as one that was killed
                elif handle.dropped:
                    linker.unloader.collect()
                elif handle.is_loaded:
                    try:
                        linker.unloader.dlclose(module, handle)
                    except RendezvousTimeout:
                        handle.open = (
                            not handle.dropped
                        )  # another thread is loading: nothing has changed
                        raise
        self._functions.clear()
        handle.drop_snapshot()
        handle.unloaded = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
