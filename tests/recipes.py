"""The modules of each folder under ``tests/scenarios``, in build order."""

from __future__ import annotations

from toolchain import EXCEPTIONS, SETJMP, Module

# What programs here lend to their libraries from the libc they link in.
LENT = (
    "printf",
    "puts",
    "putchar",
    "malloc",
    "free",
    "qsort",
    "strlen",
    "snprintf",
    "fflush",
    "strcmp",
    "memcpy",
    "stdout",
)

# The functions a libc.so offers. Without dlopen and its kin: wasi-libc has only stubs of them,
# which would win over the linker's own. With the start-up functions that a program without a libc
# of its own needs.
LIBC = (
    *LENT,
    *(
        "calloc",
        "realloc",
        "fopen",
        "fclose",
        "fgets",
        "fputs",
        "fprintf",
        "fwrite",
        "fread",
        "setvbuf",
        "sprintf",
        "sscanf",
    ),
    *(
        "memset",
        "memmove",
        "memcmp",
        "strcpy",
        "strncmp",
        "strchr",
        "strdup",
        "strerror",
        "atoi",
        "strtol",
        "getenv",
        "exit",
    ),
    *(
        "abort",
        "atexit",
        "stderr",
        "stdin",
        "environ",
        "vfprintf",
        "vsnprintf",
        "fputc",
        "rand",
        "srand",
        "bsearch",
    ),
    *("__main_void", "__wasi_proc_exit", "__wasm_call_dtors", "__cxa_atexit"),
)

# What a C++ program lends: the memory operators and the runtime's part of RTTI and of static
# objects.
LENT_CXX = (
    *("_Znwm", "_Znam", "_ZdlPv", "_ZdlPvm", "_ZdaPv", "__cxa_pure_virtual", "__dynamic_cast"),
    *("_ZTVN10__cxxabiv117__class_type_infoE", "_ZTVN10__cxxabiv120__si_class_type_infoE"),
    *("__cxa_guard_acquire", "__cxa_guard_release"),
)

# What a program lends to the runtime of exceptions.
LENT_THROWING = (
    *LENT,
    *(
        "abort",
        "aligned_alloc",
        "calloc",
        "memchr",
        "memset",
        "memmove",
        "realloc",
        "raise_in_main",
        "catch_in_main",
        "opens",
    ),
)

# Keep a loop a loop: without this clang turns one that counts characters into a call of strlen,
# which not every program has.
LOOPS = ("-fno-builtin",)


def side(
    output: str,
    source: str,
    *needs: str,
    defines: tuple[str, ...] = (),
    cflags: tuple[str, ...] = (),
    ldflags: tuple[str, ...] = (),
) -> Module:
    """A library of one C or C++ source."""
    cflags += tuple(f"-D{define}" for define in defines)
    return Module(output, "side", (source,), needs, cflags=cflags, ldflags=ldflags)


def main(
    *needs: str,
    output: str = "main.wasm",
    source: str = "main.c",
    kind: str = "pie_main",
    **more: tuple[str, ...],
) -> Module:
    """A program, position-independent and lending LENT to its libraries unless said otherwise."""
    return Module(output, kind, (source,), needs, **{"exports": LENT, **more})


def chain(length: int) -> tuple[Module, ...]:
    """Libraries ``liblink1.so`` to ``liblink{length}.so``, each needing the one before."""
    first = side("liblink1.so", "link.c", defines=("N=1",))
    rest = (
        side(
            f"liblink{n}.so", "link.c", f"liblink{n - 1}.so", defines=(f"N={n}", f"BEFORE={n - 1}")
        )
        for n in range(2, length + 1)
    )
    return (first, *rest)


# For the shared memory of a threaded program, but without what a second thread needs to initialise
# thread-local data.
SHARED = ("-matomics", "-mbulk-memory", "-pthread", "-nostdlib", "-ffreestanding")
SHARED_LINK = ("--shared-memory", "--import-memory", "--max-memory=67108864")


def threaded(output: str, source: str, *needs: str, defines: tuple[str, ...] = ()) -> Module:
    """A library of one C source for threaded programs."""
    return Module(
        output, "threaded_side", (source,), needs, cflags=tuple(f"-D{define}" for define in defines)
    )


PLUGINS = (
    side("libplugin.so", "plugin.c"),
    side("libneedsmain.so", "needs_main.c"),
    side("libreal.so", "real.c"),
    side("libwrap.so", "wrap.c"),
    side("libnest.so", "nest.c"),
    side("libnesttrap.so", "nest_trap.c"),
    side("libholder.so", "holder.c"),
    side("libself.so", "self.c"),
    side("liblacks.so", "lacks.c"),
)

# A scenario called X_plain has the ordinary programs of X, which need the libc that is not
# position-independent: tests with it are slow.
RECIPES: dict[str, tuple[Module, ...]] = {
    # libraries that need libraries
    "needed": (side("libgreet.so", "greet.c"), main("libgreet.so")),
    "transitive": (
        side("libbase.so", "base.c"),
        side("libmiddle.so", "middle.c", "libbase.so"),
        side("libtop.so", "top.c", "libmiddle.so"),
        main("libtop.so"),
    ),
    "diamond": (
        side("libbase.so", "base.c"),
        side("libleft.so", "side.c", "libbase.so", defines=("SIDE=left",)),
        side("libright.so", "side.c", "libbase.so", defines=("SIDE=right",)),
        main("libleft.so", "libright.so"),
    ),
    "cycle": (
        side("libpong.so", "pong_stub.c"),
        side("libping.so", "ping.c", "libpong.so"),
        side("libpong.so", "pong.c", "libping.so"),
        main("libping.so"),
    ),
    "main_cycle": (side("libodd.so", "odd.c"), main("libodd.so")),
    "many": (*chain(20), main("liblink20.so")),
    # symbols
    "data": (
        side("libnumbers.so", "numbers.c"),
        side("liblinks.so", "links.c", "libnumbers.so"),
        main("libnumbers.so", "liblinks.so"),
    ),
    "callbacks": (side("libsorter.so", "sorter.c"), main("libsorter.so")),
    "imports": (
        side("libsort.so", "sort.c", cflags=("-fno-builtin",)),
        side("libother.so", "other.c", "libsort.so", cflags=("-fno-builtin",)),
    ),
    "identity": (
        side("libowner.so", "owner.c"),
        side("libother.so", "other.c", "libowner.so"),
        side("libalias.so", "alias.c"),
        main("libother.so", "libowner.so"),
    ),
    "weak": (
        side("libweak.so", "weak.c"),
        side("libprovider.so", "provider.c"),
        side("libuser.so", "user.c"),
    ),
    "interpose": (
        side("libfirst.so", "who.c", defines=("ME=1",)),
        side("libsecond.so", "who.c", defines=("ME=2",)),
        side("libuser.so", "user.c"),
        side("liblazy.so", "lazy.c"),
        side("libneedsfirst.so", "lazy.c", "libfirst.so"),
        side("libowner.so", "owner.c"),
        main("libuser.so", "libfirst.so", "libsecond.so", output="first.wasm"),
        main("libuser.so", "libsecond.so", "libfirst.so", output="second.wasm"),
    ),
    "missing": (
        side("libfunction.so", "function.c"),
        side("libforeign.so", "foreign.c"),
        side("libdata.so", "data.c"),
        side("libpointer.so", "pointer.c"),
        side("libseveral.so", "several.c"),
        side("liblater.so", "later.c"),
        side("libneedy.so", "function.c", "liblater.so"),
        main(),
    ),
    "signature": (
        side("libprovider.so", "provider.c"),
        side("libdata.so", "data.c"),
        side("libuser.so", "user.c"),
    ),
    "tls": (
        Module("libcounter.so", "threaded_side", ("counter.c",)),
        Module("libblock.so", "threaded_side", ("block.c",)),
        Module("libplain.so", "threaded_side", ("plain.c",)),
        Module(
            "main.wasm",
            "threaded_main",
            ("main.c",),
            ("libcounter.so", "libblock.so", "libplain.so"),
        ),
    ),
    # threads
    "threads": (
        threaded("libtwice.so", "twice.c"),
        threaded("libuser.so", "user.c", "libtwice.so"),
        threaded("liblazy.so", "user.c"),
        threaded("libtrap.so", "trap.c"),
        threaded("libnest.so", "nest.c"),
        threaded("libslow.so", "slow.c", "libtwice.so"),
        threaded("libouter.so", "plain.c", "libslow.so", "libnest.so", defines=("N=6",)),
        *(
            threaded(
                f"libplain{n}.so", "plain.c", defines=(f"N={n}", *(("TLS",) if n == 2 else ()))
            )
            for n in range(1, 4)
        ),
        threaded("libplain4.so", "plain.c", "libplain1.so", defines=("N=4", "NEED=1")),
        threaded("libplain5.so", "plain.c", "libplain2.so", defines=("N=5", "NEED=2", "TLS")),
        *(
            side(
                f"liblocal{which}{name}.so",
                "local.c",
                defines=(f"WHICH={which}",),
                cflags=SHARED,
                ldflags=(*SHARED_LINK, flag),
            )
            for which in (1, 2, 3)
            for name, flag in (("", "--keep-section=name"), ("-stripped", "--strip-all"))
        ),
        side("libsingle.so", "local.c", defines=("WHICH=3",)),
        main(output="single.wasm", source="single.c"),
        Module("main.wasm", "threaded_main", ("main.c",)),
    ),
    "waits": (threaded("libwaits.so", "waits.c"), threaded("libnowaits.so", "nowaits.c")),
    # life of a library
    "order": (
        side("libtrace.so", "trace.c"),
        side("libinner.so", "unit.c", "libtrace.so", defines=("NAME=inner", "LETTER='I'")),
        side(
            "libouter.so",
            "unit.c",
            "libinner.so",
            "libtrace.so",
            defines=("NAME=outer", "LETTER='O'", "BELOW=inner"),
        ),
        side("libpriorities.so", "priorities.c", "libtrace.so"),
        side("liblate.so", "pointers_stub.c"),
        side("libearly.so", "pointers.c", "liblate.so"),
        side("liblate.so", "pointers_late.c", "libearly.so"),
        main("libouter.so", "libtrace.so"),
    ),
    "trap": (
        side("libtrace.so", "trace.c"),
        side("libinner.so", "inner.c", "libtrace.so"),
        side("libtrapping.so", "trapping.c", "libinner.so", "libtrace.so"),
        side("libabove.so", "above.c", "libtrapping.so", "libtrace.so"),
        side("libgood.so", "good.c", "libinner.so"),
        main("libabove.so"),
    ),
    "stack": (side("libdeep.so", "deep.c"),),
    "zeroed": (side("libbss.so", "bss.c"), side("libother.so", "other.c")),
    # dlopen from the guest
    "dlfcn": (*PLUGINS, main(), main(kind="pie_main_own_memory", output="own.wasm")),
    "dlfcn_plain": (
        *PLUGINS,
        main(kind="non_pie_main", output="plain.wasm", exports=("main_total", "main_scale")),
    ),
    # kinds of program
    "mains": (
        side("libtool.so", "tool.c"),
        main("libtool.so", output="pie.wasm", cflags=("-DDIRECT",)),
        main("libtool.so", output="own.wasm", kind="pie_main_own_memory", cflags=("-DDIRECT",)),
    ),
    "mains_plain": (
        side("libtool.so", "tool.c"),
        main(output="plain.wasm", kind="non_pie_main", exports=("main_value", "main_twice")),
        main(output="static.wasm", source="static.c", kind="static_main", exports=()),
        # three that lack something a library needs: a table that grows, the stack pointer, memory
        # that grows
        main(
            output="fixed.wasm",
            source="static.c",
            kind="static_main",
            exports=("__stack_pointer",),
            ldflags=("--export-table",),
        ),
        main(
            output="stackless.wasm",
            source="static.c",
            kind="static_main",
            exports=(),
            ldflags=("--export-table", "--growable-table"),
        ),
        main(
            output="full.wasm",
            kind="non_pie_main",
            exports=("main_value", "main_twice"),
            ldflags=("--max-memory=1179648",),
        ),
    ),
    "cxx": (
        side("libshapes.so", "shapes.cpp"),
        side("libstatics.so", "statics.cpp"),
        main("libshapes.so", source="main.cpp", exports=LENT_CXX),
    ),
    "exceptions": (
        Module("libruntime.so", "exceptions_so", ("runtime.c",)),
        side("libthrower.so", "thrower.cpp", "libruntime.so", cflags=EXCEPTIONS),
        side("libcatcher.so", "catcher.cpp", "libruntime.so", cflags=EXCEPTIONS),
        side("libconstructor.so", "constructor.cpp", "libthrower.so", cflags=EXCEPTIONS),
        side("libasker.so", "asker.cpp", cflags=EXCEPTIONS),
        side("liblegacy.so", "catcher.cpp", cflags=EXCEPTIONS[:2]),
        side("libleap.so", "jump.c", "libruntime.so", defines=("SIDE=1",), cflags=SETJMP),
        side("libland.so", "jump.c", "libruntime.so", defines=("SIDE=2",), cflags=SETJMP),
        main(
            "libthrower.so",
            "libruntime.so",
            source="main.cpp",
            kind="throwing_main",
            cflags=EXCEPTIONS,
            exports=LENT_THROWING,
        ),
    ),
    "exceptions_threads": (
        Module("libruntime.so", "threaded_exceptions_so", ("runtime.c",)),
        *(
            Module(
                f"lib{name}.so",
                "throwing_threaded_side",
                (f"{name}.cpp",),
                ("libruntime.so",),
                cflags=EXCEPTIONS,
            )
            for name in ("thrower", "catcher")
        ),
        *(
            Module(
                f"lib{name}.so",
                "throwing_threaded_side",
                ("jump.c",),
                ("libruntime.so",),
                cflags=(*SETJMP, f"-DSIDE={number}"),
            )
            for name, number in (("leap", 1), ("land", 2))
        ),
        Module(
            "main.wasm",
            "throwing_threaded_main",
            ("threads.cpp",),
            ("libthrower.so", "libruntime.so"),
            cflags=EXCEPTIONS,
        ),
    ),
    "wasi": (side("libreport.so", "report.c", cflags=LOOPS), main("libreport.so")),
    "runtime_path": (
        side("libhelper.so", "helper.c", defines=("ME=1",)),
        side("libuser.so", "user.c", "libhelper.so", ldflags=("--rpath=$ORIGIN/private",)),
        main("libhelper.so", output="origin.wasm", ldflags=("--rpath=$ORIGIN/private",)),
        main("libhelper.so", output="escape.wasm", ldflags=("--rpath=$ORIGIN/../outside",)),
        main("libhelper.so", output="parent.wasm", ldflags=("--rpath=$ORIGIN/../lib",)),
        main("libhelper.so", output="absolute.wasm", ldflags=("--rpath=/usr/lib",)),
        main(
            "libhelper.so",
            output="two.wasm",
            ldflags=("--rpath=$ORIGIN/nowhere", "--rpath=$ORIGIN/private"),
        ),
        main("libhelper.so", output="none.wasm"),
        side("libhelper2.so", "helper.c", defines=("ME=2",)),
    ),
    "libc": (
        Module("libc.so", "libc_so", exports=LIBC),
        side("libformat.so", "format.c", "libc.so"),
        side("libkeep.so", "keep.c"),
        side("libcompare.so", "compare.c"),
        main("libformat.so", "libkeep.so", "libc.so", kind="pie_main_on_libc_so", exports=()),
    ),
    "layout": (
        side("liblayout.so", "layout.c"),
        main("liblayout.so", source="main.c"),
        main(output="plain.wasm", source="plain.c", kind="non_pie_main", exports=("main_where",)),
        main(
            output="shown.wasm",
            source="plain.c",
            kind="non_pie_main",
            exports=(
                "main_where",
                "__heap_base",
                "__heap_end",
                "__stack_low",
                "__stack_high",
                "__data_end",
                "__global_base",
            ),
        ),
        main(
            output="lends.wasm",
            source="plain.c",
            kind="non_pie_main",
            exports=("main_where", "malloc", "free"),
        ),
        main(
            output="datafirst.wasm",
            source="plain.c",
            kind="non_pie_main",
            exports=("main_where",),
            ldflags=("--no-stack-first",),
        ),
    ),
    # what no C compiler emits
    "features": tuple(
        Module(f"lib{name}.so", "wat", (f"{name}.wat",))
        for name in ("provider", "user", "thrower", "catcher", "starts", "reactor")
    ),
    # calls from Python
    "calls": (
        side("libcalls.so", "calls.c", cflags=LOOPS),
        Module("libpair.so", "wat", ("pair.wat",)),
    ),
}
