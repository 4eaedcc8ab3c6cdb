"""Libraries come from granted directories, even if a guest changes them meanwhile.

No error says what lies outside.
"""

from __future__ import annotations

import errno
import gc
import os
import random
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import wasmtime

import pylinker
from fields import wasm
from guests import orderly
from pylinker.native.search import search_by_component

SECONDS = float(os.environ.get("PYLINKER_RACE_SECONDS", "4"))
SEED = int(os.environ.get("PYLINKER_RACE_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

# swap: a directory and a link change places until the word at 1024 is set, with pauses of as many
# steps as the word at 1028 says. open: 0 for no library, 1 for one that is in the directory, 2 for
# any other.
SWAPPER = r"""(module
  (import "env" "memory" (memory 1 1024 shared))
  (import "env" "dlopen" (func $dlopen (param i32 i32) (result i32)))
  (import "env" "dlsym" (func $dlsym (param i32 i32) (result i32)))
  (import "env" "dlclose" (func $dlclose (param i32) (result i32)))
  (import "env" "dlerror" (func $dlerror (result i32)))
  (import "wasi_snapshot_preview1" "path_rename"
    (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink"
    (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (table (export "__indirect_function_table") 1 funcref)
  (global (export "__stack_pointer") (mut i32) (i32.const 65536))
  (data (i32.const 16) "place") (data (i32.const 32) "spare") (data (i32.const 48) "link")
    (data (i32.const 64) "../outside")
  (data (i32.const 80) "inside\00")
  (func $pause (local $left i32)
    (local.set $left (i32.atomic.load (i32.const 1028)))
    (block $done (loop $again
      (br_if $done (i32.eqz (local.get $left)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br $again))))
  (func (export "make") (result i32)
    (call $symlink (i32.const 64) (i32.const 10) (i32.const 3) (i32.const 48) (i32.const 4)))
  (func (export "swap") (result i32) (local $wrong i32)
    (loop $again
      (local.set $wrong (i32.or (local.get $wrong) (i32.or
        (call $rename (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 3) (i32.const 32)
          (i32.const 5))
        (call $rename (i32.const 3) (i32.const 48) (i32.const 4) (i32.const 3) (i32.const 16)
          (i32.const 5)))))
      (call $pause)
      (local.set $wrong (i32.or (local.get $wrong) (i32.or
        (call $rename (i32.const 3) (i32.const 16) (i32.const 5) (i32.const 3) (i32.const 48)
          (i32.const 4))
        (call $rename (i32.const 3) (i32.const 32) (i32.const 5) (i32.const 3) (i32.const 16)
          (i32.const 5)))))
      (call $pause)
      (br_if $again (i32.eqz (i32.atomic.load (i32.const 1024)))))
    (local.get $wrong))
  (func (export "open") (param $name i32) (result i32) (local $handle i32) (local $result i32)
    (local.set $handle (call $dlopen (local.get $name) (i32.const 2)))
    (if (i32.eqz (local.get $handle)) (then (return (i32.const 0))))
    (local.set $result (select (i32.const 1) (i32.const 2)
      (call $dlsym (local.get $handle) (i32.const 80))))
    (drop (call $dlclose (local.get $handle)))
    (local.get $result))
  (func (export "error") (result i32) (call $dlerror))
  (func (export "_start")))"""


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    with orderly():
        yield


_way = False


@pytest.fixture(params=[False, True], ids=["openat2", "by component"])
def _each_way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Files are opened with ``openat2`` where the system has it, and then without."""
    global _way  # noqa: PLW0603 - for processes of their own
    _way = request.param
    search_by_component(_way)
    yield
    _way = False
    search_by_component(_way)


each_way = pytest.mark.usefixtures("_each_way")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory to grant, with a library in ``place``, and one outside."""
    for name, function in (("granted/place", "inside"), ("outside", "outside")):
        (tmp_path / name).mkdir(parents=True)
        wasm(
            tmp_path / name / "libx.so", f'(func (export "{function}") (result i32) (i32.const 1))'
        )
    return tmp_path


def guest(tree: Path, **keywords: object) -> pylinker.Program:
    main = bytes(wasmtime.wat2wasm(SWAPPER))
    return pylinker.Program(
        main, threads=True, dirs={"/": tree / "granted"}, cache=False, **keywords
    )


def put(program: pylinker.Program, name: str | bytes, address: int = 2048) -> int:
    """Write a name into the guest's memory."""
    program.memory.write(address, (name if isinstance(name, bytes) else name.encode()) + b"\0")
    return address


def error_of(program: pylinker.Program, name: str | bytes) -> str:
    """The ``dlerror`` of a failing ``dlopen`` of ``name``, with the name replaced."""
    assert program.main.open(put(program, name)) == 0
    text = program.memory.cstring(program.main.error()).decode()
    return re.sub(r"library '.+' not found", "library NAME not found", text)


@each_way
def test_a_directory_that_changes_places_with_a_link_lets_no_library_in_from_outside(
    tree: Path,
) -> None:
    choice = random.Random(SEED)
    names = ["/place/libx.so", "place/libx.so", "./place/libx.so", "libx.so"]
    print(f"PYLINKER_RACE_SEED={SEED}")
    with guest(tree, env={"LD_LIBRARY_PATH": "/place"}) as program:
        assert program.main.make() == 0
        swapper = program.spawn("swap")
        found: Counter[int] = Counter()
        until = time.monotonic() + SECONDS
        while not found[2] and (time.monotonic() < until or not found[0] or not found[1]):
            program.memory.write(1028, choice.randrange(20000).to_bytes(4, "little"))
            for _ in range(20):
                found[program.main.open(put(program, choice.choice(names)))] += 1
        program.memory.write(1024, b"\1")
        assert swapper.join(60) == 0
    assert not found[2], (
        f"{found[2]} of {found.total()} libraries came from outside; PYLINKER_RACE_SEED={SEED}"
    )


@each_way
class TestWhatAGuestLearns:
    NAMES = (
        "/place/none.so",  # inside, and not there
        "/nowhere/libx.so",
        "/out/libx.so",  # links out: to a library, nothing, a directory, an unreadable file
        "/out/none.so",
        "/out/none/libx.so",
        "/liblink.so",
        "/libnone.so",
        "/root/secret",
        "/etc/passwd",
        "../outside/libx.so",
        "/../outside/libx.so",
        "/place/../../outside/libx.so",
        "/back/libx.so",  # links back in through a directory outside, present and absent
        "/never/libx.so",
        "/proc/self/exe",
        "/place",  # a directory, a FIFO, and a link to itself, all inside
        "/fifo",
        "/loop",
        "/place/libx.so/libx.so",
        "libx.so",
        "n" * 255,
        "n" * 256,
        b"\xff\xfe.so",
        b"/place/\xff.so",
    )

    def test_what_is_outside_is_as_if_it_did_not_exist(self, tree: Path) -> None:
        granted = tree / "granted"
        (granted / "out").symlink_to(tree / "outside")
        (granted / "liblink.so").symlink_to(tree / "outside" / "libx.so")
        (granted / "libnone.so").symlink_to(tree / "outside" / "none.so")
        (granted / "root").symlink_to("/root")
        (granted / "back").symlink_to("../outside/../granted/place")
        (granted / "never").symlink_to("../none/../granted/place")
        (granted / "loop").symlink_to("loop")
        os.mkfifo(granted / "fifo")
        with guest(tree) as program:
            said = {error_of(program, name) for name in self.NAMES}
            assert said == {"library NAME not found, needed by main"}
            assert program.main.open(put(program, "/place/libx.so")) == 1

    def test_no_message_has_a_path_of_the_host(self, tree: Path) -> None:
        (tree / "granted" / "libbig.so").write_bytes(bytes(5000))
        (tree / "granted" / "libnone.so").write_bytes(b"\0asm\1\0\0\0")
        (tree / "granted" / "libtext.so").write_text("text")
        with guest(tree, limits=pylinker.Limits(library_size=4000)) as program:
            for name in ("/libbig.so", "/libnone.so", "/libtext.so"):
                assert str(tree) not in error_of(program, name)


@each_way
class TestLinks:
    def test_links_inside_are_followed(self, tree: Path) -> None:
        granted = tree / "granted"
        real = granted / "place" / "libx.so"
        (granted / "deep" / "er").mkdir(parents=True)
        for name, target in {
            "one.so": "place/libx.so",
            "two.so": "./deep/../one.so",
            "absolute.so": str(real),
            "place2": "place",
            "deep/er/up.so": "../../place2//libx.so",
            "deep/over": "../../granted/place",
        }.items():
            (granted / name).symlink_to(target)
        for number in range(40):
            (granted / f"chain{number + 1}").symlink_to(f"chain{number}" if number else "one.so")
        with guest(tree) as program:
            names = (
                "/one.so",
                "/two.so",
                "/absolute.so",
                "/place2/libx.so",
                "/deep/er/up.so",
                "/deep/over/libx.so",
                "/chain38",
                "./chain10",
            )
            for name in names:
                assert program.main.open(put(program, name)) == 1, name
            assert error_of(program, "/chain40") == "library NAME not found, needed by main"
            program.dlopen(granted / "one.so")
            paths = {library.path for library in program.libraries}
            assert paths == {None, str(real)}

    def test_the_hosts_own_name_of_a_directory_may_be_in_a_link(self, tree: Path) -> None:
        """As /var is a link to /private/var on some systems."""
        (tree / "alias").symlink_to("granted")
        (tree / "granted" / "absolute.so").symlink_to(tree / "alias" / "place" / "libx.so")
        with pylinker.Program(library_path=[tree / "alias"], cache=False) as program:
            assert program.dlopen("absolute.so").inside() == 1
            assert program.libraries[-1].path == str(tree / "granted" / "place" / "libx.so")

    def test_a_chain_of_links_longer_than_the_stack_of_python(self, tree: Path) -> None:
        """Which ``os.path.realpath`` meets with a RecursionError."""
        (tree / "granted" / "link0").symlink_to("place/libx.so")
        for number in range(2000):
            (tree / "granted" / f"link{number + 1}").symlink_to(f"link{number}")
        with guest(tree) as program:
            assert error_of(program, "/link2000") == "library NAME not found, needed by main"
            for name in (str(tree / "granted" / "link2000"), tree / "granted" / "link2000"):
                with pytest.raises(
                    pylinker.LibraryNotFoundError, match="too many levels of symbolic links"
                ):
                    program.dlopen(name)
        with pytest.raises(pylinker.LibraryNotFoundError):
            pylinker.Program(tree / "granted" / "link2000")
        with (
            pylinker.Program(library_path=[tree / "granted" / "link2000"], cache=False) as program,
            pytest.raises(pylinker.LinkError),
        ):
            program.dlopen("libx.so")


@each_way
class TestGrantedDirectories:
    def test_a_granted_directory_is_the_one_that_was_there(self, tree: Path) -> None:
        """The directory stays the same if its name is taken by a link, or by another directory."""
        place = tree / "granted" / "place"
        with pylinker.Program(
            library_path=[place], dirs={"/": tree / "granted"}, cache=False
        ) as program:
            place.rename(tree / "granted" / "moved")
            place.symlink_to("../outside")
            program.dlopen("libx.so").close()
            with pytest.raises(AttributeError):
                program.dlopen("libx.so").outside  # noqa: B018 - looks it up
            place.unlink()
            (tree / "outside").rename(place)
            assert program.dlopen("libx.so").inside() == 1

    def test_one_that_is_made_later_is_found_unless_it_is_a_link(self, tree: Path) -> None:
        later = tree / "granted" / "later"
        with pylinker.Program(
            library_path=[later], dirs={"/": tree / "granted"}, cache=False
        ) as program:
            later.symlink_to("../outside")
            for _ in range(2):
                with pytest.raises(pylinker.LibraryNotFoundError, match="no such file"):
                    program.dlopen("libx.so")
            later.unlink()
            later.mkdir()
            (later / "libx.so").write_bytes((tree / "granted" / "place" / "libx.so").read_bytes())
            assert program.dlopen("libx.so").inside() == 1

    def test_one_that_is_made_again_is_found(self, tree: Path) -> None:
        place = tree / "granted" / "place"
        data = (place / "libx.so").read_bytes()
        with pylinker.Program(library_path=[place], cache=False) as program:
            (place / "libx.so").unlink()
            place.rmdir()
            with pytest.raises(pylinker.LibraryNotFoundError):
                program.dlopen("libx.so")
            place.mkdir()
            (place / "libx.so").write_bytes(data)
            assert program.dlopen("libx.so").inside() == 1

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files there")
    def test_programs_share_its_descriptor(self, tree: Path) -> None:
        def count() -> int:
            return len(os.listdir("/proc/self/fd"))

        with pylinker.Program(library_path=[tree], cache=False):
            pass
        gc.collect()  # programs of other tests hold descriptors until then
        before = count()
        programs = [
            pylinker.Program(library_path=[tree / "granted"], cache=False) for _ in range(20)
        ]
        assert count() == before + 1
        for program in programs:
            program.close()
        del program
        programs.clear()
        assert count() == before


LATIN = os.fsdecode(b"lib\xff.so")
"""A name that is not UTF-8, as the host spells it."""


@each_way
class TestNames:
    @pytest.fixture
    def latin(self, tree: Path) -> Path:
        try:
            (tree / "granted" / LATIN).write_bytes(
                (tree / "granted" / "place" / "libx.so").read_bytes()
            )
        except OSError:
            pytest.skip("the file system has only names in UTF-8")
        return tree / "granted"

    def test_the_host_may_name_a_file_that_is_not_utf8(
        self, latin: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("DEBUG", "pylinker")
        (latin / "liblink.so").symlink_to(LATIN)
        with pylinker.Program(library_path=[latin], cache=False) as program:
            for name in (latin / LATIN, LATIN, "liblink.so"):
                with program.dlopen(name) as library:
                    assert library.inside() == 1
                    assert repr(library)
                    str(program.statistics())
        with pylinker.CDLL(latin / LATIN, cache=False) as library:
            assert library.inside() == 1

    def test_a_guest_may_not(self, latin: Path, tree: Path) -> None:
        (latin / "liblink.so").symlink_to(LATIN)
        with guest(tree) as program:
            for name in (b"lib\xff.so", b"/lib\xff.so", b"./lib\xff.so"):
                error_of(program, name)
            assert program.main.open(put(program, "/liblink.so")) == 1

    def test_a_main_module_may_have_such_a_name(self, tree: Path) -> None:
        main = tree / os.fsdecode(b"main\xff.wasm")
        try:
            main.write_bytes(
                wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')
            )
        except OSError:
            pytest.skip("the file system has only names in UTF-8")
        with pylinker.Program(main, cache=False) as program:
            assert program.run() == 0

    @pytest.mark.parametrize(
        "name",
        ["\ud800", "./\ud800", "a\0b", "./a\0b", "x" * 5000, "./" + "x" * 300, "./" + "x/" * 3000],
    )
    def test_names_that_no_file_has(self, tree: Path, name: str) -> None:
        with pylinker.Program(library_path=[tree], cache=False) as program:
            for _ in range(2):
                with pytest.raises(pylinker.LibraryNotFoundError) as caught:
                    program.dlopen(name)
                str(caught.value).encode()
        for make in (pylinker.Program, pylinker.CDLL):
            with pytest.raises(pylinker.LibraryNotFoundError):
                make(name, cache=False)

    @pytest.mark.parametrize("directory", ["\ud800", "a\0b", "x" * 5000, os.fsdecode(b"\xff")])
    def test_directories_with_such_names_have_no_libraries(
        self, tree: Path, directory: str
    ) -> None:
        with pylinker.Program(
            library_path=[directory, tree / "granted" / "place"], cache=False
        ) as program:
            assert program.dlopen("libx.so").inside() == 1
            with pytest.raises(pylinker.LibraryNotFoundError) as caught:
                program.dlopen("none.so")
            assert len(caught.value.searched) == 2
        with pytest.raises((NotADirectoryError, ValueError)):
            pylinker.Program(dirs={"/": directory}, cache=False)

    def test_arguments_that_are_not_unicode_say_so(self) -> None:
        for keywords in (
            {"args": ["\udcff"]},
            {"env": {"A": "\udcff"}},
            {"env": {"\udcff": ""}},
            {"dirs": {"/\udcff": "/"}},
        ):
            with pytest.raises(ValueError, match="UTF-8"):
                pylinker.Program(cache=False, **keywords)


@each_way
class TestWhatGoesWrong:
    @pytest.mark.parametrize(
        "problem", [errno.EACCES, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM]
    )
    def test_reading_fails(self, tree: Path, monkeypatch: pytest.MonkeyPatch, problem: int) -> None:
        def fails(*_: object) -> bytes:
            raise OSError(problem, os.strerror(problem))

        with guest(tree) as program:
            with monkeypatch.context() as patched:
                patched.setattr("pylinker.native.search.os.read", fails)
                for _ in range(2):
                    assert (
                        error_of(program, "/place/libx.so")
                        == "library NAME not found, needed by main"
                    )
                with pytest.raises(
                    pylinker.LibraryNotFoundError, match=os.strerror(problem).lower()
                ):
                    program.dlopen(tree / "granted" / "place" / "libx.so")
            assert program.main.open(put(program, "/place/libx.so")) == 1

    def test_no_more_files_may_be_open(self, tree: Path) -> None:
        script = """
            import resource
            path = [tree / "granted" / "place"]
            with pylinker.Program(library_path=path, cache=tree / "cache") as program:
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
                for name in ("libx.so", str(tree / "granted" / "place" / "libx.so")):
                    for _ in range(2):
                        try:
                            program.dlopen(name)
                        except pylinker.LibraryNotFoundError as error:
                            assert "too many open files" in str(error), error
                        else:
                            raise AssertionError
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert program.dlopen("libx.so").inside() == 1
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            from pylinker.linker import Locator
            found = Locator([tree / "outside"])
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert found.find("libx.so").path == str(tree / "outside" / "libx.so")
            """
        python(script, tree)

    @pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of the superuser")
    def test_what_may_not_be_read(self, tree: Path) -> None:
        script = """
            granted = tree / "granted"
            (granted / "shut").mkdir()
            library = (granted / "place" / "libx.so").read_bytes()
            (granted / "shut" / "libx.so").write_bytes(library)
            (granted / "passed").mkdir()
            (granted / "passed" / "libx.so").write_bytes(library)
            (granted / "libshut.so").write_bytes(b"")
            (granted / "through.so").symlink_to("shut/libx.so")
            (granted / "libshut.so").chmod(0)
            (granted / "shut").chmod(0)
            (granted / "passed").chmod(0o711)
            for each in [*tree.parents][::-1] + [tree]:
                each.chmod(each.stat().st_mode | 0o111)
            makers = pylinker.Program, pylinker.CDLL  # imported while they may be read
            os.seteuid(65534)
            path = [granted / "shut", granted, granted / "passed"]
            refused = [granted / "shut" / "libx.so", granted / "libshut.so"]
            with pylinker.Program(library_path=path, cache=False) as program:
                for name in ("libshut.so", "through.so", *refused):
                    try:
                        program.dlopen(name)
                    except pylinker.LibraryNotFoundError as error:
                        assert "permission denied" in str(error), error
                    else:
                        raise AssertionError
                assert program.dlopen("libx.so").inside() == 1  # its directory is not readable
                assert program.libraries[-1].path == str(granted / "passed" / "libx.so")
            for make in makers:
                try:
                    make(granted / "shut" / "libx.so", cache=False)
                except pylinker.LibraryNotFoundError:
                    pass
            """
        python(script, tree)

    def test_the_current_directory_is_gone(self, tree: Path) -> None:
        script = """
            os.mkdir(tree / "gone")
            os.chdir(tree / "gone")
            os.rmdir(tree / "gone")
            for make in (pylinker.Program, pylinker.CDLL):
                for name in ("./main.wasm", "../granted/place/libx.so"):
                    try:
                        make(name, cache=False)
                    except pylinker.LinkError:
                        pass
                    else:
                        raise AssertionError
            path = [".", tree / "granted" / "place"]
            with pylinker.Program(library_path=path, cache=False) as program:
                assert program.dlopen("libx.so").inside() == 1
            """
        python(script, tree)


def python(script: str, tree: Path, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, in ``tree``; its end is checked."""
    header = (
        "import os, sys, pylinker\nfrom pathlib import Path\n"
        "from pylinker.native.search import search_by_component\n"
    )
    header += "tree = Path(sys.argv[1])\n"
    header += f"search_by_component({_way})\n"
    known = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", header + textwrap.dedent(script), str(tree)],
        cwd=Path(__file__).parent,
        env={name: value for name, value in known.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def linked(
    path: Path, function: str, calls: str = "", *, needed: str = "", runtime_path: str = ""
) -> Path:
    """Write a library with ``function``: it returns 1, or 1 more than another's ``calls``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    needs = f'(needed "{needed}")' if needed else ""
    where = f'(runtime-path "{runtime_path}")' if runtime_path else ""
    body = "(i32.add (call $next) (i32.const 1))" if calls else "(i32.const 1)"
    imported = f'(import "env" "{calls}" (func $next (result i32)))' if calls else ""
    path.write_bytes(
        wasmtime.wat2wasm(
            f"(module (@dylink.0 (mem-info (memory 0 0)) {needs} {where}) {imported} "
            f'(func (export "{function}") (result i32) {body}))'
        )
    )
    return path


class TestBesideItself:
    """A library that is opened by its path has what it needs beside it, and what that needs."""

    @pytest.fixture(params=["", "$ORIGIN"], ids=["without -rpath", "with -rpath"])
    def plugin(self, tree: Path, request: pytest.FixtureRequest) -> Path:
        folder = tree / "granted" / "plugins"
        linked(folder / "libcore.so", "core")
        linked(
            folder / "libbase.so", "base", "core", needed="libcore.so", runtime_path=request.param
        )
        return linked(
            folder / "libplugin.so",
            "plugin",
            "base",
            needed="libbase.so",
            runtime_path=request.param,
        )

    def test_cdll(self, plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for directory, name in (
            (plugin.parent.parent, "./plugins/libplugin.so"),
            (plugin.parent, "./libplugin.so"),
            (None, str(plugin)),
        ):
            if directory is not None:
                monkeypatch.chdir(directory)
            with pylinker.CDLL(name, cache=False) as library:
                assert library.plugin() == 3
                assert [each.path for each in library.program.libraries] == [
                    str(plugin.parent / f"lib{each}.so") for each in ("plugin", "base", "core")
                ]

    def test_dlopen_and_preload(self, plugin: Path) -> None:
        with pylinker.Program(cache=False) as program:
            assert program.dlopen(plugin).plugin() == 3
        with pylinker.Program(preload=[plugin], cache=False) as program:
            assert program.main.plugin() == 3

    def test_dlopen_of_a_guest(self, plugin: Path, tree: Path) -> None:
        with guest(tree) as program:
            name = f"/plugins/{plugin.name}"
            assert program.main.open(put(program, name)) == 2  # it is loaded, and is not libx.so

    def test_run_check_and_ldd(self, plugin: Path, tree: Path) -> None:
        main = wasm(tree / "main.wasm", '(memory (export "memory") 1)', '(func (export "_start"))')
        for arguments, says in (
            (["run", "--invoke", "plugin", str(plugin)], "3"),
            (["run", "--preload", str(plugin), str(main)], ""),
            (["check", str(plugin)], "0 missing"),
            (["check", str(main), str(plugin)], "0 missing"),
            (["ldd", str(plugin)], "libcore.so"),
        ):
            done = subprocess.run(
                [sys.executable, "-m", "pylinker", *arguments],
                cwd=tree,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr + done.stdout
            assert says in done.stdout

    def test_a_copy_beside_it_comes_before_that_of_the_main_module(
        self, plugin: Path, tree: Path
    ) -> None:
        main = wasm(tree / "main.wasm", '(memory (export "memory") 1)', '(func (export "_start"))')
        linked(tree / "libbase.so", "base")
        with pylinker.Program(main, cache=False) as program:
            assert program.dlopen(plugin).plugin() == 3
            assert program.dlopen("libbase.so").base() == 2  # it is loaded already

    def test_only_for_what_it_needs(self, plugin: Path) -> None:
        """Names of the host and other libraries are not searched there, nor above or below."""
        linked(plugin.parent / "libother.so", "other")
        linked(plugin.parent.parent / "libabove.so", "above")
        with pylinker.Program(cache=False) as program:
            program.dlopen(plugin)
            with pytest.raises(pylinker.LibraryNotFoundError):
                program.dlopen("libother.so")
            for needed, where in (
                ("libabove.so", "$ORIGIN/.."),
                ("libabove.so", ""),
                ("../libabove.so", "$ORIGIN"),
            ):
                with pytest.raises(pylinker.LibraryNotFoundError, match=r"needed by libuser\.so"):
                    program.dlopen(
                        linked(
                            plugin.parent / "libuser.so",
                            "user",
                            "above",
                            needed=needed,
                            runtime_path=where,
                        )
                    )

    def test_a_link_beside_it_leads_no_further(self, plugin: Path, tree: Path) -> None:
        (plugin.parent / "libcore.so").unlink()
        linked(tree / "outside" / "libcore.so", "core")
        (plugin.parent / "libcore.so").symlink_to(tree / "outside" / "libcore.so")
        with pytest.raises(pylinker.LibraryNotFoundError, match="not in a granted directory"):
            pylinker.CDLL(plugin, cache=False)
        (plugin.parent / "libcore.so").unlink()
        linked(plugin.parent / "real" / "libcore.so.1", "core")
        (plugin.parent / "libcore.so").symlink_to("real/libcore.so.1")
        with pylinker.CDLL(plugin, cache=False) as library:
            assert library.plugin() == 3
