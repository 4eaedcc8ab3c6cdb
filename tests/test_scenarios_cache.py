"""The cache of compiled modules: it saves work and is never trusted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pylinker
from running import copies, run, spawn
from toolchain import Scenario

EXPECTED = (0, "150\n", "")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("PYLINKER_CACHE", str(directory))
    return directory


def entries(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(cache.rglob("*")) if path.is_file()}


def test_a_second_run_finds_everything_in_the_cache(scenario: Scenario, cache: Path) -> None:
    main = scenario("transitive") / "main.wasm"
    assert run(main) == EXPECTED
    first = entries(cache)
    assert len(first) >= 4  # the program and its three libraries
    assert run(main) == EXPECTED
    assert entries(cache) == first


def test_without_cache_nothing_is_written(scenario: Scenario, cache: Path) -> None:
    assert run(scenario("transitive") / "main.wasm", cache=False) == EXPECTED
    assert not cache.exists() or entries(cache) == {}


def test_the_key_is_the_content_and_not_the_name(scenario: Scenario, tmp_path: Path) -> None:
    directory = copies(scenario("interpose"), tmp_path / "libraries", "libfirst.so", "libsecond.so")
    with pylinker.CDLL("libfirst.so", library_path=[directory]) as library:
        assert library.who() == 1
    (directory / "libsecond.so").replace(directory / "libfirst.so")
    with pylinker.CDLL("libfirst.so", library_path=[directory]) as library:
        assert library.who() == 2


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _flip_last(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(bytes(data))


def _flip_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x01
    path.write_bytes(bytes(data))


def _append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


@pytest.mark.parametrize("damage", [_empty, _truncate, _zero, _flip_last, _flip_middle, _append])
def test_a_damaged_entry_is_made_again(
    scenario: Scenario, cache: Path, damage: Callable[[Path], None]
) -> None:
    main = scenario("transitive") / "main.wasm"
    run(main)
    sound = entries(cache)
    for path in sound:
        damage(path)
    assert run(main) == EXPECTED
    assert run(main) == EXPECTED


def test_an_entry_of_another_module_is_not_taken(scenario: Scenario, cache: Path) -> None:
    path = [scenario("interpose")]
    for name in ("libfirst.so", "libsecond.so"):
        pylinker.CDLL(name, library_path=path).close()
    sound = entries(cache)
    names = list(sound)
    for target, source in zip(names, names[1:] + names[:1], strict=True):
        target.write_bytes(sound[source])
    for name, answer in (("libfirst.so", 1), ("libsecond.so", 2)):
        with pylinker.CDLL(name, library_path=path) as library:
            assert library.who() == answer


def test_an_entry_that_is_a_directory_is_no_entry(scenario: Scenario, cache: Path) -> None:
    main = scenario("transitive") / "main.wasm"
    run(main)
    for path in entries(cache):
        path.unlink()
        path.mkdir()
    assert run(main) == EXPECTED


def test_a_cache_that_cannot_be_written_is_done_without(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = scenario("transitive") / "main.wasm"
    (tmp_path / "file").write_text("not a directory")
    for place in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        Path("/dev/null/cache"),
        Path("/proc/cache"),
    ):
        monkeypatch.setenv("PYLINKER_CACHE", str(place))
        assert run(main) == EXPECTED


@pytest.mark.slow
def test_concurrent_writers_do_not_disturb_each_other(
    scenario: Scenario, cache: Path, tmp_path: Path
) -> None:
    main = scenario("transitive") / "main.wasm"
    with ThreadPoolExecutor(6) as pool:  # each thread waits for a process of its own
        outcomes = list(pool.map(lambda _: spawn(tmp_path, main), range(6)))
    assert outcomes == [EXPECTED] * 6
    first = entries(cache)
    assert run(main) == EXPECTED
    assert entries(cache) == first  # and nothing half-written is left
