"""A host that calls a plugin and loads it again when its file changes: ``python host.py PLUGIN [--events N]``."""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
import time
from pathlib import Path

import pylinker


class Host:
    """Runs the newest version of a plugin that could be loaded."""

    def __init__(self, plugin: Path) -> None:
        self.path = plugin
        self.copies = tempfile.TemporaryDirectory()
        self.program = pylinker.Program(None, imports={"host_name": self.host_name}, bind_now=True, cache=False)
        self.plugin: pylinker.Library | None = None
        self.seen: tuple[int, ...] | None = None
        self.loads = itertools.count(1)
        self.name = ""

    def host_name(self, address: int) -> None:
        """What the plugin calls: it says its name, a C string in its memory."""
        self.name = self.program.memory.cstring(address).decode()

    def version(self) -> tuple[int, ...] | None:
        """What changes with the file. The inode is part of it: a clock may be too coarse to tell two versions apart."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def reload(self) -> None:
        """Load the plugin if its file is not the one that was looked at last. The old one stays until the new one is ready."""
        version = self.version()
        if version is None or version == self.seen:
            return
        self.seen = version
        copy = Path(self.copies.name) / f"{self.path.stem}.{next(self.loads)}.so"
        shutil.copyfile(self.path, copy)
        events = self.plugin.events_seen() if self.plugin else 0
        try:
            new = self.program.dlopen(copy)
        except pylinker.ParseError:
            print(f"kept the old plugin: {self.path.name} is no WebAssembly module")
            return
        except pylinker.UndefinedSymbolError as error:
            print(f"kept the old plugin: undefined symbol: {error.undefined[0].symbol}")
            return
        new.start(events)
        if self.plugin:
            self.plugin.close()
        self.plugin = new
        print(f"loaded {self.path.name}: {self.name}" + (f" (after {events} events)" if events else ""))

    def event(self, number: int) -> None:
        """Let the plugin answer an event."""
        self.reload()
        if self.plugin:
            print(f"event {number} -> {self.plugin.on_event(number)}", flush=True)

    def close(self) -> None:
        self.program.close()
        self.copies.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("plugin", type=Path)
    parser.add_argument("--events", type=int, help="stop after so many; without it, one a second until Ctrl-C")
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
