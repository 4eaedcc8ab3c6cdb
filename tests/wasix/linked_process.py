"""The process in which :mod:`wasix.linked` runs pylinker.

Its argument is the job, as JSON; it prints the status.

It imports nothing of the tests: Python starts it as a script.
"""

from __future__ import annotations

import json
import sys
import traceback

import wasmtime

import pylinker

TRAP = -1


def execute(
    main: str, root: str, stdout: str, stderr: str, args: list[str], *, preempt: bool
) -> int:
    """Run the program with ``root`` as its root directory; returns its exit status.

    Blocks until it ends.
    """
    with pylinker.Program(
        main, args=args, dirs={"/": root}, stdout=stdout, stderr=stderr, preempt=preempt
    ) as program:
        try:
            return program.run()
        except (wasmtime.Trap, pylinker.UndefinedSymbolError):
            traceback.print_exc()
            return TRAP


if __name__ == "__main__":
    print(execute(**json.loads(sys.argv[1])))
