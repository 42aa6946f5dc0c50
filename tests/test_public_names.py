"""The names that the package exports are there, and cost nothing before they are used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["herdmaster", "herdmaster.zookeeper", "herdmaster.testing"])
def test_every_exported_name_is_there_and_shown(name: str) -> None:
    package = import_module(name)
    names: list[str] = package.__all__
    assert sorted(names) == sorted(set(names))
    for each in names:
        assert getattr(package, each) is not None
    assert set(names) <= set(dir(package))


def test_importing_the_package_does_not_import_what_its_names_need() -> None:
    program = "import sys, herdmaster, herdmaster.zookeeper, herdmaster.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"asyncio", "herdmaster.api", "click"}.isdisjoint(done.stdout.split())
