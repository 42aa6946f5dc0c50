"""What `make demo` installs: enough to run, and no more; and what `make install` adds to that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import REPOSITORY

CORE = "pip install --quiet --editable ."
TOOLS = "pip install --quiet --editable '.[dev]'"
ZOOKEEPER = "scripts/install-zookeeper"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copyfile(REPOSITORY / name, tmp_path / name)
    (tmp_path / ".venv").mkdir()
    return tmp_path


def would_run(clone: Path, target: str) -> list[str]:
    # The tests themselves may have been started by make.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    result = subprocess.run(
        ["make", "--dry-run", target], cwd=clone, env=kept, capture_output=True, text=True, timeout=30, check=True
    )
    return [line.strip() for line in result.stdout.splitlines()]


def test_the_demo_of_a_fresh_clone_installs_the_package_without_tools_and_without_zookeeper(clone: Path) -> None:
    commands = would_run(clone, "demo")
    assert [command for command in commands if "pip" in command] == [f".venv/bin/python -m {CORE}"]
    assert ZOOKEEPER not in commands
    assert commands[-1] == ".venv/bin/herd demo"


@pytest.mark.parametrize("target", ["install", "check"])
def test_what_the_demo_left_out_is_installed_when_it_is_needed(clone: Path, target: str) -> None:
    (clone / ".venv" / ".runnable").touch()
    assert f".venv/bin/python -m {TOOLS}" in would_run(clone, target)
    assert (ZOOKEEPER in would_run(clone, target)) == (target == "install")


def test_the_demo_uses_what_is_installed_as_it_is(clone: Path) -> None:
    (clone / ".venv" / ".runnable").touch()
    assert would_run(clone, "demo") == [".venv/bin/herd demo"]
    (clone / ".venv" / ".runnable").unlink()
    (clone / ".venv" / ".installed").touch()
    assert would_run(clone, "demo") == [".venv/bin/herd demo"]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_python_that_needs_nothing_to_make_an_environment_is_preferred(tmp_path: Path) -> None:
    for name, script in {
        "bare": f'case "$*" in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"',
        "apt-get": "exit 1",
        "sudo": "exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": f"{tmp_path}/bare {sys.executable}",
    }
    subprocess.run(
        [REPOSITORY / "scripts" / "create-venv", tmp_path / "made"], env=environment, timeout=110, check=True
    )
    assert (tmp_path / "made" / "bin" / "pip").exists()
