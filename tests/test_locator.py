"""Where libraries are looked for, in which order, and what is refused."""

import os

import pytest

import pylinker
from pylinker.errors import LibraryNotFoundError
from pylinker.linker import Locator, read_file
from pylinker.linker.modules.locator import Home


@pytest.fixture
def tree(tmp_path):
    for name in ("first", "second", "origin", "origin/lib", "outside", "data", "default"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "libx.so").write_bytes(b"outside")
    return tmp_path


def put(directory, name="libx.so"):
    path = directory / name
    path.write_bytes(b"")
    return str(path)


def reasons(error):
    return [reason for _, reason in error.value.searched]


def test_order_is_library_path_guest_path_runtime_path_home_defaults_system(tree):
    locator = Locator(
        [tree / "first", tree / "second"],
        default_path=[tree / "default", tree / "origin"],
        guest_dirs={"/data": str(tree / "data"), "/": str(tree / "root")},
        guest_library_path="/data",
    )

    def find():
        home = Home(str(tree / "home"), is_own=True)
        return locator.find(
            "libx.so", origin=str(tree / "origin"), runtime_path=["$ORIGIN/lib"], home=home
        ).path

    system = ("root/usr/local/lib", "root/usr/lib", "root/lib")
    places = [
        tree / name
        for name in (*system, "default", "home", "origin/lib", "data", "second", "first")
    ]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        put(place)
        assert find() == str(place / "libx.so")


def test_directories_of_the_guest_may_be_given_with_the_name(tree):
    (tree / "data" / "deep").mkdir()
    locator = Locator(
        [tree / "first"], guest_dirs={"/data": str(tree / "data")}, guest_library_path="/data"
    )
    wanted = {
        ("/data/deep", "/nowhere"): "data/deep",
        ("/nowhere",): None,
        ("/data",): "data",
        ("",): None,
        (): None,
        None: "data",
    }
    put(tree / "data" / "deep")
    put(tree / "data")
    for search, place in wanted.items():
        if place is None:
            with pytest.raises(LibraryNotFoundError):
                locator.find("libx.so", search=search)
        else:
            assert locator.find("libx.so", search=search).path == str(tree / place / "libx.so")
    put(tree / "first")
    assert locator.find("libx.so", search=["/data"]).path == str(tree / "first" / "libx.so")
    with pytest.raises(LibraryNotFoundError) as error:
        locator.find("liby.so", search=["/da\0ta", "", "/data"])
    assert reasons(error)[1:3] == [
        "not a valid path",
        "not in a directory that was opened for the guest",
    ]


def test_directories_of_the_system_come_last_where_they_are_opened(tree):
    default = tree / "default"
    default_first = Locator(default_path=[default], guest_dirs={"/": str(tree)})
    with pytest.raises(LibraryNotFoundError) as error:
        Locator(default_path=[default]).find("libx.so")
    assert len(reasons(error)) == 1
    for place in ("usr/local/lib", "usr/lib", "lib", "default"):
        (tree / place).mkdir(parents=True, exist_ok=True)
        put(tree / place)
        assert default_first.find("libx.so").path == str(tree / place / "libx.so")


def test_failure_lists_every_path_in_order_with_its_reason(tree):
    (tree / "second" / "libx.so").mkdir()
    locator = Locator([tree / "first", tree / "second"], default_path=[tree / "default"])
    with pytest.raises(LibraryNotFoundError) as error:
        locator.find("libx.so", requester="main.wasm", runtime_path=["$ORIGIN"])
    assert error.value.searched == (
        (str(tree / "first" / "libx.so"), "no such file"),
        (str(tree / "second" / "libx.so"), "is a directory"),
        ("$ORIGIN/libx.so", "$ORIGIN is unknown: the module was not loaded from a file"),
        (str(tree / "default" / "libx.so"), "no such file"),
    )
    assert "needed by main.wasm" in str(error.value)
    assert isinstance(error.value, FileNotFoundError)


def test_a_trusted_name_with_a_slash_is_a_path(tree):
    path = put(tree / "outside", "liby.so")
    assert Locator().find(path, trusted=True).path == path


def test_an_untrusted_path_is_a_path_of_the_guest(tree):
    path = put(tree / "data")
    locator = Locator(
        [tree / "first"], guest_dirs={"/data": str(tree / "data"), ".": str(tree / "data")}
    )
    assert locator.find("/data/libx.so").path == path
    assert locator.find("./libx.so").path == path
    assert locator.find("data/libx.so").path == path
    assert locator.find("/data/../data/libx.so").path == path


@pytest.mark.parametrize(
    "name",
    [
        "{outside}/libx.so",
        "../outside/libx.so",
        "/data/../outside/libx.so",
        "/data/../../libx.so",
        "/etc/passwd",
        "./../outside/libx.so",
    ],
)
def test_an_untrusted_path_never_leaves_the_guests_directories(tree, name):
    locator = Locator(
        [tree / "first"], guest_dirs={"/data": str(tree / "data"), ".": str(tree / "data")}
    )
    with pytest.raises(LibraryNotFoundError) as error:
        locator.find(name.format(outside=tree / "outside"))
    assert all("guest" in reason or "granted" in reason for reason in reasons(error))


@pytest.mark.parametrize("where", ["first", "data"])
def test_a_link_out_of_the_granted_directories_is_refused(tree, where):
    os.symlink(tree / "outside" / "libx.so", tree / where / "libx.so")
    locator = Locator([tree / "first"], guest_dirs={"/data": str(tree / "data")})
    with pytest.raises(LibraryNotFoundError) as error:
        locator.find("/data/libx.so" if where == "data" else "libx.so")
    assert reasons(error) == ["not in a granted directory"]


def test_a_link_between_granted_directories_is_followed(tree):
    path = put(tree / "second", "libx.so.1")
    os.symlink(path, tree / "first" / "libx.so")
    assert Locator([tree / "first", tree / "second"]).find("libx.so").path == path


@pytest.mark.parametrize(
    "entry",
    [
        "$ORIGIN/../outside",
        "${ORIGIN}/../outside",
        "{outside}",
        "relative",
        "/data/../outside",
        "bad\0",
    ],
)
def test_a_runtime_path_out_of_the_granted_directories_is_refused(tree, entry):
    locator = Locator(default_path=[tree / "origin"], guest_dirs={"/data": str(tree / "data")})
    with pytest.raises(LibraryNotFoundError) as error:
        locator.find(
            "libx.so",
            origin=str(tree / "origin"),
            runtime_path=[entry.replace("{outside}", str(tree / "outside"))],
        )
    assert reasons(error)[-1] == "no such file"
    assert len(reasons(error)) == 2


def test_origin_with_braces_is_the_directory_of_the_module(tree):
    path = put(tree / "origin" / "lib")
    locator = Locator(default_path=[tree / "origin"])
    assert (
        locator.find("libx.so", origin=str(tree / "origin"), runtime_path=["${ORIGIN}/lib"]).path
        == path
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "an empty name"),
        ("a\0b", "the name contains a NUL byte"),
        ("x" * 256, "the name is too long"),
        ("a/" * 3000, "the name is too long"),
        ("\udc80", "the name is not valid Unicode"),
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_impossible_names_are_refused_with_a_reason(tree, name, reason, trusted):
    with pytest.raises(LibraryNotFoundError) as error:
        Locator([tree / "first"]).find(name, trusted=trusted)
    # The host's own file systems may have names that are not Unicode.
    assert reasons(error) == ["no such file" if trusted and name == "\udc80" else reason]
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("name", [".", ".."])
def test_a_directory_is_no_library(tree, name):
    with pytest.raises(LibraryNotFoundError):
        Locator([tree / "first"]).find(name)


def test_nothing_to_search_says_what_to_give():
    with pytest.raises(LibraryNotFoundError, match="library_path"):
        Locator().find("libx.so")


def test_a_link_that_takes_the_place_of_a_file_is_not_followed(tree, monkeypatch):
    """Another process may replace the directory between reading a link and opening its target."""
    place, secret = tree / "first" / "real.so", tree / "outside" / "libx.so"
    put(tree / "first", "real.so")
    (tree / "first" / "libx.so").symlink_to(place)
    real = Locator._follow

    def changed(*arguments):
        found = real(*arguments)
        place.unlink(missing_ok=True)
        place.symlink_to(secret)
        return found

    monkeypatch.setattr(Locator, "_follow", changed)
    leads_out = "not in a granted directory"
    with (
        pylinker.Program(library_path=[tree / "first"], cache=False) as program,
        pytest.raises(LibraryNotFoundError, match=leads_out) as error,
    ):
        program.dlopen("libx.so")
    assert "outside" not in str(error.value)
    assert read_file("libx.so", str(secret), 100) == (str(secret), b"outside")


def test_the_file_that_was_found_is_the_one_that_is_read(tree):
    """Replaced by another file meanwhile."""
    place = tree / "first" / "libx.so"
    put(tree / "first")
    place.write_bytes(b"found")
    located = Locator([tree / "first"]).find("libx.so")
    place.unlink()
    place.write_bytes(b"another")
    assert located.file.read(100) == b"found"


def test_what_is_kept_of_searches_is_bounded(tree):
    """However many a guest thinks of, and however long they are."""
    put(tree / "data")
    found = Locator(guest_dirs={"/": str(tree)})
    for number in range(200):
        assert found.find("libx.so", search=[f"/{number}", "/data"]).path == str(
            tree / "data" / "libx.so"
        )
    assert 0 < len(found._searches) <= 64
    found._searches.clear()
    assert found.find("libx.so", search=[*[""] * 3000, "/data"]).path == str(
        tree / "data" / "libx.so"
    )
    assert not found._searches


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files there")
def test_a_file_closes_itself(tree):
    put(tree / "data")
    handles = len(os.listdir("/proc/self/fd"))
    kept = [Locator([tree / "data"]).find("libx.so") for _ in range(10)]
    assert len(os.listdir("/proc/self/fd")) == handles + 10
    with pytest.raises(LibraryNotFoundError, match="is a directory"):
        Locator([tree]).find("data")
    kept.clear()
    assert len(os.listdir("/proc/self/fd")) == handles


HOSTILE = [
    "../outside/libx.so",
    "./../outside/libx.so",
    "x/../../outside/libx.so",
    "/etc/passwd",
    "//etc/passwd",
    "..",
    ".",
    "/",
    "",
    "libx.so\0.so",
    "\0",
    "link/libx.so",
    "liblink.so",
    "\udc80",
    "~/libx.so",
    "$ORIGIN/../outside/libx.so",
    "/data/../outside/libx.so",
    "/data/../../outside/libx.so",
    "/data/link/libx.so",
    "/data/liblink.so",
]


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "runtime_path",
    [
        [],
        ["$ORIGIN/../outside"],
        ["${ORIGIN}/link"],
        ["../outside"],
        ["/"],
        ["\0"],
        ["/data/../outside"],
    ],
)
def test_a_hostile_name_leads_nowhere(tree, name, runtime_path):
    for granted in ("first", "data"):
        (tree / granted / "link").symlink_to(tree / "outside")
        (tree / granted / "liblink.so").symlink_to(tree / "outside" / "libx.so")
    each = Locator(
        [tree / "first"],
        guest_dirs={"/data": str(tree / "data")},
        guest_library_path="/data:/data/link:/data/../outside:..",
    )
    for one in (name, "libx.so"):
        with pytest.raises(LibraryNotFoundError):
            each.find(
                one,
                origin=str(tree / "first"),
                runtime_path=runtime_path,
                requester="liby.so",
                search=None,
            )
        with pytest.raises(LibraryNotFoundError):
            each.find(
                one,
                origin=str(tree / "first"),
                runtime_path=runtime_path,
                search=["/data/link", "/data/../outside", "../outside"],
            )
