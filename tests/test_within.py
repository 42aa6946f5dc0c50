"""The marker `within`, by which a test says that no fallback may be what gave the answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tests.conftest

TEST = """\
import time
import pytest


@pytest.mark.within(0.01)
def test_late() -> None:
    time.sleep(0.02)


@pytest.mark.within(30)
def test_in_time() -> None:
    pass
"""


@pytest.mark.long
def test_a_test_that_takes_longer_fails_and_says_so(tmp_path: Path) -> None:
    hook = "from tests.conftest import pytest_runtest_call\n\n\ndef pytest_configure(config):\n"
    (tmp_path / "conftest.py").write_text(hook + '    config.addinivalue_line("markers", "within(seconds): ...")\n')
    (tmp_path / "test_a.py").write_text(TEST)
    root = Path(tests.conftest.__file__).parent.parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", str(tmp_path)]
    ended = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False, timeout=50
    )

    assert "1 failed, 1 passed" in ended.stdout, ended.stdout
    assert "must not need more than 0.01 s" in ended.stdout
