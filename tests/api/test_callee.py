"""Calls are named `module:qualname`, also those of a module that is the program itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from herdmaster import ConfigurationError, Herd
from herdmaster.api.app_loader import load_app
from tests.api import tasks
from tests.api.tasks import App

MODULE = """\
import sys
from herdmaster import Herd

herd = Herd(sys.argv[1] if len(sys.argv) > 1 else None, session_timeout=2.0)

@herd.task
def double(x):
    return 2 * x

class Jobs:
    @staticmethod
    @herd.task
    def triple(x):
        return 3 * x

if __name__ == "__main__":
    print(double(2), double.call, Jobs.triple.call, flush=True)
    with herd:
        print(double.submit(2).name, flush=True)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "jobs.py").write_text(MODULE)
    (folder / "__main__.py").write_text(MODULE)
    return tmp_path


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=30
    )


def test_a_call_has_the_name_of_its_module_and_function(app: App) -> None:
    assert app.add.call == "tests.api.tasks:add"
    assert app.herd._core.registry.functions["tests.api.tasks:add"].function is tasks.add
    assert repr(app.add) == "<Task tests.api.tasks:add>"


def test_a_module_that_is_run_by_its_name_has_that_name(package: Path, namespace: str) -> None:
    ended = _run(package, "-m", "shop.jobs", namespace)

    assert ended.stderr == ""
    first, second = ended.stdout.splitlines()
    assert first == "4 shop.jobs:double shop.jobs:Jobs.triple"
    assert second.startswith("task-")


def test_a_package_that_is_run_by_its_name_has_its_main_modules_name(package: Path, namespace: str) -> None:
    ended = _run(package, "-m", "shop", namespace)

    assert ended.stderr == ""
    assert ended.stdout.startswith("4 shop.__main__:double shop.__main__:Jobs.triple\ntask-")


def test_a_script_that_is_run_by_its_file_name_is_told_what_to_do(package: Path) -> None:
    ended = _run(package, "shop/jobs.py", "127.0.0.1:1")

    assert ended.returncode == 1
    assert ended.stdout.startswith("4 __main__:double")  # the plain call works
    assert "ConfigurationError: double is defined in a script that was run by its file name" in ended.stderr
    assert "python -m MODULE" in ended.stderr
    assert "module of its own" in ended.stderr


def test_a_script_in_the_working_directory_is_told_its_module(package: Path) -> None:
    ended = _run(package / "shop", "jobs.py", "127.0.0.1:1")

    assert "run the script with `python -m jobs`" in ended.stderr


def test_a_prompt_is_told_the_same(package: Path) -> None:
    ended = _run(package, "-c", MODULE, "127.0.0.1:1")

    assert "or at a prompt" in ended.stderr


def test_such_a_script_is_told_before_it_maps_anything(package: Path) -> None:
    ended = _run(package, "-c", MODULE.replace("double.submit(2).name", "list(double.map([2]))"), "127.0.0.1:1")

    assert "ConfigurationError" in ended.stderr


# --- finding the app -------------------------------------------------------------------------------------------------


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A package of modules to load; its name is not used by another test."""
    name = f"loaded_{abs(hash(request.node.name))}"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").touch()
    one = "from herdmaster import Herd\nherd = Herd('localhost:1')\n"
    (folder / "one.py").write_text(one)
    (folder / "two.py").write_text(one + "other = Herd('localhost:2')\nclass Shop:\n    herd = other\n")
    (folder / "alias.py").write_text(one + "same = herd\n")
    (folder / "none.py").write_text("herd = 'no Herd'\n")
    (folder / "broken.py").write_text("import a_module_that_is_not_there\n")
    (folder / "raising.py").write_text("raise ValueError('while it was imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    return name


def test_an_app_is_found_by_its_module_in_the_working_directory(modules: str) -> None:
    herd = load_app(f"{modules}.one")

    assert isinstance(herd, Herd)
    assert load_app(f"{modules}.one:herd") is herd
    assert load_app(f"{modules}.alias") is load_app(f"{modules}.alias:same")
    assert load_app(f"{modules}.two:Shop.herd").hosts == "localhost:2"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("{}.two", r"several Herds \(herd, other\): name one, as in .*\.two:herd$"),
        ("{}.none", r"has no Herd: put `herd = Herd\(\)` at its top level, or name the module that has one"),
        ("{}.none:herd", "is no Herd but str: name one that is"),
        ("{}.one:absent", r"does not exist: name the variable that holds the Herd, as in loaded_\d+\.one:herd$"),
        ("{}.absent", r"no module '.*\.absent' is importable from here"),
        ("absent_{}", "run this in the folder that holds it, or install it"),
        ("{}/one.py", r"that is a file; write loaded_\d+\.one or loaded_\d+\.one:herd$"),
        ("./{}/one.py", r"that is a file; write loaded_\d+\.one or "),
        ("{}/one", r"that is a file; write loaded_\d+\.one or "),
        ("{}.py", r"that is a file; write loaded_\d+ or loaded_\d+:herd$"),
        ("{}.one:", r"no name stands behind the colon; write loaded_\d+\.one or loaded_\d+\.one:herd$"),
        ("{}.one:a b", "no such name stands behind the colon; write"),
        (":herd", "no module stands before the colon; write MODULE:herd$"),
        (":", "no module stands before the colon; write MODULE:ATTRIBUTE$"),
        ("", "it is empty; write MODULE or MODULE:ATTRIBUTE"),
        (" ", "it is empty; write MODULE or MODULE:ATTRIBUTE"),
        ("no name", "write MODULE or MODULE:ATTRIBUTE, such as shop.tasks:herd$"),
    ],
)
def test_an_app_that_is_not_found_says_what_to_write_instead(modules: str, spec: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        load_app(spec.format(modules))


def test_what_a_module_itself_raises_goes_through(modules: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load_app(f"{modules}.broken")
    with pytest.raises(ValueError, match="while it was imported"):
        load_app(f"{modules}.raising")
