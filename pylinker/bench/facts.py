"""Facts about the machine with which to judge the numbers."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pylinker._version import __version__

__all__ = ["PEERS", "Facts", "gather"]

PEERS = {
    "wasmtime-py": "wasmtime",
    "wasmer-sdk": "wasmer-sdk",
}  # distribution names, by the name in the report


@dataclass(frozen=True)
class Facts:
    """The machine, the versions, and the load of the machine when the run began."""

    cpu: str
    cores: int  # of the machine
    usable_cores: int  # available to this process
    memory: int  # bytes
    system: str
    kernel: str
    python: str
    pylinker: str
    peers: dict[str, str | None]  # version, or None if not installed
    load: float  # runnable threads, averaged over the last minute


def gather() -> Facts:
    """Return the facts of this machine at present."""
    return Facts(
        cpu=cpu_model(Path("/proc/cpuinfo")),
        cores=os.cpu_count() or 1,
        usable_cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        system=system_name(),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        pylinker=__version__,
        peers={name: installed(distribution) for name, distribution in PEERS.items()},
        load=os.getloadavg()[0],
    )


def installed(distribution: str) -> str | None:
    """Return the version of an installed distribution, None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def cpu_model(cpuinfo: Path) -> str:
    """Return the name of the processor in Linux's ``cpuinfo``, elsewhere from Python."""
    try:
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def system_name() -> str:
    """Return the name of the operating system."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.platform()
