"""Text from outside (names, errors, messages, notes) as it is shown in log lines and tables."""

from __future__ import annotations


def printable(text: str, limit: int | None = None) -> str:
    """Return the text as one line that cannot steer a terminal, cut to its first `limit` characters.

    Every character that is not printable is replaced by its escape: `\\x1b`, `\\n`, `\\u202e`, `\\udc80`.
    """
    shown = text if limit is None else text[:limit]
    if shown.isprintable():
        return shown
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in shown)
