"""Edits the plugin while the host runs."""

from pathlib import Path

from host import Host

from build import build

PLUGIN = Path("plugin.so")

build("plugin.c", "plugin.so")
host = Host(PLUGIN)
host.event(1)
host.event(2)
build("plugin.c", "plugin.so", "-DSQUARES")
host.event(3)
host.event(4)
PLUGIN.write_bytes(PLUGIN.read_bytes()[:40])  # as a copy looks that is not done yet
host.event(5)
for number, fault in enumerate(("UNDEFINED", "INCOMPLETE", "HANGS", "CRASHES"), 6):
    build("plugin.c", "plugin.so", f"-D{fault}")
    host.event(number)
host.close()
