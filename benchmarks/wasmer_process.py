"""The process in which wasmer-sdk runs a WASIX program: wasmer can hang or crash.

It takes a job from standard input, answers on standard output, pickled, and imports nothing of this
project: Python starts it as a script.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import wasmer_sdk

TRAP = -1
HUNG = -2


async def execute(
    main: bytes, files: Mapping[str, bytes], args: Sequence[str], seconds: float
) -> tuple[int, str, str]:
    """Run the program. Output is read while it runs: ``Command.run`` would lose it with a trap.

    Blocks for ``seconds`` at most.
    """
    definition = wasmer_sdk.PackageDefinition(
        modules={"main": main},
        commands={"main": wasmer_sdk.PackageCommandDefinition(module="main")},
        files=files,
    )
    client = wasmer_sdk.Wasmer()
    sandbox = await client.sandboxes.create(packages=[await client.packages.create(definition)])
    process = await sandbox.command("main", args).spawn()
    stdout, stderr = bytearray(), bytearray()

    async def read(stream: Any, sink: bytearray) -> None:
        async for chunk in stream:
            sink += chunk

    async def wait() -> int:
        try:
            return (await process.wait()).exit_code
        except wasmer_sdk.WasmerError as error:
            stderr.extend(f"{error}\n".encode())
            return TRAP

    readers = asyncio.gather(read(process.stdout, stdout), read(process.stderr, stderr))
    try:
        async with asyncio.timeout(seconds):
            status = await wait()
        await readers
    except TimeoutError:
        status = HUNG
    return status, stdout.decode(), stderr.decode(errors="replace")


async def answer() -> None:
    """Run the job and exit at once: the event loop would wait for threads of the guest."""
    outcome = await execute(*pickle.load(sys.stdin.buffer))
    with os.fdopen(1, "wb", closefd=False) as stdout:
        stdout.write(pickle.dumps(outcome))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(answer())
