"""Find Apache ZooKeeper and a Java runtime on this machine."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Installation", "ZooKeeperNotInstalled", "find_zookeeper"]

_JARS = Path("usr/share/java")
_CHECKOUT = Path(__file__).resolve().parents[3]
_SYSTEM = Path("/")

# `scripts/install-zookeeper` unpacks into it if it may not install packages.
_DEFAULT_ROOTS = (_SYSTEM, _CHECKOUT / ".zookeeper")


class ZooKeeperNotInstalled(Exception):
    """Apache's server or a Java runtime is missing. The message says how to install it."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A Java runtime (`java`, the program) and the jars that its class path needs to run ZooKeeper's server."""

    java: Path
    jars: tuple[Path, ...]


def find_zookeeper(roots: Sequence[Path] = _DEFAULT_ROOTS) -> Installation:
    """Return the first ZooKeeper of Debian's packages under `roots`, folders that hold `usr/share/java`.

    Raises ZooKeeperNotInstalled.
    """
    for root in roots:
        if (root / _JARS / "zookeeper.jar").is_file():
            return Installation(java=_find_java(roots), jars=tuple(_find_jars(root)))
    raise ZooKeeperNotInstalled(
        "Apache ZooKeeper is not installed: run `make zookeeper` (Debian's package `zookeeper`)"
    )


def _find_java(roots: Sequence[Path]) -> Path:
    found = shutil.which("java")
    if found:
        return Path(found)
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    for root in roots:
        homes += sorted((root / "usr/lib/jvm").glob("*"))
    for home in homes:
        if os.access(home / "bin/java", os.X_OK):
            return home / "bin/java"
    raise ZooKeeperNotInstalled("no Java runtime is installed: run `make zookeeper` (or put `java` on the PATH)")


def _find_jars(root: Path) -> Iterator[Path]:
    folder = root / _JARS
    # slf4j uses the first logging backend on the class path.
    if (folder / "slf4j-simple.jar").is_file():
        yield folder / "slf4j-simple.jar"
    yield folder / "zookeeper.jar"
    # The manifest of Debian's zookeeper.jar lacks this one, which ports for TLS need.
    if (folder / "netty-codec.jar").is_file():
        yield folder / "netty-codec.jar"
    if root != _SYSTEM:
        # The jar's manifest names the others by absolute paths, which point outside an unpacked tree.
        yield from (folder / name for name in _class_path(folder / "zookeeper.jar") if (folder / name).is_file())


def _class_path(jar: Path) -> list[str]:
    with zipfile.ZipFile(jar) as archive:
        manifest = archive.read("META-INF/MANIFEST.MF").decode()
    # A line that starts with a space continues the one before it (the jar file specification).
    for line in manifest.replace("\r\n", "\n").replace("\n ", "").splitlines():
        if line.startswith("Class-Path:"):
            return [Path(entry).name for entry in line.removeprefix("Class-Path:").split()]
    return []
