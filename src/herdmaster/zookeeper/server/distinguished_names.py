"""The subject of a certificate as ZooKeeper's x509 scheme writes it: RFC 2253, in the form of Java's X500Principal."""

from __future__ import annotations

from typing import Final

from herdmaster.zookeeper.errors import InvalidTls

_VERSION: Final = 0xA0
_KEYWORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
"""The types that RFC 2253 names. A value of any other type is written as its bytes in hex."""

_ENCODINGS: Final = {
    0x0C: "utf-8",
    0x12: "ascii",
    0x13: "ascii",
    0x14: "latin-1",
    0x16: "ascii",
    0x1C: "utf-32-be",
    0x1E: "utf-16-be",
}
"""The encodings of ASN.1's types of text, by their tags."""

_ESCAPED: Final = frozenset(',=+<>#;"\\')


def subject_of(certificate: bytes) -> str:
    """Return the subject of a certificate in DER form, such as `CN=worker,OU=herd,O=Example`. Raises InvalidTls."""
    try:
        _, body, _ = _read(_read(certificate, 0)[1], 0)
        at = 0
        tag, _, end = _read(body, at)
        if tag == _VERSION:
            at = end
        for _ in range(4):  # the serial number, the algorithm, the issuer, the validity
            _, _, at = _read(body, at)
        _, subject, _ = _read(body, at)
        return ",".join(_relative_name(each) for each in reversed(_items(subject)))
    except (IndexError, UnicodeError, ValueError):
        raise InvalidTls("the certificate of a client is damaged: its subject cannot be read") from None


def _relative_name(encoded: bytes) -> str:
    return "+".join(_attribute(each) for each in _items(encoded))


def _attribute(encoded: bytes) -> str:
    _, kind, end = _read(encoded, 0)
    oid = _object_identifier(kind)
    tag, value, _ = _read(encoded, end)
    if oid not in _KEYWORDS or tag not in _ENCODINGS:
        return f"{oid}=#{encoded[end:].hex()}"
    return f"{_KEYWORDS[oid]}={_escape(value.decode(_ENCODINGS[tag]))}"


def _escape(text: str) -> str:
    inner = text.strip(" ")
    start = len(text) - len(text.lstrip(" "))
    escaped = "".join("\\00" if each == "\0" else f"\\{each}" if each in _ESCAPED else each for each in inner)
    return "\\ " * start + escaped + "\\ " * (len(text) - start - len(inner))


def _object_identifier(encoded: bytes) -> str:
    numbers: list[int] = []
    number = 0
    for byte in encoded:
        number = number << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - first * 40, *numbers[1:])))


def _items(encoded: bytes) -> list[bytes]:
    """Return the contents of the elements of a sequence or set, one after the other."""
    found = []
    at = 0
    while at < len(encoded):
        _, content, at = _read(encoded, at)
        found.append(content)
    return found


def _read(encoded: bytes, at: int) -> tuple[int, bytes, int]:
    """Return the tag and the content of the element that begins at an offset, and the offset of the next one."""
    tag, length = encoded[at], encoded[at + 1]
    start = at + 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(encoded[start : start + size])
        start += size
    end = start + length
    if end > len(encoded):
        raise ValueError("an element is longer than the bytes")
    return tag, encoded[start:end], end
