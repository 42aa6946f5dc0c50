"""The checks of `scripts/check_source.py`, run as `make lint` runs them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/check_source.py"


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("class C:\n    def f(self):\n        self._is_missing = True\n", ":3: the attribute _is_missing is written"),
        ("class C:\n    def f(self):\n        self._a = self._b = self._a\n", ":3: the attribute _b is written"),
        ("x = 1\n" * 401, "module.py: 401 lines, the limit is 400"),
        ("def f():\n" + "    pass\n" * 40, "module.py:f: 41 lines, the limit is 40"),
    ],
)
def test_a_fault_fails_with_its_place(tmp_path: Path, source: str, fault: str) -> None:
    (tmp_path / "module.py").write_text(source)

    done = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)

    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert fault in done.stdout


def test_sources_at_the_limits_have_no_fault(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("def f():\n" + "    pass\n" * 39 + "x = 1\n" * 360)

    subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, check=True)
