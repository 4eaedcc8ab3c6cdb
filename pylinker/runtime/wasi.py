"""WASI preview 1: what the guest's process sees of the host, and how a module without a memory of its own reaches it.

wasmtime's host functions find the guest's memory through an export called ``memory`` of the *calling* instance, and the process belongs
to one store. So a guest's call is forwarded in C (``csrc/wasi.h``) to a generated module that has the memory and re-exports it
(:func:`pylinker.wasm.memory_shim`), in the store of the process.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import wasmtime

from pylinker import _native
from pylinker._native import Extern
from pylinker.runtime.code import CodeCache
from pylinker.runtime.engine import address_of, engine
from pylinker.runtime.failures import GuestExit
from pylinker.runtime.store import GuestStore
from pylinker.runtime.teardown import outlives_interpreter
from pylinker.runtime.types import function_type
from pylinker.wasm import WASI_PREVIEW1, Limits, MemoryType, memory_shim

__all__ = ["CAPTURE", "DEVNULL", "WASI_MODULE", "WasiHost", "WasiProcess", "wasi_source"]

WASI_MODULE: Final = "wasi_snapshot_preview1"
CAPTURE: Final = -1
"""Collect what the guest writes; read it with ``program.stdout`` or ``program.stderr``."""
DEVNULL: Final = -3
"""Throw away what the guest writes."""

# Functions that may wait, which then must not keep other threads out of the process, or Ctrl-C from being heard; those that a guest calls
# in loops; and the one that writes lines.
_KINDS = {
    "poll_oneoff": _native.WASI_POLL,
    "fd_read": _native.WASI_READ,
    "clock_time_get": _native.WASI_CLOCK,
    "clock_res_get": _native.WASI_RESOLUTION,
    "sched_yield": _native.WASI_YIELD,
    "fd_write": _native.WASI_WRITE,
}

_INDEX = {name: index for index, name in enumerate(WASI_PREVIEW1)}

Input = bytes | str | os.PathLike[str] | None
Output = int | str | os.PathLike[str] | None


class WasiProcess:
    """The process the guest believes to be: arguments, environment, directories and standard streams.

    ``arguments`` includes the program's name; ``directories`` maps guest paths to host directories; ``stdin`` is None (inherit),
    bytes or a path; ``stdout`` and ``stderr`` are None (inherit), :data:`CAPTURE`, :data:`DEVNULL` or a path.
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
        _no_nul("argument", arguments)
        _no_nul("environment variable", [*environment, *environment.values()])
        for variable in environment:
            if not variable or "=" in variable:
                raise ValueError(f"environment variable {variable!r}: a name is not empty and contains no '='")
        for guest, host in directories.items():
            if not Path(host).is_dir():
                raise NotADirectoryError(f"dirs[{guest!r}]: {host} is not a directory")
        self.arguments = list(arguments)
        self.environment = dict(environment)
        self.directories = dict(directories)
        self._stdin = stdin
        self._stdout = stdout
        self._stderr = stderr
        self._temporary: dict[str, Path] = {}
        self._owner = os.getpid()  # a child of fork() does not remove them

    @property
    def waits(self) -> bool:
        """Whether the guest's standard input is this process's own."""
        return self._stdin is None

    def install(self, store: wasmtime.Store) -> None:
        """Give ``store`` this process; once per process."""
        config = wasmtime.WasiConfig()
        config.argv = self.arguments
        config.env = list(self.environment.items())
        for guest, host in self.directories.items():
            config.preopen_dir(host, guest)
        if self._stdin is None:
            config.inherit_stdin()
        elif isinstance(self._stdin, bytes):
            path = self._temporary_file("stdin")
            path.write_bytes(self._stdin)
            config.stdin_file = path
        else:
            with open(self._stdin, "rb"):  # wasmtime would not say what is wrong
                config.stdin_file = os.fspath(self._stdin)
        self._output(config, "stdout", self._stdout)
        self._output(config, "stderr", self._stderr)
        store.set_wasi(config)

    def _output(self, config: wasmtime.WasiConfig, name: str, target: Output) -> None:
        if target is None:
            getattr(config, f"inherit_{name}")()
        elif target == CAPTURE:
            setattr(config, f"{name}_file", self._temporary_file(name))
        elif target == DEVNULL:
            setattr(config, f"{name}_file", os.devnull)
        elif isinstance(target, int):
            raise ValueError(f"{name}={target}: give None, CAPTURE, DEVNULL or a path")
        else:
            with open(target, "wb"):
                setattr(config, f"{name}_file", os.fspath(target))

    def _temporary_file(self, name: str) -> Path:
        handle, path = tempfile.mkstemp(prefix=f"pylinker-{name}-")
        os.close(handle)
        self._temporary[name] = Path(path)
        return Path(path)

    def captured(self, name: str) -> bytes:
        """Return what the guest wrote to ``stdout`` or ``stderr`` so far; ValueError if it is not captured."""
        path = self._temporary.get(name)
        if path is None:
            raise ValueError(f"{name} is not captured: create the program with {name}=pylinker.CAPTURE")
        return path.read_bytes()

    def close(self) -> None:
        """Remove the temporary files behind captured streams."""
        for path in self._temporary.values() if os.getpid() == self._owner else ():
            path.unlink(missing_ok=True)
        self._temporary.clear()

    def __del__(self) -> None:
        if getattr(self, "_temporary", None):
            self.close()


@functools.lru_cache(maxsize=2)
def _shim(*, shared: bool) -> bytes:
    return memory_shim(MemoryType(Limits(0, 1 << 16 if shared else None, shared=shared)), WASI_MODULE, WASI_PREVIEW1)


class WasiHost:
    """The store that has the process, for all groups of a program.

    In a program of one thread it is the guest's own; in a threaded one it is a store of its own that runs nothing but WASI. Many libraries
    call nothing of it, so what it takes is made when the first module comes that does: :meth:`provide`, before that is instantiated, and
    :meth:`connect`, with the memory, which a main module may bring along. Both by the leader of a load.

    ``is_provided`` and ``is_connected`` say whether that was done.
    """

    def __init__(self, store: GuestStore, process: WasiProcess, cache: CodeCache) -> None:
        self.store = store
        self._cache = cache
        self._linker: wasmtime.Linker | None = None
        self.is_connected = False
        process.install(store.wasmtime_store)
        self.native = _native.WasiProcess(store.context, waits=process.waits)  # at once: both clocks begin here
        store.keep(self.native)

    @property
    def is_provided(self) -> bool:
        """Whether modules that call WASI may be instantiated."""
        return self._linker is not None

    def provide(self) -> None:
        """Let modules be instantiated that call WASI; their calls trap until it is connected."""
        if self._linker is None:
            linker = wasmtime.Linker(engine())
            outlives_interpreter(linker)
            linker.define_wasi()
            for name, type_ in WASI_PREVIEW1.items():
                self.native.provide(_INDEX[name], function_type(type_), _KINDS.get(name, _native.WASI_PLAIN))
            self._linker = linker

    def connect(self, memory: Extern, *, shared: bool) -> None:
        """Say where the guest's memory is; once what is provided."""
        assert self._linker is not None
        if not self.is_connected:
            # The most general type of that kind: one shim serves all programs.
            code = self._cache.load(_shim(shared=shared), name="wasi shim")
            self.store.join_process(self.native, address_of(self._linker), WASI_MODULE, [*WASI_PREVIEW1], code, memory)
            self.is_connected = True


def _proc_exit(raw: _native.Values) -> None:
    raise GuestExit(raw[0].i32 & 0xFFFFFFFF)


_EXIT = _native.register_host(_proc_exit)


def wasi_source(name: str) -> bytes:
    """Return where the C core finds a WASI function (a ``pl_source``)."""
    if name == "proc_exit":
        return _native.pack_source(_native.Source.HOST, type_address=function_type(WASI_PREVIEW1[name]), handle=_EXIT)
    return _native.pack_source(_native.Source.WASI, _INDEX[name])


def _no_nul(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        if "\0" in text:
            raise ValueError(f"{what} {text!r} contains a NUL character")
