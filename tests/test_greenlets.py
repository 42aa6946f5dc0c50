"""Threads and sockets that gevent or eventlet has replaced are refused at the first use."""

# A future that is not awaited is no mistake here.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from herdmaster import ConfigurationError, Herd
from herdmaster.greenlets import refuse_patched
from herdmaster.roles.worker.worker import Worker

APP = """\
from gevent import monkey
monkey.{patch}
from herdmaster import Herd
herd = Herd("127.0.0.1:1", submit_timeout=0.2, connect_timeout=0.2)

@herd.task
def add(x, y):
    return x + y

if __name__ == "__main__":
    import patched
    patched.add.submit(2, 3)
"""


def _patcher(name: str, asking: str, patched: set[str]) -> ModuleType:
    module = ModuleType(name)
    setattr(module, asking, patched.__contains__)
    return module


@pytest.mark.parametrize(
    ("name", "asking", "patched", "says"),
    [
        ("gevent.monkey", "is_module_patched", {"threading"}, r"^gevent has replaced threading in this process"),
        (
            "gevent.monkey",
            "is_module_patched",
            {"socket", "time"},
            r"^gevent has replaced socket .* monkey\.patch_all\(",
        ),
        ("eventlet.patcher", "is_monkey_patched", {"thread", "socket"}, r"^eventlet has replaced thread and socket in"),
    ],
)
async def test_it_is_said_which_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, asking: str, patched: set[str], says: str
) -> None:
    monkeypatch.setitem(sys.modules, name, _patcher(name, asking, patched))
    herd = Herd("127.0.0.1:1")

    with pytest.raises(ConfigurationError, match=says):
        herd.future("task-1")
    with pytest.raises(
        ConfigurationError, match=r"leave them alone, as in .*\(thread=False, socket=False, select=False\)"
    ):
        await Worker("127.0.0.1:1", {}).run()


def test_what_is_loaded_and_has_replaced_nothing_of_these_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gevent.monkey", _patcher("gevent.monkey", "is_module_patched", {"subprocess"}))

    refuse_patched()


@pytest.mark.long
def test_gevents_own_patching_is_seen(tmp_path: Path) -> None:
    pytest.importorskip("gevent")
    said = {}
    for patch in ("patch_all()", "patch_all(thread=False, socket=False, select=False)"):
        (tmp_path / "patched.py").write_text(APP.format(patch=patch))
        ended = subprocess.run(
            [sys.executable, "patched.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30
        )
        said[patch] = ended.stderr
    assert "ConfigurationError: gevent has replaced threading and socket in this process" in said["patch_all()"]
    assert "NotSubmitted" in said["patch_all(thread=False, socket=False, select=False)"]  # as without gevent

    (tmp_path / "patched.py").write_text(APP.format(patch="patch_all()"))
    ended = subprocess.run(
        [sys.executable, "-m", "herdmaster", "worker", "--app", "patched"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].startswith("herd worker: gevent has replaced threading and socket")
