"""Call a plugin, and load it again when its file changes: ``host.py PLUGIN [--events N]``."""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import wasmtime

import pylinker
from pylinker.wasm import FuncType

WANTED = {
    "start": FuncType(("i32",), ()),
    "on_event": FuncType(("i32",), ("i32",)),
    "events_seen": FuncType((), ("i32",)),
}
SECONDS = 2
"""How long a plugin may take for whatever it does."""
FAILURES = (pylinker.LinkError, wasmtime.Trap, wasmtime.ExitTrap)
"""What a plugin can do wrong: it cannot be loaded, takes too long, crashes, or calls exit."""


def reason(error: BaseException) -> str:
    """Return one line: that of a trap is the last, after the guest's calls."""
    lines = str(error).strip().splitlines()
    return lines[-1 if isinstance(error, wasmtime.Trap) else 0].strip()


class Plugin:
    """One version of a plugin, in its own program: stopping it does not end another version."""

    def __init__(self, path: Path, events: int) -> None:
        self.name = ""
        self.library = pylinker.CDLL(
            path,
            imports={"host_name": self.host_name},
            bind_now=True,
            cache=False,
            load_timeout=SECONDS,
        )
        self.program = self.library.program
        try:
            for name, type_ in WANTED.items():
                if self.library[name].type != type_:
                    raise pylinker.LinkError(
                        f"{path.name}: {name} is {self.library[name].type}, not {type_}"
                    )
            self.call("start", events)
        except BaseException:
            self.program.close()
            raise

    def host_name(self, address: int) -> None:
        """The plugin calls this with its name, a C string in its memory."""
        self.name = self.program.memory.cstring(address).decode(errors="replace")

    def call(self, name: str, *arguments: int) -> int:
        with self.program.time_limit(SECONDS):
            return self.library[name](*arguments)

    def close(self) -> None:
        """Run the plugin's destructors and release it."""
        try:
            with self.program.time_limit(SECONDS):
                self.library.close()
        except FAILURES as error:
            print(f"closing {self.name}: {reason(error)}")


class Host:
    """Runs the newest version of a plugin that could be loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plugin: Plugin | None = None
        self.seen: tuple[int, ...] | None = None

    def version(self) -> tuple[int, ...] | None:
        """Return a value that changes with the file.

        The inode is part of it: a clock may be too coarse to tell two versions apart.
        """
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def reload(self) -> None:
        """Load the plugin if its file has changed since the last look.

        The old version stays until the new one is ready.
        """
        version = self.version()
        if version is None or version == self.seen:
            return
        self.seen = version
        try:
            events = self.plugin.call("events_seen") if self.plugin else 0
            new = Plugin(self.path, events)
        except FAILURES as error:
            print(f"not loaded: {reason(error)}")
            return
        if self.plugin:
            self.plugin.close()
        self.plugin = new
        print(
            f"loaded {self.path.name}: {new.name}" + (f" (after {events} events)" if events else "")
        )

    def event(self, number: int) -> None:
        """Let the plugin handle an event."""
        self.reload()
        if self.plugin:
            try:
                print(f"event {number} -> {self.plugin.call('on_event', number)}", flush=True)
            except FAILURES as error:
                print(f"event {number} failed: {reason(error)}", flush=True)

    def close(self) -> None:
        if self.plugin:
            self.plugin.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plugin", type=Path)
    parser.add_argument(
        "--events", type=int, help="stop after so many; without it, one a second until Ctrl-C"
    )
    options = parser.parse_args()
    host = Host(options.plugin)
    try:
        for number in itertools.count(1):
            host.event(number)
            if number == options.events:
                break
            if options.events is None:
                time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        host.close()


if __name__ == "__main__":
    main()
