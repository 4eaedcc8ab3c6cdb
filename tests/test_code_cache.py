"""The cache of compiled modules: which entries are trusted, and that errors are harmless."""

import gc
import os
import subprocess
import sys
import threading
import tracemalloc
import zlib
from contextlib import suppress
from random import Random

import pytest
import wasmtime

import pylinker
from pylinker.errors import ParseError, UnsupportedError
from pylinker.native.enums import PLT_BLOCK
from pylinker.runtime import code, entries
from pylinker.runtime.code import CodeCache, default_cache_directory
from pylinker.runtime.outline import pack
from pylinker.wasm import FuncType, pack_info, pack_sections, parse_module, rewrite_waits

WASM = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 42))'))


@pytest.fixture
def compiled(monkeypatch):
    """Counts compilations."""
    seen = []
    original = wasmtime.Module

    class Counting(original):
        def __init__(self, engine, wasm):
            seen.append(wasm)
            super().__init__(engine, wasm)

    monkeypatch.setattr(code.wasmtime, "Module", Counting)
    return seen


def fresh(directory, **keywords):
    """Return a cache that remembers nothing in memory."""
    return CodeCache(directory, **keywords)


def entry_of(directory):
    (entry,) = directory.iterdir()
    return entry


def trailer_of(data):
    """Return the fields of an entry's trailer."""
    return entries._TRAILER.unpack_from(data, len(data) - entries._END)


def entry_with(key, parts, payload, *, rewritten=False):
    """Return the bytes of an entry that is whole: what is read, and the code."""
    read = pack_sections(parts)
    entry = (
        payload
        + read
        + entries._TRAILER.pack(entries._MAGIC, key, len(payload), len(read), rewritten)
    )
    return entry + entries._CHECKSUM.pack(zlib.crc32(entry))


def test_a_module_is_compiled_once_per_directory(tmp_path, compiled):
    directory = tmp_path / "new" / "cache"
    first = fresh(directory).load(WASM, name="m")
    second = fresh(directory).load(WASM, name="m")
    assert first.info.exports.keys() == second.info.exports.keys() == {"answer"}
    assert len(compiled) == 1
    assert directory.stat().st_mode & 0o077 == 0


WAITS = wasmtime.wat2wasm("""(module
  (import "env" "memory" (memory 1 1 shared))
  (func (export "wait") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0)
    (i64.const 0))))""")


def test_waits_are_rewritten_if_that_is_wanted(tmp_path, compiled):
    codes = [
        fresh(tmp_path).load(WAITS, name="m", rewrite=rewrite)
        for rewrite in (False, True, True, False)
    ]
    assert [code.rewritten for code in codes] == [False, True, True, False]
    assert [data == WAITS for data in compiled] == [True, False]  # and the rest comes from the disk
    assert compiled[1] == rewrite_waits(WAITS, name="m")
    assert all(set(code.info.exports) == {"wait"} for code in codes)
    assert len(list(tmp_path.iterdir())) == 2
    cache = fresh(None)
    assert cache.load(WAITS, name="m", rewrite=True) is cache.load(WAITS, name="m", rewrite=True)
    assert cache.load(WAITS, name="m", rewrite=True) is not cache.load(WAITS, name="m")


def test_without_waits_there_is_nothing_to_rewrite(tmp_path, compiled):
    assert not fresh(tmp_path).load(WASM, name="m", rewrite=True).rewritten
    assert not fresh(tmp_path).load(WASM, name="m").rewritten
    assert compiled == [WASM]


def test_what_rewriting_adds_is_nobody_elses(tmp_path):
    taken = rewrite_waits(WAITS, name="m")
    with pytest.raises(
        UnsupportedError, match=r"libx\.so exports __pylinker_waits.*rewrite_waits=False"
    ):
        fresh(tmp_path).load(taken, name="libx.so", rewrite=True)
    assert not fresh(tmp_path).load(taken, name="libx.so").rewritten


def test_a_module_in_memory_needs_no_disk(compiled):
    cache = fresh(None)
    assert cache.load(WASM, name="m") is cache.load(WASM, name="m")
    assert len(compiled) == 1


def numbered(count):
    return [
        bytes(wasmtime.wat2wasm(f'(module (global (export "g{n}") i32 (i32.const {n})))'))
        for n in range(count)
    ]


def room_for(count):
    """Return bytes of memory that hold so many small modules: what was read, and the code."""
    return (count * 2 + 1) * code._OBJECTS


def test_memory_keeps_the_most_recently_used(compiled):
    cache = fresh(None, memory=room_for(2))
    modules = numbered(3)
    for number in (0, 1, 0, 2):
        cache.load(modules[number], name=str(number))
    assert len(compiled) == 3
    cache.load(modules[0], name="0")
    assert len(compiled) == 3
    cache.load(modules[1], name="1")
    assert len(compiled) == 4


def test_memory_is_counted_in_bytes(compiled):
    cache = fresh(None, memory=1 << 24)
    small = numbered(200)
    for data in small:
        cache.load(data, name="small")
    for data in small:
        cache.load(data, name="small")
    assert len(compiled) == 200
    large = bytes(
        wasmtime.wat2wasm(f'(module (memory 300) (data (i32.const 0) "{"x" * (15 << 20)}"))')
    )
    cache.load(large, name="large")
    assert cache._memory.used <= 1 << 24
    cache.load(small[0], name="small")
    assert len(compiled) == 202


def test_what_is_in_use_stays_in_memory(tmp_path, compiled):
    for cache in (fresh(None, memory=0), fresh(tmp_path, memory=0)):
        modules = numbered(4)
        compiled.clear()
        kept = [cache.load(data, name="kept") for data in modules]
        plt = cache.trampolines([b"key"], [FuncType((), ())], name="t")
        assert [cache.load(data, name="again") for data in modules] == kept
        assert cache.parse(modules[0], name="again") is kept[0].info
        assert cache.trampolines([b"key"], (), name="t") is plt
        assert cache._memory.used == 0
        assert len(compiled) == 5
        del kept, plt
        gc.collect()
        assert len(cache._memory._alive) == 0


@pytest.mark.parametrize("position", ["first", "code", "read", "magic", "key", "sizes", "last"])
def test_a_damaged_entry_is_compiled_anew_and_replaced(tmp_path, compiled, position):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = bytearray(entry.read_bytes())
    _, _, size, read, *_ = trailer_of(data)
    end = len(data) - entries._END
    places = {
        "first": 0,
        "code": size // 2,
        "read": size + read // 2,
        "magic": end,
        "key": end + 20,
        "sizes": end + 50,
        "last": -1,
    }
    data[places[position]] ^= 1
    entry.write_bytes(data)
    assert fresh(tmp_path).load(WASM, name="m").info.exports
    assert len(compiled) == 2
    fresh(tmp_path).load(WASM, name="m")
    assert len(compiled) == 2


def test_every_truncation_of_an_entry_is_noticed(tmp_path, compiled):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = entry.read_bytes()
    lengths = [
        *range(0, entries._END + 1, 7),
        len(data) // 2,
        *range(len(data) - entries._END, len(data), 7),
        len(data) - 1,
    ]
    for count, length in enumerate(lengths, 2):
        entry.write_bytes(data[:length])
        fresh(tmp_path).load(WASM, name="m")
        assert len(compiled) == count


@pytest.mark.parametrize("size", [1 << 40, 1 << 29])
@pytest.mark.parametrize("trailer", [False, True])
def test_an_entry_of_a_size_that_cannot_be_is_compiled_anew_without_memory_for_it(
    tmp_path, compiled, size, trailer
):
    """A sparse file: larger than the cache may be, or one that does not end as an entry does."""
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    key = bytes.fromhex(entry.stem)
    cache = fresh(tmp_path, capacity=1 << 30)
    with entry.open("r+b") as file:
        file.truncate(size)
        if trailer:
            file.seek(size - entries._END)
            file.write(
                entries._TRAILER.pack(
                    entries._MAGIC, key, size - entries._END - (size < 1 << 30), 0, False
                )
            )
    tracemalloc.start()
    try:
        assert cache.load(WASM, name="m").info.exports
        assert tracemalloc.get_traced_memory()[1] < 1 << 27
    finally:
        tracemalloc.stop()
    assert len(compiled) == 2
    assert entry.stat().st_size < 1 << 20  # it was replaced
    fresh(tmp_path).load(WASM, name="m")
    assert len(compiled) == 2


def test_an_entry_under_another_modules_name_is_not_believed(tmp_path, compiled):
    other = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 7))'))
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = entry.read_bytes()
    entry.unlink()
    fresh(tmp_path).load(other, name="other")
    entry_of(tmp_path).write_bytes(data)
    fresh(tmp_path).load(other, name="other")
    assert len(compiled) == 3


def test_an_entry_that_wasmtime_refuses_is_compiled_anew(tmp_path, compiled):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    parts = [pack_info(parse_module(WASM), WASM), pack(parse_module(WASM))]
    entry.write_bytes(entry_with(bytes.fromhex(entry.stem), parts, b"not code of any wasmtime"))
    fresh(tmp_path).load(WASM, name="m")
    assert len(compiled) == 2


def test_what_is_read_may_be_nonsense(tmp_path, caplog):
    """A writer of the cache can run code anyway, but an entry of another version must not crash."""
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    whole = entry.read_bytes()
    payload = whole[: trailer_of(whole)[2]]
    key = bytes.fromhex(entry.stem)
    good = [pack_info(parse_module(WASM), WASM), pack(parse_module(WASM))]
    random = Random(1)
    for _ in range(400):
        parts = [bytearray(part) for part in good]
        which = random.randrange(2)
        for _ in range(random.randint(1, 4)):
            parts[which][random.randrange(len(parts[which]))] = random.randrange(256)
        if random.random() < 0.2:
            del parts[which][random.randrange(len(parts[which])) :]
        entry.unlink()  # the old one is mapped
        entry.write_bytes(entry_with(key, [bytes(part) for part in parts], payload))
        loaded = fresh(tmp_path).load(WASM, name="m")
        with suppress(Exception):
            loaded.info.exports.get("answer")
    assert "is malformed" in caplog.text


@pytest.mark.parametrize("what", ["directory", "entry"])
def test_what_others_may_write_is_not_read(tmp_path, compiled, what):
    directory = tmp_path / "cache"
    fresh(directory).load(WASM, name="m")
    (directory if what == "directory" else entry_of(directory)).chmod(0o777)
    fresh(directory).load(WASM, name="m")
    assert len(compiled) == 2


def test_a_link_in_place_of_an_entry_is_not_followed(tmp_path, compiled):
    directory = tmp_path / "cache"
    fresh(directory).load(WASM, name="m")
    entry = entry_of(directory)
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    fresh(directory).load(WASM, name="m")
    assert len(compiled) == 2


def test_a_directory_that_cannot_be_made_only_costs_time(tmp_path, compiled):
    (tmp_path / "file").write_bytes(b"")
    cache = fresh(tmp_path / "file" / "cache")
    assert cache.load(WASM, name="m").info.exports
    assert len(compiled) == 1


def test_the_disk_keeps_what_was_used_last(tmp_path, compiled):
    modules = [
        bytes(wasmtime.wat2wasm(f'(module (global (export "g{n}") i32 (i32.const {n})))'))
        for n in range(4)
    ]
    fresh(tmp_path).load(modules[0], name="0")
    size = entry_of(tmp_path).stat().st_size
    for age, entry in enumerate(tmp_path.iterdir()):
        os.utime(entry, (age, age))
    for module in modules[1:]:
        fresh(tmp_path, capacity=int(size * 2.5)).load(module, name="n")
    assert len(list(tmp_path.iterdir())) == 2
    fresh(tmp_path).load(modules[3], name="3")
    assert len(compiled) == 4
    fresh(tmp_path).load(modules[0], name="0")
    assert len(compiled) == 5


def test_many_writers_leave_one_whole_entry(tmp_path):
    caches = [fresh(tmp_path) for _ in range(8)]
    start = threading.Barrier(len(caches))
    failures = []

    def work(cache):
        start.wait()
        try:
            cache.load(WASM, name="m")
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    data = entry_of(tmp_path).read_bytes()
    assert entries._CHECKSUM.pack(zlib.crc32(data[:-4])) == data[-4:]


def test_processes_share_the_directory(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nimport wasmtime\n"
        "from pylinker.runtime.code import CodeCache\n"
        "data = bytes(wasmtime.wat2wasm('(module (func (export \"answer\")))'))\n"
        "CodeCache(Path(sys.argv[1])).load(data, name='m')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cache")], cwd=tmp_path)
        for _ in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert entry_of(tmp_path / "cache").suffix == ".code"


def test_a_module_wasmtime_refuses_names_itself():
    # Well-formed outside, but the body leaves nothing where an i32 is promised.
    data = bytes(
        wasmtime.wat2wasm('(module (func (export "f") (result i32) i32.const 1))')
    ).replace(b"\x41\x01\x0b", b"\x01\x01\x0b")
    with pytest.raises(ParseError, match=r"bad\.so: wasmtime refuses it"):
        fresh(None).load(data, name="bad.so")


def test_environment_chooses_the_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("PYLINKER_CACHE", str(tmp_path))
    assert default_cache_directory() == tmp_path
    monkeypatch.setenv("PYLINKER_CACHE", "")
    assert default_cache_directory() is None
    monkeypatch.delenv("PYLINKER_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_directory() == tmp_path / "xdg" / "pylinker"


@pytest.mark.parametrize("cache", [False, "here"])
def test_a_program_uses_the_cache_it_is_given(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYLINKER_CACHE", str(tmp_path / "default"))
    main = bytes(
        wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')
    )
    with pylinker.Program(main, cache=cache) as program:
        assert program.run() == 0
    assert not (tmp_path / "default").exists()
    assert (tmp_path / "here").exists() == bool(cache)


def test_a_module_is_parsed_once_per_directory(tmp_path, monkeypatch):
    first = fresh(tmp_path).load(WASM, name="m").info
    monkeypatch.setattr(code, "parse_module", lambda *_, **__: pytest.fail("parsed again"))
    assert fresh(tmp_path).parse(WASM, name="m").exports == first.exports
    assert fresh(tmp_path).load(WASM, name="m").info.exports == first.exports


@pytest.mark.parametrize("rewrite", [False, True])
def test_a_module_with_waits_is_parsed_once_per_directory(tmp_path, monkeypatch, rewrite):
    fresh(tmp_path).load(WAITS, name="m", rewrite=rewrite)
    monkeypatch.setattr(code, "parse_module", lambda *_, **__: pytest.fail("parsed again"))
    assert set(fresh(tmp_path).parse(WAITS, name="m").exports) == {"wait"}
    assert fresh(tmp_path).load(WAITS, name="m", rewrite=rewrite).rewritten == rewrite


def test_trampolines_are_made_once_per_directory(tmp_path, monkeypatch):
    types = (FuncType(("i32",), ()), FuncType((), ("i64",)))
    cache = fresh(tmp_path)
    made = cache.trampolines([b"key", b"1"], types, name="t")
    unseen = (pytest.fail("looked at") for _ in range(1))
    assert cache.trampolines([b"key", b"1"], unseen, name="t") is made
    assert cache.trampolines([b"key1"], types[::-1], name="t").addresses != made.addresses
    assert len(list(tmp_path.iterdir())) == 2
    monkeypatch.setattr(code, "trampoline_module", lambda *_: pytest.fail("made again"))
    for other in ([b"key1"], [b"key", b"2"], [b"1", b"key"]):
        same = cache.trampolines(other, types if other != [b"key1"] else (), name="t")
        assert same is not made
        assert (same.addresses == made.addresses) == (other != [b"key1"])
    assert fresh(tmp_path).trampolines([b"key", b"1"], types, name="t").addresses


def test_trampolines_of_the_same_types_are_compiled_once(tmp_path, compiled):
    checks = []
    count = 10_000
    made = fresh(tmp_path).trampolines(
        [b"many"], [FuncType((), ())] * count, name="t", check=lambda: checks.append(1)
    )
    assert len(made.addresses) == -(-count // PLT_BLOCK)
    assert len({*made.addresses}) == len(compiled) == len(checks) == 2  # whole blocks, and the last


def test_a_load_may_end_between_blocks_of_trampolines(tmp_path):
    def check():
        raise TimeoutError

    with pytest.raises(TimeoutError):
        fresh(tmp_path).trampolines([b"many"], [FuncType((), ())] * 600, name="t", check=check)


def test_a_summary_that_cannot_be_read_is_made_anew(tmp_path, compiled):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = entry.read_bytes()
    entry.unlink()
    entry.write_bytes(
        entry_with(bytes.fromhex(entry.stem), [b"", b""], data[: trailer_of(data)[2]])
    )
    assert fresh(tmp_path).parse(WASM, name="m").exports
    assert fresh(tmp_path).load(WASM, name="m").info.exports
    assert len(compiled) == 2


def no_home(tmp_path, script, **environment):
    """Run a script as a user without a home directory and without an entry in the list of users."""
    known = {
        name: value
        for name, value in os.environ.items()
        if name not in ("HOME", "PYLINKER_CACHE", "XDG_CACHE_HOME")
    }
    header = "import logging, os, pwd, sys\nlogging.basicConfig()\n"
    header += "def absent(uid): raise KeyError(uid)\npwd.getpwuid = absent\n"
    done = subprocess.run(
        [sys.executable, "-c", header + script],
        env={**known, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_without_a_home_directory_there_is_no_cache(tmp_path):
    script = """
import pylinker, wasmtime
for _ in range(3):
    text = '(module (memory (export "memory") 1) (func (export "_start")))'
    with pylinker.Program(bytes(wasmtime.wat2wasm(text))) as program:
        assert program.run() == 0
"""
    for environment in ({}, {"HOME": ""}, {"HOME": "relative"}):
        said = no_home(tmp_path, script, **environment)
        assert said.count("there is no home directory") == 1, said
        assert not list(tmp_path.iterdir())


def test_a_fifo_or_a_directory_in_place_of_an_entry_is_not_waited_for(tmp_path, compiled, caplog):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    entry.unlink()
    os.mkfifo(entry)
    fresh(tmp_path).load(WASM, name="m")
    assert "no regular file" in caplog.text
    entry.unlink()  # compiled anew, and put in place of the FIFO
    entry.mkdir()
    fresh(tmp_path).load(WASM, name="m")
    assert len(compiled) == 3
    assert "was not written" in caplog.text


def test_an_entry_that_is_replaced_after_it_was_checked_is_not_mapped(
    tmp_path, compiled, monkeypatch
):
    """By a link, another entry, or a FIFO: what was opened is what is mapped."""
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = entry.read_bytes()
    read = entries._read_entry

    for replace in (
        lambda: entry.write_bytes(b"other code"),
        lambda: os.mkfifo(entry),
        lambda: entry.symlink_to("/etc/passwd"),
        lambda: None,
    ):

        def replaced(*arguments, replace=replace):
            found = read(*arguments)
            entry.unlink()
            replace()
            return found

        monkeypatch.setattr(entries, "_read_entry", replaced)
        loaded = fresh(tmp_path).load(WASM, name="m")
        assert loaded.info.exports
        entry.unlink(missing_ok=True)
        entry.write_bytes(data)
    assert len(compiled) == 1


def test_a_directory_that_is_replaced_after_it_was_checked_is_not_read(
    tmp_path, compiled, monkeypatch
):
    directory, other = tmp_path / "cache", tmp_path / "other"
    fresh(directory).load(WASM, name="m")
    other.mkdir()
    entry_of(directory).rename(
        other / entry_of(directory).name
    )  # whole, and in a directory of another user
    other.chmod(0o777)
    private = entries._is_private

    def replaced(status):
        monkeypatch.setattr(entries, "_is_private", private)
        answer = private(status)
        directory.rename(tmp_path / "moved")
        other.rename(directory)
        return answer

    monkeypatch.setattr(entries, "_is_private", replaced)
    fresh(directory).load(WASM, name="m")
    assert len(compiled) == 2


@pytest.mark.parametrize("paths", [(), ("/nowhere", "/dev")])
def test_where_the_system_shows_no_open_files_the_code_is_copied(
    tmp_path, compiled, monkeypatch, paths
):
    monkeypatch.setattr(entries, "_OPEN_FILES", paths)
    fresh(tmp_path).load(WASM, name="m")
    assert fresh(tmp_path).load(WASM, name="m").info.exports
    assert len(compiled) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files there")
def test_no_entry_stays_open(tmp_path, monkeypatch):
    fresh(tmp_path).load(WASM, name="m")
    before = len(os.listdir("/proc/self/fd"))
    cache = fresh(tmp_path)
    cache.load(WASM, name="m")
    before += 1  # wasmtime keeps the file that it has mapped
    assert len(os.listdir("/proc/self/fd")) == before
    other = fresh(tmp_path)
    other.parse(WASM, name="m")  # the code is thought to come next
    del other
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.setattr(entries, "_MAGIC", b"another version\n")
    fresh(tmp_path).parse(WASM, name="m")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("directory", [os.fsdecode(b"cache\xff"), "a\0b", "\ud800", "x" * 5000])
def test_a_cache_of_any_name_costs_at_most_time(tmp_path, monkeypatch, directory):
    monkeypatch.chdir(tmp_path)
    main = bytes(
        wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')
    )
    for _ in range(2):
        with pylinker.Program(main, cache=directory) as program:
            assert program.run() == 0


def test_a_link_to_the_directory_is_followed(tmp_path, compiled):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "cache").symlink_to("real")
    fresh(tmp_path / "cache").load(WASM, name="m")
    fresh(tmp_path / "cache").load(WASM, name="m")
    assert len(compiled) == 1
    assert entry_of(tmp_path / "real")


# Well-formed outside, but a body leaves nothing where an i32 is promised.
INVALID = bytes(wasmtime.wat2wasm('(module (func (export "f") (result i32) i32.const 1))')).replace(
    b"\x41\x01\x0b", b"\x01\x01\x0b"
)


def test_what_validation_refused_is_not_tried_again(tmp_path, compiled, monkeypatch):
    tried = []
    validate = wasmtime.Module.validate
    monkeypatch.setattr(
        code.wasmtime.Module,
        "validate",
        lambda engine, wasm: (tried.append(wasm), validate(engine, wasm)),
    )
    cache = fresh(tmp_path)
    said = set()
    for name in ("one.so", "two.so", "one.so"):
        with pytest.raises(ParseError, match=rf"{name}: wasmtime refuses it") as caught:
            cache.load(INVALID, name=name)
        said.add(str(caught.value).replace(name, "NAME"))
    assert len(said) == 1
    assert len(tried) == 1
    assert not compiled
    assert not list(tmp_path.iterdir())
    cache.load(WASM, name="m")
    for number in range(2000):  # what is remembered is bounded
        cache._refuse((b"%d" % number, False), "x")
    assert len(cache._refused) == 1024
    with pytest.raises(ParseError):
        cache.load(INVALID, name="one.so")
    assert len(tried) == 3
