"""Where libraries are looked for, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

import pylinker
from running import copies, run, sizes
from toolchain import Scenario


def test_the_library_path_is_searched_in_order(scenario: Scenario, tmp_path: Path) -> None:
    built = scenario("interpose")
    one = copies(built, tmp_path / "one", "libfirst.so")
    two = copies(built, tmp_path / "two", "libsecond.so")
    (one / "libfirst.so").rename(one / "libwho.so")
    (two / "libsecond.so").rename(two / "libwho.so")
    for path, answer in (([one, two], 1), ([two, one], 2), ([tmp_path / "none", two], 2)):
        with pylinker.Program(library_path=path) as program:
            assert program.dlopen("libwho.so").who() == answer


def test_a_failed_search_lists_every_path_in_order_with_its_reason(
    scenario: Scenario, tmp_path: Path
) -> None:
    directories = [tmp_path / "one", tmp_path / "two"]
    for directory in directories:
        directory.mkdir()
    main = copies(scenario("needed"), tmp_path / "app", "main.wasm") / "main.wasm"
    with pytest.raises(pylinker.LibraryNotFoundError) as caught:
        pylinker.Program(main, library_path=directories)
    tried = [path for path, _ in caught.value.searched]
    assert tried == [str(each / "libgreet.so") for each in (*directories, main.parent)]
    assert all(reason for _, reason in caught.value.searched)
    assert all(path in str(caught.value) for path in tried)


def test_the_library_path_comes_before_the_runtime_path_and_that_before_the_mains_directory(
    scenario: Scenario, tmp_path: Path
) -> None:
    built = scenario("runtime_path")
    app = copies(built, tmp_path / "app", "origin.wasm")
    private = app / "private"
    private.mkdir()
    (private / "libhelper.so").write_bytes((built / "libhelper.so").read_bytes())
    (app / "libhelper.so").write_bytes((built / "libhelper2.so").read_bytes())
    assert run(app / "origin.wasm").stdout == "1\n"
    assert run(app / "origin.wasm", library_path=[app]).stdout == "2\n"
    (private / "libhelper.so").unlink()
    assert run(app / "origin.wasm").stdout == "2\n"


def test_origin_is_the_directory_of_the_module_that_has_the_runtime_path(
    scenario: Scenario, tmp_path: Path
) -> None:
    built = scenario("runtime_path")
    library = copies(built, tmp_path / "lib", "libuser.so")
    copies(built, tmp_path / "lib" / "private", "libhelper.so")
    with pylinker.Program(library_path=[library]) as program:
        assert program.dlopen("libuser.so").user() == 101


def test_every_entry_of_the_runtime_path_is_tried(scenario: Scenario, tmp_path: Path) -> None:
    built = scenario("runtime_path")
    app = copies(built, tmp_path / "app", "two.wasm")
    with pytest.raises(pylinker.LibraryNotFoundError) as caught:
        pylinker.Program(app / "two.wasm")
    tried = [path for path, _ in caught.value.searched]
    assert tried == [
        str(where / "libhelper.so") for where in (app / "nowhere", app / "private", app)
    ]
    copies(built, app / "private", "libhelper.so")
    assert run(app / "two.wasm").stdout == "1\n"


@pytest.mark.parametrize("main", ["escape.wasm", "absolute.wasm"])
def test_a_runtime_path_outside_what_was_granted_is_refused_with_a_reason(
    scenario: Scenario, tmp_path: Path, main: str
) -> None:
    built = scenario("runtime_path")
    app = copies(built, tmp_path / "app", main)
    copies(built, tmp_path / "outside", "libhelper.so")
    with pytest.raises(pylinker.LibraryNotFoundError) as caught:
        pylinker.Program(app / main)
    refused = [reason for path, reason in caught.value.searched if Path(path).parent != app]
    assert len(refused) == 1
    # not a word about whether anything is there
    assert refused[0] in (
        "not in a granted directory",
        "not in a directory that was opened for the guest",
    )


def test_a_runtime_path_may_go_up_inside_what_was_granted(
    scenario: Scenario, tmp_path: Path
) -> None:
    built = scenario("runtime_path")
    app = copies(built, tmp_path / "bin", "parent.wasm")
    copies(built, tmp_path / "lib", "libhelper.so")
    with pytest.raises(pylinker.LibraryNotFoundError):
        pylinker.Program(app / "parent.wasm")
    assert run(app / "parent.wasm", dirs={"/app": tmp_path}).stdout == "1\n"


def test_a_directory_or_an_empty_file_of_that_name_is_not_a_library(
    scenario: Scenario, tmp_path: Path
) -> None:
    (tmp_path / "one" / "libwho.so").mkdir(parents=True)
    two = copies(scenario("interpose"), tmp_path / "two", "libfirst.so")
    (two / "libfirst.so").rename(two / "libwho.so")
    with pylinker.Program(library_path=[tmp_path / "one", two]) as program:
        assert program.dlopen("libwho.so").who() == 1


@pytest.mark.parametrize(
    "name",
    ["", "\0", "lib\0who.so", "..", ".", pytest.param("x" * 5000, id="long"), "libä\udc80.so"],
)
def test_a_name_that_can_be_no_file_is_not_found(scenario: Scenario, name: str) -> None:
    with pylinker.Program(library_path=[scenario("interpose")]) as program:
        before = sizes(program)
        with pytest.raises(pylinker.LinkError):
            program.dlopen(name)
        assert sizes(program) == before
