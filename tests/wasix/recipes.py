"""The programs of this folder, each with its libraries in a directory of the toolchain's cache."""

from __future__ import annotations

from pathlib import Path

from toolchain import Build, Module, Toolchain

FOLDER = Path(__file__).parent
HEADERS = ("abi.h", "guest.h")


def library(
    name: str, *needs: str, output: str | None = None, defines: tuple[str, ...] = ()
) -> Module:
    """A library of one source in ``libraries``, ``lib{name}.so`` unless said otherwise."""
    cflags = tuple(f"-D{define}" for define in defines)
    return Module(
        output or f"lib{name}.so", "threaded_side", (f"libraries/{name}.c",), needs, cflags=cflags
    )


def program(name: str, *needs: str) -> Module:
    """The program of that name, always ``main.wasm``."""
    return Module("main.wasm", "threaded_main", (f"{name}.c",), needs)


def which(place: str, number: int) -> Module:
    """A library that tells its place; the test puts it there."""
    return library("which", output=f"{place}.so", defines=(f"WHICH={number}",))


PLAIN = library("plain")
BASE = library("base")
GONE = library("base", output="libgone.so")  # which the test leaves out
TYPES = Module("libtypes.so", "wat", ("libraries/types.wat",))
LACKING = tuple(
    library("lacks", output=f"lib{what}.so", defines=(f"LACKS={what.upper()}",))
    for what in ("data", "pointer", "function", "weak")
)
# a module that is valid but no library
STATIC = Module("libstatic.so", "wat", ("libraries/static.wat",))

RECIPES: dict[str, tuple[Module, ...]] = {
    "dlopen": (PLAIN, BASE, library("top", "libbase.so"), program("dlopen")),
    "errors": (
        PLAIN,
        STATIC,
        GONE,
        library("top", "libgone.so", output="libneeds.so"),
        program("errors"),
    ),
    "texts": (PLAIN, STATIC, *LACKING, program("texts")),
    "search": (
        *(which(place, n) for n, place in enumerate(("lib", "one", "two", "usr", "local"))),
        program("search"),
    ),
    "unresolved": (*LACKING, program("unresolved")),
    "undefined": (*LACKING, program("undefined")),
    "scope": (
        *(
            library("named", output=f"lib{name}.so", defines=(f"NUMBER={n}",))
            for name, n in (("first", 1), ("second", 2))
        ),
        program("scope"),
    ),
    "nested": (
        PLAIN,
        *(
            library("nesting", output=f"libnest{what}.so", defines=(f"NEST={what.upper()}",))
            for what in ("open", "find")
        ),
        program("nested"),
    ),
    "trap": (PLAIN, library("trapping"), program("trap")),
    "exit": (library("exiting"), program("exit")),
    "local": (
        library("local"),
        library("local", output="libown.so", defines=("OWN_BLOCKS",)),
        program("local"),
    ),
    "closures": (program("closures"),),
    "closures_threads": (program("closures_threads"),),
    "call_dynamic": (PLAIN, TYPES, program("call_dynamic")),
    "reflect": (TYPES, program("reflect")),
    "pointers": (library("owner"), library("other", "libowner.so"), program("pointers")),
    "needed": (PLAIN, program("needed", "libplain.so")),
    "threads": (program("threads"),),
    "unstartable": (program("unstartable"),),
    "futex": (program("futex"),),
    "clocks": (program("clocks"),),
    "wakeup": (program("wakeup"),),
    "signals": (program("signals"),),
    "ends": (program("ends"),),
    "namespaces": (program("namespaces"),),
    "waits": (PLAIN, program("waits")),
    "storm": (PLAIN, program("storm")),
}


def build(toolchain: Toolchain, name: str) -> Path:
    """The directory with ``main.wasm`` and the libraries of a program, from the cache or built."""
    recipe = RECIPES[name]
    sources = [*HEADERS, *(source for module in recipe for source in module.sources)]
    key = [part for source in sources for part in (source.encode(), (FOLDER / source).read_bytes())]
    key += [repr(module).encode() for module in recipe]

    def fill(work: Path) -> None:
        builder = Build(toolchain, FOLDER, work)
        for module in recipe:
            getattr(builder, module.kind)(module)

    return toolchain.cached(f"wasix-{name}", key, fill)
