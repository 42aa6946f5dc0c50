"""Keys of dicts that stand for objects with fields, and that no field has."""

from __future__ import annotations

import dataclasses

import msgspec

from herdmaster.core.values import type_text


def unknown_key(given: object, made: object) -> str | None:
    """A sentence about the first key, in the dicts that were given, of which nothing is left in what was made of them.
    An object of a subclass is not looked into: it may have more fields than its base."""
    pending: list[tuple[object, object, str]] = [(given, made, "$")]
    while pending:
        before, after, path = pending.pop()
        if isinstance(before, dict) and isinstance(after, dict):
            if len(before) > len(after):  # keys may have changed as well, in a dict that takes any
                key = next(key for key in before if key not in after)
                return f"there is no key {key!r} in its type - at `{path}`"
            pending += [(value, after[key], f"{path}.{key}") for key, value in before.items() if key in after]
        elif isinstance(before, dict):
            fields = _fields(after)
            if fields is None:
                continue
            for key, value in before.items():
                if key not in fields:
                    takes = ", ".join(fields)
                    return f"{type_text(type(after))} has no field {key!r}, it has {takes} - at `{path}`"
                pending.append((value, fields[key], f"{path}.{key}"))
        elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)) and len(before) == len(after):
            pairs = enumerate(zip(before, after, strict=True))
            pending += [(old, new, f"{path}[{index}]") for index, (old, new) in pairs]
        elif type(before) is type(after) and (old_fields := _fields(before)) is not None:
            new_fields = _fields(after) or {}
            pending += [(old, new_fields.get(name), f"{path}.{name}") for name, old in old_fields.items()]
    return None


def _fields(made: object) -> dict[str, object] | None:
    """Those that JSON may give it, by their names there; None for what is not known here."""
    if isinstance(made, msgspec.Struct):
        names = zip(made.__struct_encode_fields__, made.__struct_fields__, strict=True)
        found: dict[str, object] = {name: getattr(made, field) for name, field in names}
        tag = made.__struct_config__.tag_field
        return found if tag is None else {tag: None, **found}
    if dataclasses.is_dataclass(made):
        return {field.name: getattr(made, field.name, None) for field in dataclasses.fields(made)}
    return None
