"""The cache of compiled modules: what is trusted, what is not, and that it never gets in the way."""

import os
import subprocess
import sys
import threading
import zlib
from contextlib import suppress
from random import Random

import pytest
import wasmtime

import pylinker
from pylinker.errors import ParseError, UnsupportedError
from pylinker.runtime import code
from pylinker.runtime.code import CodeCache, default_cache_directory
from pylinker.runtime.outline import pack
from pylinker.wasm import FuncType, join, parse_module, rewrite_waits, store

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
    return code._TRAILER.unpack_from(data, len(data) - code._END)


def entry_with(key, parts, payload, *, rewritten=False):
    """Return the bytes of an entry that is whole: what is read, and the code."""
    read = join(parts)
    entry = payload + read + code._TRAILER.pack(code._MAGIC, key, len(payload), len(read), rewritten)
    return entry + code._CHECKSUM.pack(zlib.crc32(entry))


def test_a_module_is_compiled_once_per_directory(tmp_path, compiled):
    directory = tmp_path / "new" / "cache"
    first = fresh(directory).load(WASM, name="m")
    second = fresh(directory).load(WASM, name="m")
    assert first.info.exports.keys() == second.info.exports.keys() == {"answer"}
    assert len(compiled) == 1
    assert directory.stat().st_mode & 0o077 == 0


WAITS = wasmtime.wat2wasm("""(module
  (import "env" "memory" (memory 1 1 shared))
  (func (export "wait") (result i32) (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const 0))))""")


def test_waits_are_rewritten_if_that_is_wanted(tmp_path, compiled):
    codes = [fresh(tmp_path).load(WAITS, name="m", rewrite=rewrite) for rewrite in (False, True, True, False)]
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
    with pytest.raises(UnsupportedError, match=r"libx\.so exports __pylinker_waits.*rewrite_waits=False"):
        fresh(tmp_path).load(taken, name="libx.so", rewrite=True)
    assert not fresh(tmp_path).load(taken, name="libx.so").rewritten


def test_a_module_in_memory_needs_no_disk(compiled):
    cache = fresh(None)
    assert cache.load(WASM, name="m") is cache.load(WASM, name="m")
    assert len(compiled) == 1


def test_memory_keeps_the_most_recently_used(compiled):
    cache = fresh(None, entries=2)
    modules = [bytes(wasmtime.wat2wasm(f'(module (global (export "g{n}") i32 (i32.const {n})))')) for n in range(3)]
    cache.load(modules[0], name="0")
    cache.load(modules[1], name="1")
    cache.load(modules[0], name="0")
    cache.load(modules[2], name="2")
    assert len(compiled) == 3
    cache.load(modules[0], name="0")
    assert len(compiled) == 3
    cache.load(modules[1], name="1")
    assert len(compiled) == 4


@pytest.mark.parametrize("position", ["first", "code", "read", "magic", "key", "sizes", "last"])
def test_a_damaged_entry_is_compiled_anew_and_replaced(tmp_path, compiled, position):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = bytearray(entry.read_bytes())
    _, _, size, read, *_ = trailer_of(data)
    end = len(data) - code._END
    places = {"first": 0, "code": size // 2, "read": size + read // 2, "magic": end, "key": end + 20, "sizes": end + 50, "last": -1}
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
    lengths = [*range(0, code._END + 1, 7), len(data) // 2, *range(len(data) - code._END, len(data), 7), len(data) - 1]
    for count, length in enumerate(lengths, 2):
        entry.write_bytes(data[:length])
        fresh(tmp_path).load(WASM, name="m")
        assert len(compiled) == count


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
    parts = [store(parse_module(WASM), WASM), pack(parse_module(WASM))]
    entry.write_bytes(entry_with(bytes.fromhex(entry.stem), parts, b"not code of any wasmtime"))
    fresh(tmp_path).load(WASM, name="m")
    assert len(compiled) == 2


def test_what_is_read_may_be_nonsense(tmp_path, caplog):
    """Whoever writes it runs code here anyway; but no accident, such as another version's entry, may come out as a crash."""
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    whole = entry.read_bytes()
    payload = whole[: trailer_of(whole)[2]]
    key = bytes.fromhex(entry.stem)
    good = [store(parse_module(WASM), WASM), pack(parse_module(WASM))]
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
    assert "is made anew" in caplog.text


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
    modules = [bytes(wasmtime.wat2wasm(f'(module (global (export "g{n}") i32 (i32.const {n})))')) for n in range(4)]
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
    assert code._CHECKSUM.pack(zlib.crc32(data[:-4])) == data[-4:]


def test_processes_share_the_directory(tmp_path):
    script = (
        "import sys\nfrom pathlib import Path\nimport wasmtime\nfrom pylinker.runtime.code import CodeCache\n"
        "data = bytes(wasmtime.wat2wasm('(module (func (export \"answer\")))'))\n"
        "CodeCache(Path(sys.argv[1])).load(data, name='m')\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cache")], cwd=tmp_path) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert entry_of(tmp_path / "cache").suffix == ".code"


def test_a_module_wasmtime_refuses_names_itself():
    # Well-formed outside, but the body leaves nothing where an i32 is promised.
    data = bytes(wasmtime.wat2wasm('(module (func (export "f") (result i32) i32.const 1))')).replace(b"\x41\x01\x0b", b"\x01\x01\x0b")
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
    main = bytes(wasmtime.wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
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
    functions = (("f", FuncType(("i32",), ())), ("g", FuncType((), ("i64",))))
    cache = fresh(tmp_path)
    made = cache.trampolines([b"key", b"1"], functions, name="t")
    assert cache.trampolines([b"key", b"1"], functions, name="t") is made
    for other in ([b"key1"], [b"key", b"2"], [b"1", b"key"]):
        assert cache.trampolines(other, functions[::-1], name="t") is not made
    assert len(list(tmp_path.iterdir())) == 4
    monkeypatch.setattr(code, "trampoline_module", lambda *_: pytest.fail("made again"))
    unseen = (pytest.fail("looked at") for _ in range(1))
    assert fresh(tmp_path).trampolines([b"key", b"1"], unseen, name="t").address


def test_a_summary_that_cannot_be_read_is_made_anew(tmp_path, compiled):
    fresh(tmp_path).load(WASM, name="m")
    entry = entry_of(tmp_path)
    data = entry.read_bytes()
    entry.unlink()
    entry.write_bytes(entry_with(bytes.fromhex(entry.stem), [b"", b""], data[: trailer_of(data)[2]]))
    assert fresh(tmp_path).parse(WASM, name="m").exports
    assert fresh(tmp_path).load(WASM, name="m").info.exports
    assert len(compiled) == 2
