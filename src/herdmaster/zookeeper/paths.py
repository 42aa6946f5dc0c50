"""Paths of znodes: which are valid, and how a chroot is added and removed."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from herdmaster.zookeeper.errors import InvalidPath

# What PathUtils.validatePath of the server refuses. The server applies it to some requests only (getData with a
# malformed path is answered with "no node"), so the client must.
_FORBIDDEN = r"\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff\U00010000-\U0010ffff"
_SEGMENT = rf"(?!\.{{1,2}}(?:/|\Z))[^/{_FORBIDDEN}]+"
_VALID = re.compile(rf"/|(?:/{_SEGMENT})+")
_FORBIDDEN_CHARACTER = re.compile(f"[{_FORBIDDEN}]")

_SEQUENCE_DIGITS: Final = 10


def is_valid(path: str) -> bool:
    """Return whether ZooKeeper accepts the path for every request."""
    # Nearly every path passes these tests, which take a quarter of the expression's time.
    if path.isascii() and path.isprintable() and path[:1] == "/" != path[-1] and "//" not in path and "/." not in path:
        return True
    return _VALID.fullmatch(path) is not None


def validate(path: str) -> str:
    """Return the path. Raises InvalidPath, which says what is wrong with it."""
    if is_valid(path):
        return path
    raise InvalidPath(f"invalid znode path {path!r}: {_fault(path)}")


def _fault(path: str) -> str:
    if not path.startswith("/"):
        return "it must start with '/'"
    if _FORBIDDEN_CHARACTER.search(path):
        return "it holds a character that ZooKeeper does not allow"
    if path.endswith("/"):
        return "it must not end with '/'"
    if "//" in path:
        return "it has an empty segment"
    return "a segment must not be '.' or '..'"


def join(parent: str, name: str) -> str:
    return f"/{name}" if parent == "/" else f"{parent}/{name}"


def parent_of(path: str) -> str:
    """Return the parent's path; `/` for a child of the root and for the root itself."""
    return path[: path.rindex("/")] or "/"


def name_of(path: str) -> str:
    return path[path.rindex("/") + 1 :]


def sequence_of(name: str) -> str:
    """Return the number with which ZooKeeper ends the name or path of a sequential znode."""
    return name[-_SEQUENCE_DIGITS:]


class Chroot(msgspec.Struct, frozen=True):
    """A prefix of every path of a client; `prefix` is empty or a valid path other than `/`.

    Raises InvalidPath.
    """

    prefix: str = ""

    def __post_init__(self) -> None:
        if self.prefix == "/":
            raise InvalidPath("the root is no chroot: leave it out")
        if self.prefix:
            validate(self.prefix)

    def add(self, path: str) -> str:
        """Return the path as the server knows it."""
        if not self.prefix:
            return path
        return self.prefix if path == "/" else self.prefix + path

    def remove(self, path: str) -> str:
        """Return the path as the client knows it. A path outside the chroot (an event of /zookeeper/config, see
        ZOOKEEPER-4565) is returned as it is; `/app` is no prefix of `/apple`."""
        prefix = self.prefix
        size = len(prefix)
        if path[size : size + 1] == "/" and path.startswith(prefix):
            return path[size:] if size else path
        return "/" if size and path == prefix else path
