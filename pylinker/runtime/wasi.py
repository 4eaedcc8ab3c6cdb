"""WASI preview 1: the guest's process, and calls to it from modules without a memory of their own.

wasmtime's host functions find the guest's memory through an export called ``memory`` of the
*calling* instance, and the process belongs to one store. So a guest's call is forwarded in C
(``csrc/wasi.h``) to a generated module that has the memory and exports it again
(:func:`pylinker.wasm.memory_shim`), in the store of the process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import wasmtime

from pylinker.errors import ClosedError
from pylinker.native.enums import SourceKind, WasiKind
from pylinker.native.hostfuncs import register_host
from pylinker.native.libraries import pack_source
from pylinker.native.objects import Extern, Values
from pylinker.native.scopes import Finalized
from pylinker.native.wasi import WasiProcess as NativeProcess
from pylinker.native.wasi import c_text
from pylinker.runtime.code import CodeCache
from pylinker.runtime.engine import engine
from pylinker.runtime.failures import GuestExit
from pylinker.runtime.private import address_of
from pylinker.runtime.store import GuestStore
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.runtime.types import function_type
from pylinker.wasm import WASI_PARAMETERS, WASI_PREVIEW1, Limits, MemoryType, memory_shim

__all__ = ["CAPTURE", "DEVNULL", "WASI_MODULE", "WasiHost", "WasiProcess", "wasi_source"]

WASI_MODULE: Final = "wasi_snapshot_preview1"
CAPTURE: Final = -1
"""Capture the output of the guest; read it with ``program.stdout`` or ``program.stderr``."""
DEVNULL: Final = -3
"""Discard the output of the guest."""

# Functions that may wait, which the core implements itself; those that open or rename files; those
# that a guest calls in loops; and those that change which descriptors are the standard streams.
_KINDS = {
    "poll_oneoff": WasiKind.POLL,
    "fd_read": WasiKind.READ,
    "clock_time_get": WasiKind.CLOCK,
    "clock_res_get": WasiKind.RESOLUTION,
    "sched_yield": WasiKind.YIELD,
    "fd_write": WasiKind.WRITE,
    "path_open": WasiKind.OPEN,
    "path_filestat_set_times": WasiKind.TIMES,
    "path_link": WasiKind.NAME,
    "path_rename": WasiKind.NAME,
    "path_symlink": WasiKind.NAME,
    "fd_close": WasiKind.CLOSE,
    "fd_renumber": WasiKind.RENUMBER,
}
_PLAIN = ("args_", "environ_", "fd_prestat_", "proc_", "random_")
"""Prefixes of the functions that wasmtime implements without its runtime."""
_FIRST_DIRECTORY = 3
# In the order of the core's enum pl_wasi_private.
_PRIVATE = ("path_filestat_get", "path_open", "path_filestat_set_times", "poll_oneoff")

_PARAMETERS = {name: c_text(parameters) for name, parameters in WASI_PARAMETERS.items()}
_INDEX = {name: index for index, name in enumerate(WASI_PREVIEW1)}

Input = bytes | str | os.PathLike[str] | None
Output = int | str | os.PathLike[str] | None


class WasiProcess(Finalized):
    """The process of the guest: arguments, environment, directories and standard streams.

    Args:
        arguments: The arguments, including the program's name.
        environment: The environment variables.
        directories: Host directories by guest path.
        stdin: None (inherit), bytes or a path.
        stdout: None (inherit), :data:`CAPTURE`, :data:`DEVNULL` or a path.
        stderr: The same.
    """

    def __init__(
        self,
        *,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        directories: Mapping[str, str],
        stdin: Input,
        stdout: Output,
        stderr: Output,
    ) -> None:
        _check_texts("argument", arguments)
        _check_texts("environment variable", [*environment, *environment.values()])
        _check_texts("directory", [*directories, *directories.values()])
        for variable in environment:
            if not variable or "=" in variable:
                raise ValueError(
                    f"environment variable {variable!r}: a name is not empty and contains no '='"
                )
        for guest, host in directories.items():
            if not os.path.isdir(host):
                raise NotADirectoryError(f"dirs[{guest!r}]: {host} is not a directory")
        if stdin is not None and not isinstance(stdin, (bytes, str, os.PathLike)):
            raise TypeError(f"stdin={stdin!r}: give None, bytes or a path")
        for what, target in (("stdout", stdout), ("stderr", stderr)):
            if target is not None and not isinstance(target, (int, str, os.PathLike)):
                raise TypeError(f"{what}={target!r}: give None, CAPTURE, DEVNULL or a path")
        self.arguments = list(arguments)
        self.environment = dict(environment)
        self.directories = dict(directories)
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._temporary: dict[str, Path] = {}
        self._closed = False
        self._owner = os.getpid()  # a forked child does not remove the files

    def install(self, store: wasmtime.Store, process: NativeProcess) -> None:
        """Give ``store`` this process, and ``process`` its directories and streams.

        Once per process. Opening a FIFO as ``stdin`` does not wait for a writer: the guest's first
        read does. As ``stdout`` or ``stderr`` it waits for a reader, as ``open`` does, and can be
        interrupted. Raises OSError.
        """
        config = wasmtime.WasiConfig()
        config.argv = self.arguments
        config.env = list(self.environment.items())
        with ExitStack() as opened:
            for place, (guest, host) in enumerate(self.directories.items(), _FIRST_DIRECTORY):
                config.preopen_dir(_opened(host, process, place, opened), guest)
        # The core reads and writes the streams; wasmtime reports whether they are terminals.
        for name, target in (
            ("stdin", self._stdin),
            ("stdout", self._stdout),
            ("stderr", self._stderr),
        ):
            if target is None:
                getattr(config, f"inherit_{name}")()
        store.set_wasi(config)
        self._open_streams(process)

    def _open_streams(self, process: NativeProcess) -> None:
        stdin = self._stdin
        if isinstance(stdin, bytes):
            path = self._temporary_file("stdin")
            path.write_bytes(stdin)
            stdin = path
        if stdin is not None:
            try:
                file = open(  # noqa: SIM115 - closed below
                    stdin, "rb", buffering=0, opener=_open_without_waiting
                )
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    error.errno, "stdin: no such file; give bytes for its content", os.fspath(stdin)
                ) from error
            with file:
                process.set_stream(0, file.fileno())
        for index, (name, target) in enumerate(
            (("stdout", self._stdout), ("stderr", self._stderr)), 1
        ):
            if target is not None:
                with open(self._output(name, target), "wb", buffering=0) as file:
                    process.set_stream(index, file.fileno())

    def _output(self, name: str, target: int | str | os.PathLike[str]) -> str | os.PathLike[str]:
        if target == CAPTURE:
            return self._temporary_file(name)
        if target == DEVNULL:
            return os.devnull
        if not isinstance(target, int):
            return target
        raise ValueError(f"{name}={target}: give None, CAPTURE, DEVNULL or a path")

    def _temporary_file(self, name: str) -> Path:
        handle, path = tempfile.mkstemp(prefix=f"pylinker-{name}-")
        os.close(handle)
        self._temporary[name] = Path(path)
        return Path(path)

    def captured(self, name: str) -> bytes:
        """Return the output of the guest on ``stdout`` or ``stderr`` so far.

        Raises:
            ClosedError: The program is closed, and its output is deleted.
            ValueError: The stream is not captured.
        """
        path = self._temporary.get(name)
        if self._closed and {"stdout": self._stdout, "stderr": self._stderr}[name] == CAPTURE:
            raise ClosedError(
                f"program {self.arguments[0]} is closed: "
                f"read {name} before close(), inside the with block",
                module=self.arguments[0],
            )
        if path is None:
            raise ValueError(
                f"{name} is not captured: create the program with {name}=pylinker.CAPTURE"
            )
        return path.read_bytes()

    def close(self) -> None:
        """Remove the temporary files of captured streams."""
        self._closed = True
        for path in self._temporary.values() if os.getpid() == self._owner else ():
            path.unlink(missing_ok=True)
        self._temporary.clear()

    def _drop(self) -> None:
        if getattr(self, "_temporary", None):
            self.close()


def _opened(host: str, process: NativeProcess, place: int, opened: ExitStack) -> str:
    """Return a path with which wasmtime opens the directory of ``process``, whatever is renamed."""
    if not hasattr(os, "O_PATH"):
        return host
    descriptor = os.open(host, os.O_PATH | os.O_DIRECTORY)
    opened.callback(os.close, descriptor)
    path = f"/proc/self/fd/{descriptor}"
    if not os.path.isdir(path):  # no /proc: the core then passes paths to wasmtime
        return host
    process.add_directory(place, descriptor)
    return path


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


_PRIVATE_SHIM = memory_shim(
    MemoryType(Limits(1, 1, shared=False)),
    WASI_MODULE,
    {name: WASI_PREVIEW1[name] for name in _PRIVATE},
    private=True,
)


@functools.lru_cache(maxsize=2)
def _shim(*, shared: bool) -> bytes:
    return memory_shim(
        MemoryType(Limits(0, 1 << 16 if shared else None, shared=shared)),
        WASI_MODULE,
        WASI_PREVIEW1,
    )


class WasiHost:
    """The store of the process, for all groups of a program.

    In a program of one thread it is that of the guest; in a threaded one it is a separate store
    that runs nothing but WASI. Many libraries do not call WASI, so its state is created when the
    first module is loaded that does: :meth:`provide`, before that is instantiated, and
    :meth:`connect`, with the memory, which a main module may define. Both are called by the leader
    of a load.

    Args:
        store: The store.
        process: The process.
        cache: The cache for the shims.
        descriptors: Maximum number of open descriptors of the guest besides its first ones.
    """

    is_connected: bool
    """Whether :meth:`connect` was called."""

    def __init__(
        self, store: GuestStore, process: WasiProcess, cache: CodeCache, *, descriptors: int
    ) -> None:
        self.store = store
        self._cache = cache
        self._linker: wasmtime.Linker | None = None
        self.is_connected = False
        self.native = NativeProcess(store.context)  # now: the guest's clock starts here
        self.native.set_descriptors(descriptors)
        store.keep(self.native)
        process.install(store.wasmtime_store, self.native)

    @property
    def is_provided(self) -> bool:
        """Whether modules that call WASI may be instantiated."""
        return self._linker is not None

    def provide(self) -> None:
        """Allow modules that call WASI; their calls trap until :meth:`connect`."""
        if self._linker is None:
            linker = wasmtime.Linker(engine())
            outlives_interpreter(linker)
            linker.define_wasi()
            for name, type_ in WASI_PREVIEW1.items():
                kind = _KINDS.get(
                    name, WasiKind.PLAIN if name.startswith(_PLAIN) else WasiKind.FILE
                )
                self.native.provide(_INDEX[name], function_type(type_), kind, _PARAMETERS[name])
            self._linker = linker

    def connect(self, memory: Extern, *, shared: bool) -> None:
        """Set the guest's memory, once; after :meth:`provide`."""
        assert self._linker is not None
        if not self.is_connected:
            # The most general type of that kind: one shim for all programs.
            code = self._cache.load(_shim(shared=shared), name="wasi shim")
            self.store.join_process(
                self.native, address_of(self._linker), WASI_MODULE, [*WASI_PREVIEW1], code, memory
            )
            private = self._cache.load(_PRIVATE_SHIM, name="private wasi shim")
            self.store.join_process_private(
                self.native, address_of(self._linker), WASI_MODULE, private
            )
            self.is_connected = True


def _proc_exit(raw: Values) -> None:
    raise GuestExit(raw[0].i32 & 0xFFFFFFFF)


_EXIT = register_host(_proc_exit)


def wasi_source(name: str) -> bytes:
    """Return the definition of a WASI function for the C core (a ``pl_source``)."""
    if name == "proc_exit":
        return pack_source(
            SourceKind.HOST, type_address=function_type(WASI_PREVIEW1[name]), handle=_EXIT
        )
    return pack_source(SourceKind.WASI, _INDEX[name])


def _check_texts(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise ValueError(f"{what} {text!r} contains a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(
                f"{what} {text!r} is not valid Unicode, and WASI takes UTF-8 only"
            ) from None
