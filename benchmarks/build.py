"""Build the files of `guest/`: a WASIX program that reads its own clock, and its libraries.

python benchmarks/build.py [DIRECTORY]

It needs a checkout, since the toolchain and the headers are those of the tests, and `pip install
'.[test]'`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

GUEST = Path(__file__).resolve().with_name("guest")
TESTS = GUEST.parent.parent / "tests"


def build(output: Path) -> list[Path]:
    """Build into ``output`` and return the files.

    Blocks while zig runs; raises ``toolchain.BuildError``.
    """
    sys.path.insert(0, str(TESTS))
    from toolchain import Build, Module, Toolchain  # noqa: PLC0415  # not there when pylinker is installed

    recipe = (
        Module("libcallee.so", "threaded_side", ("callee.c",)),
        Module("libcaller.so", "threaded_side", ("caller.c",), ("libcallee.so",)),
        Module("libsmall.so", "threaded_side", ("small.c",)),
        Module("libsoak.so", "threaded_side", ("soak.c",), ("libcallee.so",)),
        Module("libsoaktls.so", "threaded_side", ("soak.c",), ("libcallee.so",), cflags=("-DTLS",)),
        Module("libmany.so", "threaded_side", ("many.c",)),
        Module(
            "main.wasm",
            "threaded_main",
            ("main.c",),
            ("libcallee.so",),
            cflags=(f"-I{TESTS / 'wasix'}",),
        ),
    )
    sources = [*sorted(GUEST.glob("*.c")), TESTS / "wasix" / "abi.h", TESTS / "wasix" / "guest.h"]

    def fill(work: Path) -> None:
        builder = Build(toolchain, GUEST, work)
        for module in recipe:
            getattr(builder, module.kind)(module)

    toolchain = Toolchain()
    key = [path.read_bytes() for path in sources] + [repr(module).encode() for module in recipe]
    built = toolchain.cached("guest-benchmarks", key, fill)
    return [
        Path(shutil.copyfile(built / module.output, output / module.output)) for module in recipe
    ]


if __name__ == "__main__":
    for made in build(Path(sys.argv[1]) if len(sys.argv) > 1 else GUEST):
        sys.stdout.write(f"{made.name}: {made.stat().st_size} bytes\n")
