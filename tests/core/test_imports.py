"""What a worker may import because a call names it: the functions of the modules that it was told, and nothing else."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdmaster.core.imports import allowed_import, check_prefix, resolve_import
from herdmaster.errors import ConfigurationError, UnknownCall

MODULE = """\
import functools
import os
from os import getpid
from math import sqrt

def job(x):
    return 2 * x

def wrapping(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

@wrapping
def wrapped(x):
    return x

class Thing:
    @staticmethod
    def method():
        pass

def made():
    def inner():
        pass
    return inner

inner = made()
alias = job
anonymous = lambda: None
number = 5
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package with modules `jobs`, `broken` and `lacking`."""
    folder = tmp_path / "importable"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "jobs.py").write_text(MODULE)
    (folder / "broken.py").write_text("raise LookupError('while it was imported')\n")
    (folder / "lacking.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "importable"
    for name in [name for name in sys.modules if name.partition(".")[0] == "importable"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("call", "prefix", "allowed"),
    [
        ("shop.jobs:f", "shop.jobs", True),
        ("shop.jobs.mail:f", "shop.jobs", True),
        ("shop.jobs:f", "shop", True),
        ("shop.jobs2:f", "shop.jobs", False),
        ("shop:f", "shop.jobs", False),
        ("other:f", "shop", False),
        ("shop:Class.method", "shop", False),
        ("shop:os.system", "shop", False),
        ("shop:<lambda>", "shop", False),
        ("shop:", "shop", False),
        ("shop", "shop", False),
        ("", "shop", False),
        ("shop..jobs:f", "shop", False),
        ("shop./etc:f", "shop", False),
        ("shop:f:g", "shop", False),
    ],
)
def test_a_prefix_stands_for_whole_modules(call: str, prefix: str, allowed: bool) -> None:
    assert allowed_import(call, [prefix]) is allowed
    assert allowed_import(call, ["unrelated", prefix]) is allowed


def test_nothing_is_allowed_without_a_prefix(package: str) -> None:
    assert not allowed_import("importable.jobs:job", [])
    with pytest.raises(UnknownCall, match="--allow-import"):
        resolve_import("importable.jobs:job", [])
    assert "importable.jobs" not in sys.modules


def test_asking_imports_nothing(package: str) -> None:
    assert allowed_import("importable.jobs:job", ["importable"])
    assert "importable.jobs" not in sys.modules


@pytest.mark.parametrize("name", ["job", "wrapped", "made"])
def test_a_function_of_the_module_itself_is_found(package: str, name: str) -> None:
    function = resolve_import(f"importable.jobs:{name}", ["importable"])

    assert function is vars(sys.modules["importable.jobs"])[name]


def test_a_built_in_function_is_found_too() -> None:
    assert resolve_import("math:sqrt", ["math"]) is math.sqrt


@pytest.mark.parametrize(
    "name",
    ["os", "getpid", "sqrt", "functools", "Thing", "inner", "alias", "anonymous", "number", "absent", "__name__"],
)
def test_what_is_no_function_of_the_module_itself_is_refused(package: str, name: str) -> None:
    with pytest.raises(UnknownCall, match=f"importable.jobs has no function {name} of its own"):
        resolve_import(f"importable.jobs:{name}", ["importable"])


def test_a_module_that_is_not_there_is_named(package: str) -> None:
    with pytest.raises(UnknownCall, match=r"this worker has no module importable\.absent"):
        resolve_import("importable.absent:f", ["importable"])


def test_what_a_module_itself_raises_goes_through(package: str) -> None:
    with pytest.raises(LookupError, match="while it was imported"):
        resolve_import("importable.broken:f", ["importable"])
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        resolve_import("importable.lacking:f", ["importable"])


@pytest.mark.parametrize("prefix", ["", ".", "shop.", "shop/jobs", "shop:f", "*", "shop.*"])
def test_what_is_no_modules_name_is_no_prefix(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is no module's name, such as shop\.jobs"):
        check_prefix(prefix)


def test_a_modules_name_is_a_prefix() -> None:
    assert check_prefix("shop.jobs") == "shop.jobs"
