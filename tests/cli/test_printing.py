from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

import herdmaster.cli
from herdmaster.cli.printing import plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a line\n\tand another, ü 漢 🐑", "a line\n\tand another, ü 漢 🐑"),
        ("\x1b]0;a title\x07", "\\x1b]0;a title\\x07"),
        ("\x1b[2J\x1b[31;1Hgone", "\\x1b[2J\\x1b[31;1Hgone"),
        ("over\rwritten\b", "over\\rwritten\\x08"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("txt.\u202eexe", "txt.\\u202eexe"),
        ("\x1b[8mhidden\x1b[30;40m\x1b[38;5;0m", "\\x1b[8mhidden\\x1b[30;40m\\x1b[38;5;0m"),
        ("\x1b[31mred\nplain", "\x1b[31mred\x1b[0m\nplain"),
        ("\x1b[1;31mred\x1b[0m and plain\udc80", "\x1b[1;31mred\x1b[0m and plain\\udc80"),
    ],
)
def test_what_would_steer_a_terminal_is_seen_instead(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_colours_stay() -> None:
    text = click.style("dead", fg="red", bold=True)
    assert plain(text) == text


def test_all_json_is_printed_by_the_function_that_escapes_it() -> None:
    sources = Path(herdmaster.cli.__file__).parent.glob("*.py")
    others = {
        path.name for path in sources if re.search(r"echo\((?:\w+\.)*\w*(?:json|encode)\w*[.(]", path.read_text())
    }
    assert others == {"printing.py", "simulation.py"}  # in the simulation nothing comes from outside
