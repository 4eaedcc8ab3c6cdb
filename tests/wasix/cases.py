"""What each program prints, and where wasmer is known to do something else.

The text of a case is what a linker should do: what wasmer does, unless a
:class:`wasix.case.Difference` says why that is wrong. So whoever has wasmer-sdk can check every
line that has no difference, and see the others for himself.
"""

from __future__ import annotations

from running import lines
from wasix.case import Case, Difference
from wasix.wasmer import TRAP

# Where the libraries of search.c are; each tells its number.
PLACES: dict[str, str | bytes] = {
    "libwhich.so": "lib.so",
    "/opt/one/libwhich.so": "one.so",
    "/opt/two/libwhich.so": "two.so",
    "/usr/lib/libwhich.so": "usr.so",
    "/usr/lib/libusr.so": "usr.so",
    "/usr/local/lib/liblocal.so": "local.so",
}
COPIES: dict[str, str | bytes] = {f"libplain{n}.so": "libplain.so" for n in range(1, 9)}

BY_PATH = "wasmer tells libraries apart by how they were asked for, not by the file that was found"
NO_TRACE = (
    "wasmer registers a library before it is linked and does not undo it, "
    "so that the next dlopen of it succeeds"
)
NO_SCOPE = (
    "wasmer has one scope for all: dlopen's flags are not looked at, "
    "and the first definition wins everywhere"
)
ONE_BLOCK = (
    "wasmer gives other threads no block of a library without __wasix_init_tls: "
    "it uses address 0; a linker can use __wasm_init_tls instead"
)
IDENTITY = "in wasmer each module has its own slot for the same function, and dlsym one more"
CLOSURES = "wasmer puts a closure into the table of the thread that prepares it, and of no other"
SAFEPOINTS = (
    "wasmer waits for a host call that does pending operations, which this thread never makes"
)

CASES = {
    # libraries and symbols
    "dlopen": Case(
        "dlopen",
        lines(
            "a function: 42",
            "a value: 7",
            "the same again: 1 1",
            "opened again: 1",
            "constructed: 1",
            "another handle: 1",
            "needs another: 70",
            "and the program: 1004",
            "what was needed: 1",
            "its data: 1",
            "by the library that needs it: 0",
            "the program: 0 1",
            "its function: 2",
            "its value: 1",
            "not its own: 79",
            "everywhere: 9 1000",
            "valid: 0 0 0",
            "invalid: 45 45 45",
            "the program's: 45",
        ),
        wasmer=Difference(
            "dlsym of a handle looks into what the library needs, too, as POSIX says; "
            "in wasmer only into the library itself",
            {"by the library that needs it: 0": "by the library that needs it: 79"},
        ),
    ),
    "needed": Case(
        "needed",
        lines(
            "constructed: 1, value 7",
            "called: 8, through a pointer: 15",
            "opened: 1, constructed: 1",
            "in a thread: 12 18",
        ),
    ),
    "errors": Case(
        "errors",
        lines(
            "no such library: 79",
            "says which: 1",
            "no such symbol: 79",
            "in the program: 79",
            "anywhere: 79",
            "by a bad handle: 79 79",
            "no name: 79",
            "a name is what its length says: 0",
            "not less: 79",
            "a buffer of 0: 79, 0 characters, open, the rest is untouched: 1",
            "a buffer of 1: 79, 0 characters, terminated, the rest is untouched: 1",
            "a buffer of 2: 79, 1 characters, terminated, the rest is untouched: 1",
            "a buffer of 10: 79, 9 characters, terminated, the rest is untouched: 1",
            "no buffer: 79 79",
            "a symbol's text is cut, too: 79 9",
            "not UTF-8: 28",
            "a path outside: 78",
            "a library path outside: 78",
            "a text outside: 78",
            "a handle outside: 78",
            "a name outside: 78",
            "an address outside: 78",
            "not a module: 79",
            "an empty file: 79",
            "not a library: 79",
            "a directory: 79",
            "needs what is not there: 79",
            "says what: 1",
            "again: 79",
            *["any flags: 0"] * 3,
        ),
        files={
            "libplain.so": "libplain.so",
            "libstatic.so": "libstatic.so",
            "libneeds.so": "libneeds.so",
            "libjunk.so": b"hello",
            "libempty.so": b"",
        },
    ),
    "search-path": Case("search", lines("2"), args=("path",), files=PLACES),
    "search-default": Case("search", lines("0"), args=("default",), files=PLACES),
    "search-absent": Case("search", lines("1"), args=("absent",), files=PLACES),
    "search-usr": Case("search", lines("3"), args=("usr",), files=PLACES),
    "search-local": Case("search", lines("4"), args=("local",), files=PLACES),
    "search-slash": Case(
        "search",
        lines("1 2 1", "another way to the same: 1", "it is one library: 1"),
        args=("slash",),
        files=PLACES,
        wasmer=Difference(BY_PATH, {"it is one library: 1": "it is one library: 0"}),
    ),
    "search-name": Case(
        "search",
        lines("0 0", "it is one library: 1", "found elsewhere: 0"),
        args=("name",),
        files=PLACES,
        wasmer=Difference(BY_PATH, {"it is one library: 1": "it is one library: 0"}),
    ),
    "scope": Case(
        "scope",
        lines(
            "by handle: 1 2, 1 2",
            "a function, from within: 1 2",
            "a value, from within: 1 2",
            "everywhere: 79",
            "opened for all: 0",
            "who tells: 2",
        ),
        wasmer=Difference(
            NO_SCOPE,
            {
                "a value, from within: 1 2": "a value, from within: 1 1",
                "everywhere: 79": "everywhere: 0",
                "who tells: 2": "who tells: 1",
            },
        ),
    ),
    "pointers": Case(
        "pointers",
        lines(
            "they work: 2 3 4",
            "its owner and dlsym: 1",
            "its owner and another library: 1",
            "dlsym everywhere: 1",
            "the program's, itself and a library: 1",
            "the program's, itself and dlsym: 1",
            "in another thread: 1",
        ),
        wasmer=Difference(
            IDENTITY,
            {
                "its owner and dlsym: 1": "its owner and dlsym: 0",
                "its owner and another library: 1": "its owner and another library: 0",
                "dlsym everywhere: 1": "dlsym everywhere: 0",
                "the program's, itself and a library: 1": "the program's, itself and a library: 0",
                "the program's, itself and dlsym: 1": "the program's, itself and dlsym: 0",
            },
        ),
    ),
    "nested": Case(
        "nested",
        lines("opens: 8", "finds: 5"),
        hangs="wasmer holds its linker's lock while a constructor runs",
    ),
    # what fails
    "unresolved": Case(
        "unresolved",
        lines(
            "libdata.so: 79, says which: 1",
            "libdata.so again: 79",
            "libpointer.so: 79, says which: 1",
            "libpointer.so again: 79",
            "a function may be missing until it is called: 4",
            "weak ones are null: 0",
        ),
        wasmer=Difference(
            NO_TRACE,
            {
                "libdata.so again: 79": "libdata.so again: 0",
                "libpointer.so again: 79": "libpointer.so again: 0",
            },
        ),
    ),
    "undefined": Case("undefined", lines("before"), TRAP),
    "trap": Case(
        "trap",
        lines(
            "first: 79, says something: 1, handle untouched: 1",
            "its symbols: 79",
            "second: 79",
            "others: 8",
            "third: 79",
        ),
        wasmer=Difference(
            NO_TRACE,
            {
                "its symbols: 79": "its symbols: 0",
                "second: 79": "second: 0",
                "third: 79": "third: 0",
            },
        ),
    ),
    "exit": Case(
        "exit",
        lines("before"),
        17,
        wasmer=Difference(
            "wasmer takes an exit in a constructor for a failure of dlopen",
            stdout=lines("before", "after: 79"),
            status=0,
        ),
    ),
    # thread-local data
    "local-own": Case(
        "local",
        lines(
            "the opener: program 5, library 112 113, aligned 1",
            "thread 0: program 5 6, library 12 13, aligned 1, own 1, by name 1",
            "thread 1: program 5 6, library 12 13, aligned 1, own 1, by name 1",
            "thread 2: program 5 6, library 12 13, aligned 1, own 1, by name 1",
            "the opener: program 5, library 114",
            "by name: 1",
            "all: 9",
        ),
        args=("libown.so", "3"),
    ),
    "local-linker": Case(
        "local",
        lines(
            "the opener: program 5, library 112 113, aligned 1",
            "thread 0: program 5 6, library 12 13, aligned 1, own 1, by name 1",
            "the opener: program 5, library 114",
            "by name: 1",
            "all: 5",
        ),
        args=("liblocal.so", "1"),
        wasmer=Difference(
            ONE_BLOCK,
            {
                "thread 0: program 5 6, library 12 13, aligned 1, own 1, by name 1": (
                    "thread 0: program 5 6, library 1 2, aligned 0, own 1, by name 1"
                )
            },
        ),
    ),
    # calls whose type is known at run time
    "closures": Case(
        "closures",
        lines(
            "allocate: 0 0, differ 1",
            "prepare: 0",
            "result: 04030201, environment 1",
            "arguments: 04 03 02 01 18 17 16 15 14 13 12 11 00 00 80 3f 00 00 00 00 00 00 00 40",
            "aligned: 1, apart: 1",
            "below the stack of the caller: 1",
            "as another type: 0: 01 02 03 04 05 06 07 08",
            "of nothing: 0",
            "of floats: 0: 01 02 03 04",
            "arguments: 00 00 c0 3f 00 00 00 00 00 00 04 40",
            "of doubles: 0: 01 02 03 04 05 06 07 08",
            "a bad type: 28 28",
            "types outside: 78",
            "it is what it was: 1",
            "within itself: 55",
            "free: 0",
            "used again: 1",
            "free what is none: 0 0",
            "free twice: 0 0",
            "given out once: 1",
        ),
    ),
    "closures-own": Case(
        "closures_threads", lines("begin", "called by two: 0 0 wrong"), args=("own",)
    ),
    "closures-shared": Case(
        "closures_threads",
        lines("begin", "called by two: 0 0 wrong", "by the first: 1003", "by the first: 2003"),
        args=("shared",),
        wasmer=Difference(CLOSURES, stdout=lines("begin"), status=TRAP),
    ),
    "call-dynamic": Case(
        "call_dynamic",
        lines(
            "strict: 0, 42 -1, calls 1",
            "too few: 28, -1 -1, calls 0",
            "too many: 28, -1 -1, calls 0",
            "a small result: 28, -1 -1, calls 1",
            "a large result: 28, 42 -1, calls 1",
            "lax: 0, 42 -1, calls 1",
            "one missing: 0, 30 -1, calls 1",
            "all missing: 0, 0 -1, calls 1",
            "more than wanted: 0, 42 -1, calls 1",
            "no room: 0, -1 -1, calls 1",
            "much room: 0, 42 -1, calls 1",
            "strict is only 1: 0, 30 -1, calls 1",
            "packed, unaligned: 0 10",
            "a float: 0 1",
            "nothing: 0 2",
            "of a library: 0 2",
            "two results: 0 1 2",
            "every type: 0",
            "reversed: 18 19 1a 1b 1c 1d 1e 1f 20 21 22 23 24 25 26 27"
            " 10 11 12 13 14 15 16 17 0c 0d 0e 0f 04 05 06 07 08 09 0a 0b 00 01 02 03",
            "no function: 28 28 28",
            "values outside: 78, result outside: 78",
            "outside, but none: 0",
            "a closure before it is prepared: 28",
        ),
    ),
    "reflect": Case(
        "reflect",
        "".join(
            lines(
                f"{what}: {error}",
                f"   signature: {signature} cc cc",
                f"   arguments: {arguments}",
                f"   results: {results}",
            )
            for what, error, signature, arguments, results in (
                (
                    "mixed",
                    0,
                    "01 00 04 00 01 00",
                    "00 01 02 03 aa aa aa aa",
                    "01 bb bb bb bb bb bb bb",
                ),
                (
                    "as long as it is",
                    0,
                    "01 00 04 00 01 00",
                    "00 01 02 03 aa aa aa aa",
                    "01 bb bb bb bb bb bb bb",
                ),
                (
                    "too short for the arguments",
                    61,
                    "01 00 04 00 01 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "too short for the results",
                    61,
                    "01 00 04 00 01 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "nothing",
                    0,
                    "01 00 00 00 00 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "every type",
                    0,
                    "01 00 05 00 05 00",
                    "00 01 02 03 04 aa aa aa",
                    "04 03 02 01 00 bb bb bb",
                ),
                (
                    "a reference",
                    28,
                    "01 00 02 00 01 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "a closure before it is prepared",
                    28,
                    "00 00 00 00 00 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "a closure",
                    0,
                    "00 00 02 00 01 00",
                    "04 01 aa aa aa aa aa aa",
                    "04 bb bb bb bb bb bb bb",
                ),
                (
                    "a closure of another type",
                    0,
                    "00 00 00 00 00 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "null",
                    28,
                    "01 00 00 00 00 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
                (
                    "beyond the table",
                    28,
                    "00 00 00 00 00 00",
                    "aa aa aa aa aa aa aa aa",
                    "bb bb bb bb bb bb bb bb",
                ),
            )
        )
        + lines("no buffers: 0 61", "outside: 78 78 78"),
    ),
    # threads
    "threads": Case(
        "threads",
        lines(
            "the first thread is the process: 1",
            "spawn: 0, join: 0",
            "numbers: 1, process 1, argument 0, thread-local 5",
            "spawn: 0, join: 0",
            "numbers: 1, process 1, argument 1, thread-local 5",
            "numbers differ: 1",
            "the first one's: 5",
            "left early: 0 1",
            "a thread's thread: 0 2, number 1",
            "join who has ended: 0, nobody: 0 0",
            "parallelism: 0 1",
            "outside: 78 78 78 78",
        ),
    ),
    "unstartable": Case("unstartable", ""),
    "futex": Case(
        "futex",
        lines(
            "another value: 0 1",
            "a time-out: 0 0, not early: 1",
            "no time: 0 0",
            "wake nobody: 0 1",
            "wake all nobody: 0 1",
            "one at a time: 1",
            "all: 4",
            "a wake is not kept, nor for others: 0 0, 0 0",
            "outside: 78 78 78",
            "outside: 78 78",
        ),
    ),
    "clocks": Case(
        "clocks",
        lines(
            *(f"clock {clock}: 0" for clock in range(4)),
            "clock 4: 28",
            "after 2020: 1",
            "forward: 1",
            "sleep: 0, not early: 1",
            "sleep no time: 0",
            "yield: 0",
            "outside: 78",
            *(f"resolution {clock}: 0, at most a second: 1" for clock in range(4)),
            "resolution 4: 28, at most a second: 0",
            "outside: 78 78",
            *(f"set {clock}: 1" for clock in range(4)),
            "set 4: 28",
            "back: 1",
            "in another thread: 1",
        ),
    ),
    "wakeup": Case(
        "wakeup",
        lines(
            *(f"{signal}: 0, heard as {signal if signal < 32 else 0}" for signal in range(25, 35)),
            *("a wait: 0 0, not early: 1", "heard: 0"),
            *("a wait: 0 0, not early: 1", "heard: 1"),
        ),
    ),
    "signals": Case(
        "signals",
        lines(
            "to itself: 0, heard at once: 1, 10, here: 1",
            "an interrupt that is heard: 0, 2, 2",
            "to nobody: 0, 2",
            "to one who waits: 0 10",
            "heard: 2, last 12, there: 1",
            "the wait: 0 1, to its end: 1",
            "to one who sleeps: 0 10",
            "heard: 2, last 12, there: 1",
            "the sleep: 0, to its end: 1",
            "to one who joins: 0 10",
            "heard: 2, last 12, there: 1",
            "the join: 0, to its end: 1",
            "to one who yields: 0 10",
            "heard: 2, last 12, there: 1",
            "to one without a handler: 0 0",
            "heard: 0, last 0, there: 1",
        ),
    ),
    "namespaces": Case(
        "namespaces",
        lines("two parts", "0 10", "0 1", "0", "0 3 0", "one", "2", "outside: 78 78"),
        6,
        args=("one", "2"),
    ),
    **{
        f"ends-{way}{'-' if others else ''}{others}": Case(
            "ends", lines("before"), status, args=(way, *filter(None, [others]))
        )
        for way, status in {
            "return": 0,
            "exit": 3,
            "255": 255,
            "thread-exit": 0,
            "trap": TRAP,
            "dynamic-trap": TRAP,
            "kill": 27,
            "interrupt": 27,
            "thread-exits": 9,
            "thread-traps": TRAP,
        }.items()
        for others in ("", "yield", "wait", "sleep", "atomic", "compute")
        if not others or way in ("return", "exit", "trap", "thread-exits", "thread-traps")
    },
    # threads and libraries
    **{
        f"waits-{way}": Case(
            "waits",
            lines("opened: 18", f"used by {8 if way == 'join' else 4}, wrong 0"),
            args=(way,),
            files=COPIES,
            hangs=hangs,
        )
        for way, hangs in {
            **dict.fromkeys(
                ("futex", "time-out", "sleep", "yield", "clock", "write", "dlsym", "join", "wake"),
                "",
            ),
            **dict.fromkeys(("atomic", "compute", "id"), SAFEPOINTS),
        }.items()
    },
    **{
        f"storm-{count}": Case(
            "storm",
            lines(f"children {5 * count} of {5 * count}, libraries 8, wrong 0"),
            args=(str(count),),
            files=COPIES,
        )
        for count in (1, 2, 4, 8, 16)
    },
}

# wasmer's own wording, for the eye. No other linker needs to say the same.
TEXTS = Case(
    "texts",
    lines(
        "79 failed to load module: Failed to find shared library absent.so: ",
        "    absent.so: entry not found",
        "    /lib/absent.so: entry not found",
        "    /usr/lib/absent.so: entry not found",
        "    /usr/local/lib/absent.so: entry not found",
        "79 failed to load module: Failed to find shared library absent.so: ",
        "    /one/absent.so: entry not found",
        "    /two/absent.so: entry not found",
        "    /lib/absent.so: entry not found",
        "    /usr/lib/absent.so: entry not found",
        "    /usr/local/lib/absent.so: entry not found",
        "79 failed to load module: Failed to find shared library /lib/absent.so: entry not found",
        "79 failed to load module: Failed to find shared library lib/absent.so: entry not found",
        "79 failed to load module: Unresolved global 'GOT.mem'.absent_data due to: Missing export",
        "79 failed to load module: Unresolved global 'GOT.mem'.absent_function due to: "
        "Missing export",
        "79 failed to load module: Module is not a dynamic library",
        "cannot find absent: 79 failed to resolve symbol: Missing export",
        "cannot find absent: 79 failed to resolve symbol: Invalid module handle",
    ),
)
