"""Runs the commands of a Markdown document as its reader would.

A block that opens with ```python file=NAME is a file. In a block of ```console a line after `$ ` is a command; what
follows is its output, where `...` stands for anything, also for more lines. The blocks of one section (a heading of two
`#`) share a folder, a namespace, and the background commands (those that end with `&`); files of earlier sections are
there, too.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

_BLOCK = re.compile(r"^( *)```(\w+)[ ]?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


class Step(msgspec.Struct, frozen=True):
    command: str
    expected: str


class Section(msgspec.Struct, frozen=True):
    title: str
    files: dict[str, str]
    steps: tuple[Step, ...]


def sections(text: str) -> list[Section]:
    """Those that have something to run."""
    parts = _SECTION.split(text)
    found: list[Section] = []
    files: dict[str, str] = {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        section = _section(title, body, files)
        files = section.files
        if section.steps:
            found.append(section)
    return found


def _section(title: str, body: str, earlier_files: dict[str, str]) -> Section:
    files = dict(earlier_files)
    steps: list[Step] = []
    for indent, language, options, indented in _BLOCK.findall(body):
        content = re.sub(rf"^{indent}", "", indented, flags=re.MULTILINE)
        if language == "python" and options.startswith("file="):
            files[options.removeprefix("file=")] = content
        elif language == "console":
            for chunk in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
                command, _, expected = chunk.partition("\n")
                steps.append(Step(command, expected))
    return Section(title, files, tuple(steps))


class Shell:
    """A folder in which commands run, with the commands that it left in the background."""

    def __init__(self, folder: Path, zookeeper: str) -> None:
        self._folder = folder
        self._background: list[subprocess.Popen[bytes]] = []
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = os.environ | {"PATH": programs, "HERD_ZOOKEEPER": zookeeper}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._background:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._background:
            process.wait(60)

    def run(self, command: str, *, seconds: float) -> str:
        """What it printed; nothing for a background command. Raises AssertionError if it fails."""
        if command.endswith("&"):
            with (self._folder / "background.log").open("ab") as log:
                self._background.append(
                    subprocess.Popen(
                        ["bash", "-c", f"exec {command.removesuffix('&')}"],
                        cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                        start_new_session=True,
                    )
                )  # fmt: skip
            return ""
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=self._folder, env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}{self._logged()}"
        return ended.stdout

    def _logged(self) -> str:
        path = self._folder / "background.log"
        return path.read_text() if path.exists() else ""


def matches(printed: str, expected: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
