"""Copies of the repository: mutants are put into copies, so that the tree itself stays as it is whatever happens."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
BUILD: Final = ROOT / "build" / "mutants"
PACKAGE: Final = Path("src/herdmaster")
MUTATED: Final = ("core", "roles", "pools", "api", "zookeeper/client")


def modules(root: Path = ROOT) -> list[str]:
    """Return the paths of all modules that are mutated, relative to the root."""
    folders = (root / PACKAGE / folder for folder in MUTATED)
    return sorted(str(path.relative_to(root)) for folder in folders for path in folder.rglob("*.py"))


def copy_to(target: Path) -> None:
    """Make a copy of what git has, or would add, as it is now."""
    if target.exists():
        shutil.rmtree(target)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in names:
        source = ROOT / name
        if name and source.is_file():
            copied = target / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copied, follow_symlinks=False)


def environment(tree: Path, **more: str) -> dict[str, str]:
    """Return the environment in which Python, also that of a child process, finds the code of this copy."""
    paths = os.pathsep.join((str(tree / "src"), str(tree)))
    # With cached bytecode a run of few tests takes a third of the time.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPATH": paths, **more}
