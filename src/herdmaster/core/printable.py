"""Text from outside (names, errors, messages, output of tasks) as it is shown in log lines, tables and terminals."""

from __future__ import annotations

import re
from typing import Final

INDENT: Final = "  "
"""Begins each line but the first of a text that stands in a log: no such line looks like a line of the log."""

_COLOUR: Final = r"\x1b\[(?:[012]|[39][1-6])?(?:;(?:[012]|[39][1-6]))*m"
"""Colours of the text, bold and dim. None hides the text."""
_RESET: Final = "\x1b[0m"
_steering: Final = re.compile(
    rf"(?P<colour>{_COLOUR})"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, but tab and line end
    r"\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # changes of direction, other line ends
    r"\ud800-\udfff]"  # what no encoding has
)


def printable(text: str, limit: int | None = None) -> str:
    """Return the text as one line that cannot steer a terminal, cut to its first `limit` characters.

    Every character that is not printable is replaced by its escape: `\\x1b`, `\\n`, `\\u202e`, `\\udc80`.
    """
    shown = text if limit is None else text[:limit]
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in shown)


def escaped(text: str, *, keeps_colours: bool = False) -> str:
    """Return the text with the escape of each character that would steer a terminal. Line ends and tabs stay.

    With `keeps_colours` colours stay too, and end with their line at the latest.
    """
    if text.isprintable():
        return text
    has_colours = False

    def replace(match: re.Match[str]) -> str:
        nonlocal has_colours
        if keeps_colours and match["colour"]:
            has_colours = True
            return match["colour"]
        return ascii(match[0])[1:-1]

    shown = _steering.sub(replace, text)
    return _ended(shown) if has_colours else shown


def _ended(text: str) -> str:
    """End the colours of each line before the line ends."""
    return "\n".join(line + _RESET if _is_coloured(line) else line for line in text.split("\n"))


def _is_coloured(line: str) -> bool:
    """Return whether a colour is open at the end of a line, in which every escape begins a colour."""
    last = line.rfind("\x1b")
    return last >= 0 and not line.startswith((_RESET, "\x1b[m"), last)


def escaped_json(data: bytes) -> str:
    """Return JSON with `\\u` escapes for the characters that would steer a terminal. It means the same."""
    text = data.decode("utf-8", "replace")
    if text.isascii() and "\x7f" not in text:
        return text  # JSON has no other controls as they are
    return _steering.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def indented(text: str) -> str:
    """Return the text with each line but the first indented."""
    return text.replace("\n", f"\n{INDENT}") if "\n" in text else text
