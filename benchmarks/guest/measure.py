"""Measures a WASIX linker with a program that reads its own clock, and prints a table.

python benchmarks/guest/measure.py [--runner wasmer|pylinker] [dlopen dlsym calls host spawn]

The same files run under every runner. Numbers are medians of single runs: ratios, not absolutes, on a machine that does other things.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TESTS = FOLDER.parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from wasix import linked, wasmer  # noqa: E402

# run(main, files, args, timeout) -> Outcome(status, stdout, stderr); a linker under test joins here
RUNNERS = {"wasmer": wasmer.run, "pylinker": linked.run}

LIBRARIES = 100
COUNTS = (0, 1, 2, 4, 8, 16)


def runs(chosen: set[str]) -> Iterator[tuple[str, ...]]:
    """The arguments of every run."""
    if "dlopen" in chosen:
        yield ("dlopen",)
        for kind in ("yield", "futex"):
            yield from (("dlopen", str(count), kind) for count in COUNTS[1:])
        yield ("dlopen", "4", "lock")
    if "dlsym" in chosen:
        yield ("dlsym",)
        yield from (("dlsym", str(count), "futex") for count in COUNTS[1:])
    if "calls" in chosen:
        yield ("calls",)
    if "host" in chosen:
        yield ("host",)
    if "spawn" in chosen:
        yield from (("spawn", str(count)) for count in (0, 1, 10, 100))


def measure(runner: str, chosen: set[str]) -> Iterator[dict[str, Any]]:
    """What the program printed, with what its threads did and with the machine's load."""
    files = {path.name: path.read_bytes() for path in FOLDER.glob("*.so")}
    small = files.pop("libsmall.so")
    files |= {f"libsmall{n:03}.so": small for n in range(LIBRARIES)}
    for args in runs(chosen):
        outcome = RUNNERS[runner](FOLDER / "main.wasm", files, args, 120)
        if outcome.status:
            yield {"what": " ".join(args), "failed": outcome.status, "stderr": outcome.stderr[-500:]}
        for line in outcome.stdout.splitlines():
            doing = args[2] if len(args) > 2 else ""
            yield {"runner": runner, **json.loads(line), "doing": doing, "load": round(os.getloadavg()[0], 1)}


def readable(nanoseconds: float) -> str:
    """A time in a unit that fits."""
    for unit, size in (("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def main() -> None:
    """Print a line for each result, or the results themselves with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="dlopen, dlsym, calls, host, spawn; all without")
    parser.add_argument("--runner", choices=sorted(RUNNERS), default="wasmer")
    parser.add_argument("--json", action="store_true", help="JSON lines")
    options = parser.parse_args()
    for result in measure(options.runner, set(options.what) or {"dlopen", "dlsym", "calls", "host", "spawn"}):
        if options.json or "failed" in result:
            print(json.dumps(result), flush=True)
            continue
        company = f"{result['threads']} threads {result['doing']}" if result["threads"] else ""
        libraries = f"{result['libraries']} libraries"
        times = [nanoseconds / result["operations"] for nanoseconds in result["samples"]]
        shown = f"{readable(statistics.median(times)):>9} (min {readable(min(times))}, {len(times)} samples)"
        print(f"{result['what']:<36} {company:<18} {libraries:<14} {shown}", flush=True)


if __name__ == "__main__":
    main()
