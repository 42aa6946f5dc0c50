"""Imports of modules that an option or a Herd names, and the error message where one fails."""

from __future__ import annotations

import importlib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from herdmaster.errors import ConfigurationError

_HERDMASTER: Final = f"{Path(__file__).parents[1]}/"
_STANDARD: Final = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"))
_INSTALLED: Final = ("site-packages", "dist-packages")


def check_modules(named_by: str, names: object) -> tuple[str, ...]:
    """Raises ConfigurationError for what are no names of modules."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ConfigurationError(f"{named_by} takes a list of modules, such as ['shop.tasks'], not {names!r}")
    found = tuple(names)
    for name in found:
        if not is_module_name(name):
            raise ConfigurationError(f"{named_by} takes names of modules, such as shop.tasks, not {name!r}")
    return found


def is_module_name(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def import_modules(named_by: str, names: Iterable[str]) -> None:
    """Imports modules in which tasks are registered. Raises ConfigurationError, with the reason, for one that fails."""
    for name in names:
        try:
            importlib.import_module(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit: no module ends a worker without a word
            raise ConfigurationError(f"{named_by} names module {name}, which {_why_not(error, name)}") from error


def is_absence_of(module: str, error: BaseException) -> bool:
    """Whether the module itself was not found, and not one that it imports."""
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return False
    return f"{module}.".startswith(f"{error.name}.")


def _why_not(error: BaseException, module: str) -> str:
    if is_absence_of(module, error):
        assert isinstance(error, ModuleNotFoundError)
        return f"is not importable from here: there is no module {error.name}"
    if isinstance(error, SystemExit):
        return f"calls sys.exit when it is imported{place_of(error)}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"cannot be imported: {type(error).__name__}: {text}{place_of(error)}"


def place_of(error: BaseException) -> str:
    """` (FILE, line N)`: where the user's own code made the error; empty where none of it had a part."""
    if isinstance(error, SyntaxError) and error.filename is not None and error.lineno is not None:
        return f" ({error.filename}, line {error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((_HERDMASTER, "<frozen "))
    ]
    own = [frame for frame in frames if not _is_installed(frame.filename)] or frames
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def is_raised_by_herdmaster(error: BaseException) -> bool:
    """Whether code of Herdmaster's raised it, such as a check of options."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith(_HERDMASTER)


def _is_installed(filename: str) -> bool:
    return filename.startswith(_STANDARD) or any(f"/{folder}/" in filename for folder in _INSTALLED)
