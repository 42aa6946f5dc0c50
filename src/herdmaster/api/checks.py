"""Checks of values that users give. All raise ConfigurationError, which names the option, unless they say otherwise."""

from __future__ import annotations

import enum
import math
import re
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeGuard, TypeVar

from herdmaster.core.bounds import MAX_MS, MAX_SECONDS
from herdmaster.core.failure import STEERING, type_name
from herdmaster.errors import ConfigurationError
from herdmaster.zookeeper.client import Credential, checked, parse_connect_string
from herdmaster.zookeeper.errors import InvalidConnectString, InvalidCredential
from herdmaster.zookeeper.tls import TLS

E = TypeVar("E", bound=enum.StrEnum)

_UNITS: Final = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30,
}  # fmt: skip
_size = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]*)").fullmatch


def check_call(value: object) -> None:
    """Check the name of a call, as in `Task.call`."""
    module, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (colon and module and name):
        raise ConfigurationError(f"{value!r} is no call's name: it is text, MODULE:FUNCTION, such as shop.tasks:resize")


def is_text(value: object) -> TypeGuard[str]:
    """Say whether this is text that is not empty and has a form in UTF-8, which lone surrogates have not."""
    return isinstance(value, str) and bool(value) and not any("\ud800" <= each <= "\udfff" for each in value)


def check_hosts(value: object) -> None:
    """Check a connect string. Raises InvalidConnectString."""
    if not isinstance(value, str):
        raise InvalidConnectString(f"connect string {value!r}: it is text, such as host1:2181,host2:2181/path")
    parse_connect_string(value)


def check_tls(value: object) -> None:
    """Check the settings of TLS."""
    if value is not None and value is not False and not isinstance(value, TLS):
        raise ConfigurationError(f"tls={value!r}: it takes herdmaster.TLS(...), or False for plain connections")


def check_auth(value: Credential | Iterable[Credential] | None) -> tuple[Credential, ...] | None:
    """Return the credentials; None where the environment has them."""
    try:
        return None if value is None else checked(value)
    except InvalidCredential as error:
        del value  # of a wrong type, it may be a password
        raise ConfigurationError(str(error)) from None


def check_count(name: str, value: object) -> int:
    """Return a whole number from 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"{name}={value!r}: it takes a whole number from 1")
    return value


def check_flag(name: str, value: object) -> bool:
    """Return a bool."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name}={value!r}: it takes True or False")
    return value


def check_choice(name: str, value: object, kind: type[E]) -> E:
    """Return the member of an enumeration that has this value."""
    try:
        return kind(str(value))
    except ValueError:
        allowed = " or ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{name}={value!r}: it takes {allowed}") from None


def check_seconds(name: str, value: object, *, zero: bool) -> float:
    """Return the seconds of a number or a timedelta."""
    found = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        found = -1
    if 0 < found <= MAX_SECONDS or (zero and found == 0):
        return float(found)
    raise ConfigurationError(
        f"{name}={value!r}: it takes seconds or a timedelta, {'not below' if zero else 'above'} 0 and at most a century"
    )


def check_wait(name: str, value: object) -> float:
    """Return the seconds of a wait, as the standard library takes them: 0 or less for none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise ConfigurationError(f"{name}={value!r}: it takes a number of seconds, or None to wait for any time")
    return min(float(value), threading.TIMEOUT_MAX)


def check_instant(name: str, value: object) -> int:
    """Return the Unix milliseconds of a datetime with a time zone."""
    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name}={value!r}: it takes a datetime with a time zone")
    if value.utcoffset() is None:
        raise ConfigurationError(
            f"{name}={value!r} has no time zone, so it could mean any: give it one, as in datetime.now(timezone.utc)"
        )
    found = max(0, round(value.timestamp() * 1000))
    if found > MAX_MS:
        raise ConfigurationError(f"{name}={value!r}: it is later than {datetime.fromtimestamp(MAX_MS / 1000, UTC)}")
    return found


def read_bytes(name: str, value: object) -> int:
    """Return a number of bytes, given as a number or as text: 200MB (a million each) or 200MiB (2 ** 20 each)."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    match = _size(value) if isinstance(value, str) else None
    unit = None if match is None else _UNITS.get(match[2].upper())
    if match is None or unit is None or float(match[1]) * unit < 1:
        raise ConfigurationError(f"{name}={value!r}: it takes a number of bytes above 0, or text such as '200MB'")
    return int(float(match[1]) * unit)


def read_exception_names(name: str, value: object) -> tuple[str, ...]:
    """Return the names of exceptions: one or several, given as classes or names."""
    several = value if isinstance(value, Iterable) and not isinstance(value, (str, type)) else (value,)
    return tuple(dict.fromkeys(_exception_name(name, each) for each in several))


def check_exceptions(name: str, value: object) -> tuple[type[Exception], ...]:
    """Return one exception class, or several, as a tuple."""
    several = tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, type)) else (value,)
    for each in several:
        if not isinstance(each, type) or not issubclass(each, Exception) or issubclass(each, STEERING):
            raise ConfigurationError(f"{name}: {each!r} is no class of exceptions that a task may fail with")
    return several


def _exception_name(name: str, value: object) -> str:
    if isinstance(value, type) and issubclass(value, BaseException):
        return type_name(value)
    if isinstance(value, str) and all(part.isidentifier() or part == "<locals>" for part in value.split(".")):
        return value
    raise ConfigurationError(
        f"{name}= has {value!r}: it takes exception classes, or names such as 'ValueError' or 'shop.errors.OutOfStock'"
    )
