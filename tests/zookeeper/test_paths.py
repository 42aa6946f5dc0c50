"""Which paths are valid, and chroots that end at segment boundaries."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from herdmaster.zookeeper.errors import InvalidPath
from herdmaster.zookeeper.paths import Chroot, is_valid, join, name_of, parent_of, validate

segments = st.text("abz.-_é漢 ~", min_size=1, max_size=6).filter(lambda name: name not in (".", ".."))
valid_paths = st.lists(segments, min_size=1, max_size=5).map(lambda names: "/" + "/".join(names))
nearly_paths = st.text("/.ab\0\x1f\x7f\x9f \uf8ff\ufff0\U0001f600é", max_size=8)


def is_valid_by_the_rules(path: str) -> bool:
    """The server's rules, one by one, as ZooKeeper's documentation tells them."""
    if path == "/":
        return True
    if not path.startswith("/") or path.endswith("/"):
        return False
    for name in path[1:].split("/"):
        if name in ("", ".", ".."):
            return False
        for character in map(ord, name):
            if character <= 0x1F or 0x7F <= character <= 0x9F:
                return False
            if 0xD800 <= character <= 0xF8FF or character >= 0xFFF0:
                return False
    return True


@given(nearly_paths)
@example("")
@example("/")
@example("//")
@example("/a/./b")
@example("/a/..")
@example("/.a/..b/...")
@example("/a/.")
@example("/a ")
@example("/\uffef")
def test_a_path_is_valid_exactly_by_the_rules(path: str) -> None:
    assert is_valid(path) == is_valid_by_the_rules(path)


@given(valid_paths)
def test_a_valid_path_is_handed_back(path: str) -> None:
    assert validate(path) is path


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("", "must start with '/'"),
        ("a/b", "must start with '/'"),
        ("/a/", "must not end with '/'"),
        ("/a//b", "empty segment"),
        ("/a/./b", "'.' or '..'"),
        ("/..", "'.' or '..'"),
        ("/a\0b", "a character"),
        ("/\U0001f600", "a character"),
        ("/\ud800", "a character"),
    ],
)
def test_an_invalid_path_is_refused_with_its_fault(path: str, fault: str) -> None:
    with pytest.raises(InvalidPath, match=fault):
        validate(path)


def test_an_invalid_path_is_a_value_error_too() -> None:
    with pytest.raises(ValueError, match="invalid znode path"):
        validate("nonsense")


@given(valid_paths, segments)
def test_a_joined_path_comes_apart_again(parent: str, name: str) -> None:
    path = join(parent, name)
    assert (parent_of(path), name_of(path)) == (parent, name)


def test_the_root_is_its_own_parent() -> None:
    assert join("/", "a") == "/a"
    assert parent_of("/a") == "/"
    assert parent_of("/") == "/"


@given(valid_paths, st.just("/") | valid_paths)
def test_a_chroot_comes_off_as_it_went_on(prefix: str, path: str) -> None:
    chroot = Chroot(prefix)
    assert chroot.add(path).startswith(prefix)
    assert chroot.remove(chroot.add(path)) == path


@given(st.just("/") | valid_paths)
def test_no_chroot_changes_nothing(path: str) -> None:
    assert Chroot().add(path) == Chroot().remove(path) == path


def test_the_root_of_a_client_is_its_chroot() -> None:
    assert Chroot("/app").add("/") == "/app"
    assert Chroot("/app").remove("/app") == "/"


@pytest.mark.parametrize("path", ["/apple", "/apple/pie", "/zookeeper/config", "/ap", "/"])
def test_a_chroot_ends_at_a_segment(path: str) -> None:
    assert Chroot("/app").remove(path) == path


@pytest.mark.parametrize("prefix", ["/", "app", "/app/", "/a//b"])
def test_a_chroot_is_a_path_and_not_the_root(prefix: str) -> None:
    with pytest.raises(InvalidPath):
        Chroot(prefix)
