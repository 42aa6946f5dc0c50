"""Pydantic's models, where the program itself has loaded Pydantic: it is never imported from here."""

from __future__ import annotations

import sys
from typing import Any, TypeGuard

import msgspec


def is_model(kind: object) -> TypeGuard[type[Any]]:
    """Whether it is a class of models, of Pydantic 2."""
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base is not None and isinstance(kind, type) and issubclass(kind, base) and kind is not base


def dump_model(model: Any) -> object:
    """In JSON mode, by the names of the fields: aliases may differ between writing and reading."""
    return model.model_dump(mode="json", round_trip=True)


def load_model(kind: type[Any], value: object) -> object:
    """The model that a plain value stands for, validated as JSON. Raises ValueError in one line."""
    if isinstance(value, kind):
        return value
    try:
        return kind.model_validate_json(msgspec.json.encode(value), by_name=True, by_alias=True)
    except ValueError as error:
        raise ValueError(_in_one_line(error)) from None


def _in_one_line(error: Any) -> str:
    try:
        details = error.errors(include_url=False, include_context=False)
        return "; ".join(f"{detail['msg']} - at `${_path(detail['loc'])}`" for detail in details)
    except Exception:  # noqa: BLE001 - an error of the user's own validators
        return str(error)


def _path(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
