"""Which texts are distinguished names, as Java's X500Principal takes them: RFC 2253 and 1779, and what it adds."""

from __future__ import annotations

import re
from typing import Final

_NAMED: Final = ("CN", "C", "L", "S", "ST", "O", "OU", "T", "IP", "STREET", "DC", "UID", "SURNAME", "GIVENNAME")
_KEYWORDS: Final = frozenset(
    (*_NAMED, "INITIALS", "GENERATION", "EMAIL", "EMAILADDRESS", "SERIALNUMBER", "DNQ", "DNQUALIFIER")
)
_ATTRIBUTE: Final = re.compile(
    r"""[ \n]*(?:(?P<keyword>[A-Za-z][A-Za-z0-9-]*)|(?:[Oo][Ii][Dd]\.)?[0-9]+(?:\.[0-9]+)+)[ ]*=[ \n]*
    (?:\#(?:[0-9A-Fa-f]{2})+ | "(?:[^"\\]|\\.)*" | (?:[^",;+<>\\\n]|\\[0-9A-Fa-f]{2}|\\.)*)
    [ \n]*(?:[,;+]|\Z)""",
    re.VERBOSE,
)


def is_distinguished_name(text: str) -> bool:
    """Return whether the text is a list of `TYPE=value`; an empty one is."""
    position = 0
    while position < len(text):
        match = _ATTRIBUTE.match(text, position)
        if match is None or (match["keyword"] and match["keyword"].upper() not in _KEYWORDS):
            return False
        position = match.end()
    return not text or text[-1] not in ",;+" or text[-2:-1] == "\\"
