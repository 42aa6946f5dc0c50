"""The public names: all are exported, documented and typed, none has changed unnoticed, and none is loaded early."""

from __future__ import annotations

import difflib
import re
import subprocess
import sys
from importlib import import_module, resources
from pathlib import Path

import pytest

from herdmaster import AsyncTask, Future, Herd, HerdExecutor, Results, Task
from herdmaster.testing import task_context

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "public_api.list"
PACKAGES = {
    "herdmaster": "herdmaster",
    "herdmaster.monitoring": "monitoring",
    "herdmaster.testing": "testing",
    "herdmaster.zookeeper": "zookeeper",
}
"""Each with its page in docs/api."""

OF_FUTURES = {"cancelled", "done", "running", "set_exception", "set_result", "set_running_or_notify_cancel"}
"""Methods of `concurrent.futures.Future` that Future does not redefine."""


@pytest.mark.long
def test_the_public_names_and_their_signatures_are_those_of_the_list() -> None:
    script = ROOT / "scripts" / "public_api.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    changes = difflib.unified_diff(LIST.read_text().splitlines(), done.stdout.splitlines(), lineterm="", n=0)
    assert not (diff := "\n".join(changes)), (
        f"the public names have changed:\n{diff}\n"
        "If that is meant, say so in CHANGELOG.md and run: python scripts/public_api.py > tests/public_api.list"
    )


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_there_and_shown(name: str) -> None:
    package = import_module(name)
    names: list[str] = package.__all__

    assert sorted(names) == sorted(set(names))
    for each in names:
        assert getattr(package, each) is not None
    assert set(names) <= set(dir(package))


@pytest.mark.parametrize("name", PACKAGES)
def test_every_exported_name_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "api" / f"{PACKAGES[name]}.md").read_text()
    documented = set(re.findall(rf"^\.\. auto(?!module)\w+:: {re.escape(name)}\.(\w+)$", page, re.MULTILINE))

    assert set(import_module(name).__all__) - {"__version__"} == documented


def add(x: int, y: int) -> int:
    return x + y


async def fetch() -> None: ...


def test_completion_lists_show_listed_names_only() -> None:
    herd = Herd("localhost:1")
    task = herd.task(add)
    with task_context(task) as context:
        shown = {
            Herd: herd,
            Task: task,
            AsyncTask: herd.task(fetch),
            Results: task.map([1], [2]),
            HerdExecutor: HerdExecutor(herd),
            type(context.current): context.current,
            type(context): context,
        }
    listed = _listed()
    for kind, value in shown.items():
        assert {name for name in dir(value) if not name.startswith("_")} == listed[kind.__name__], kind
    names = {name for name in dir(Future) if not name.startswith("_")}
    assert names == listed["Future"] - {"name"} | OF_FUTURES


def _listed() -> dict[str, set[str]]:
    """The members of the classes in the list, without those with underscores."""
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    for line in LIST.read_text().splitlines():
        if match := re.match(r"    class (\w+)", line):
            names = found[match[1]] = set()
        elif line.startswith("        "):
            name = re.sub(r"^(static |class )?(async )?(def )?", "", line.strip()).split("(")[0].split(":")[0]
            names.update(() if name.startswith("_") else (name,))
    return found


def test_type_checkers_are_told_that_the_package_has_types() -> None:
    assert resources.files("herdmaster").joinpath("py.typed").is_file()


def test_importing_the_package_does_not_import_what_its_names_need() -> None:
    program = "import sys, herdmaster, herdmaster.zookeeper, herdmaster.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"asyncio", "herdmaster.api", "click"}.isdisjoint(done.stdout.split())
