from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mutation import blocks, recording, tree

SOURCE = '''\
"""What it is about."""

from __future__ import annotations

import enum


class Kind(enum.Enum):
    """A kind."""

    ONE = 1
    TWO = 2


def choose(number: int) -> str:
    """Say which."""
    if number == 1:
        found = "one"
        found += "!"
    elif number == 2: return "two"
    else:
        try:
            for _ in range(number):
                return "many"
        finally:
            found = "none"
    return found
'''


def run(number: int) -> set[int]:
    """Return the lines that count as reached by one call."""
    reached = bytearray(100)
    found = blocks.of_source(SOURCE)
    code = found.note(SOURCE, 7).replace(f"from {blocks.PROBES} import reached as _reached_;", "_reached_ = notes;")
    names: dict[str, Any] = {"notes": reached, "__name__": "code"}
    exec(compile(code, "code.py", "exec"), names)
    reached[:] = bytes(100)
    names["choose"](number)
    hit = {place - 7 for place, byte in enumerate(reached) if byte}
    return {line for line, numbers in found.by_line.items() if numbers & hit}


@pytest.mark.parametrize(
    ("number", "inner"),
    [(1, {18, 19}), (2, {20}), (3, {23, 24}), (0, {26})],
)
def test_a_call_reaches_the_lines_that_it_runs(number: int, inner: set[int]) -> None:
    inner_lines = {18, 19, 20, 24, 26}
    found = run(number)

    assert inner & inner_lines <= found
    assert 17 in found, "the head of a branch counts with any of its branches"
    assert not found & {12, 13}
    if number in {1, 2}:
        assert found & inner_lines == inner


def test_the_lines_stay_where_they_are_and_docstrings_what_they_are() -> None:
    noted = blocks.of_source(SOURCE).note(SOURCE, 0)

    assert noted.count("\n") == SOURCE.count("\n")
    names: dict[str, Any] = {}
    exec(noted.replace(f"from {blocks.PROBES} import reached as _reached_;", "_reached_ = bytearray(99);"), names)
    assert names["choose"].__doc__ == "Say which."
    assert names["Kind"].__doc__ == "A kind."
    assert [kind.value for kind in names["Kind"]] == [1, 2]
    assert names["choose"].__code__.co_firstlineno == SOURCE.splitlines().index("def choose(number: int) -> str:") + 1


@pytest.mark.parametrize("path", tree.modules()[::9])
def test_each_module_still_compiles_with_notes(path: str) -> None:
    source = (tree.ROOT / path).read_text("utf-8")
    compile(blocks.of_source(source).note(source, 0), path, "exec")


def test_a_process_that_is_killed_has_noted_what_it_reached(tmp_path: Path) -> None:
    source = "import os\nos.kill(os.getpid(), 9)\nprint('never')\n"
    (tmp_path / f"{blocks.PROBES}.py").write_text(blocks.PROBES_SOURCE.format(size=4), "utf-8")
    (tmp_path / "code.py").write_text(blocks.of_source(source).note(source, 2), "utf-8")
    reached = tmp_path / "reached"
    reached.write_bytes(bytes(4))
    ran = subprocess.run([sys.executable, str(tmp_path / "code.py")], env={blocks.PATH: str(reached)}, check=False)

    assert ran.returncode == -9
    assert recording.read(reached) == [2]
    recording.clear(reached)
    assert recording.read(reached) == []
