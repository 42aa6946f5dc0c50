"""Modules that are imported because they were named, and the one line that says why that failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from herdmaster import ConfigurationError, Herd
from herdmaster.core.modules import import_modules, is_raised_by_herdmaster, place_of

CONTENTS = {
    "good": "",
    "exits": "import sys\nsys.exit(3)",
    "divides": "\ndef f():\n    return 1 / 0\nf()",
    "in_library": "import json\n\njson.loads('{')",
    "no_python": "x = 1\ndef (:\n",
    "lacks": "import a_module_that_is_not_there",
    "bad_task": "from herdmaster import Herd\nherd = Herd()\n@herd.task(max_attempts=0)\ndef f(): ...\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, content in CONTENTS.items():
        (tmp_path / f"named_{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "reason", "line"),
    [
        ("exits", "calls sys.exit when it is imported", 2),
        ("divides", "cannot be imported: ZeroDivisionError: division by zero", 3),
        ("in_library", "cannot be imported: JSONDecodeError: Expecting property name", 3),
        ("no_python", "cannot be imported: SyntaxError: invalid syntax", 2),
        ("lacks", "cannot be imported: ModuleNotFoundError: No module named 'a_module_that_is_not_there'", 1),
        ("bad_task", "cannot be imported: ConfigurationError: max_attempts=0: it takes a whole number from 1", 3),
    ],
)
def test_a_module_that_fails_is_named_with_the_reason_and_its_place(
    folder: Path, name: str, reason: str, line: int
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        import_modules("imports", [f"named_{name}"])
    text = str(raised.value)
    assert text.startswith(f"imports names module named_{name}, which {reason}")
    assert text.endswith(f"({folder / f'named_{name}.py'}, line {line})")


def test_a_module_that_is_absent_is_said_to_be(folder: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"which is not importable from here: there is no module named_absent$"
    ):
        import_modules("imports", ["named_absent.deeper"])


def test_ctrl_c_stays_what_it_is(folder: Path) -> None:
    (folder / "named_stopped.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        import_modules("imports", ["named_stopped"])


def test_whose_error_it_is_can_be_told(folder: Path) -> None:
    for name, is_ours in (("bad_task", True), ("divides", False)):
        with pytest.raises((ConfigurationError, ZeroDivisionError)) as raised:
            __import__(f"named_{name}")
        assert is_raised_by_herdmaster(raised.value) is is_ours
    assert place_of(ValueError("never raised")) == ""


def test_a_herd_imports_what_it_names_when_a_worker_asks_for_it(folder: Path) -> None:
    herd = Herd(imports=["named_good"])
    assert "named_good" not in sys.modules
    herd._core.registry.load_imports()
    assert "named_good" in sys.modules


@pytest.mark.parametrize(
    ("imports", "says"),
    [
        ("shop.tasks", r"imports takes a list of modules, such as \['shop.tasks'\], not 'shop.tasks'"),
        (["shop/tasks.py"], "imports takes names of modules, such as shop.tasks, not 'shop/tasks.py'"),
        ([None], "imports takes names of modules, such as shop.tasks, not None"),
        (3, "imports takes a list of modules"),
    ],
)
def test_what_names_no_modules_is_refused_where_it_is_written(imports: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Herd(imports=imports)  # type: ignore[arg-type]  # the mistake
