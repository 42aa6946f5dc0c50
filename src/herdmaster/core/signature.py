"""What a function takes and gives, as far as its parameters and type hints say.

The client holds arguments against it before it submits; the worker turns plain JSON into what the hints name, and so
does the client with the result. Nothing of it is looked at before the first call, and nothing about a function is ever
an error: what cannot be made out is not checked and not converted.
"""

from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Final, Union

import msgspec

from herdmaster.core.hints import Hint, Misfit, usable_hint
from herdmaster.core.values import type_text
from herdmaster.errors import WrongArguments

Function = Callable[..., object]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_NAMED: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


_SEQUENCES: Final = (Sequence, Collection, Iterable)


class _Parameter(msgspec.Struct, frozen=True):
    name: str
    hint: Hint | None
    text: str
    """`width: int`, `trip: trips.Trip`."""
    is_sequence: bool = False
    """Whether its hint is Sequence, Collection or Iterable; `element` is the hint of its elements."""
    element: Hint | None = None


class _Shape(msgspec.Struct, frozen=True):
    """A function's parameters by how arguments reach them. `simple`: so many positional arguments and no others are
    right without another look; -1 for no number. `certain` is False where the function is wrapped by another one that
    takes anything: how many arguments that adds is unknown."""

    positional: tuple[_Parameter, ...] = ()
    named: Mapping[str, _Parameter] = {}
    required: tuple[str, ...] = ()
    rest: _Parameter | None = None
    rest_named: _Parameter | None = None
    returns: Hint | None = None
    certain: bool = True
    simple: int = -1


_ANY: Final = _Parameter("", None, "")
_UNKNOWN: Final = _Shape(rest=_ANY, rest_named=_ANY, certain=False)


class Signature:
    """Of the function that calls named `call` run. Threads may share one."""

    def __init__(self, call: str, function: Function) -> None:
        self.call = call
        self._function = function
        self._known: _Shape | None = None

    @property
    def _shape(self) -> _Shape:
        if self._known is None:
            self._known = _shape_of(self._function)
        return self._known

    def takes(self, name: str) -> bool:
        """Return whether a parameter has this name."""
        return name in self._shape.named

    def check_names(self, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Raises WrongArguments for arguments that are missing or that nothing takes."""
        for _ in self._bind(args, kwargs):
            pass

    def check_arguments(
        self, args: Sequence[object], kwargs: Mapping[str, object], unknown: Collection[int | str] = ()
    ) -> None:
        """As `check_names`, and for values that do not fit their hints; but those at positions and names in `unknown`
        are not known yet. Values must be such as JSON can carry."""
        for parameter, key, value in self._bind(args, kwargs):
            if parameter.hint is not None and key not in unknown:
                try:
                    parameter.hint.check(value)
                except Misfit as error:
                    raise self._misfit(parameter, error, type(value)) from None

    def convert_arguments(
        self, args: Sequence[object], kwargs: Mapping[str, object], as_is: Collection[int | str] = ()
    ) -> tuple[list[object], dict[str, object]]:
        """Plain values from JSON as what the hints name; but those at positions and names in `as_is` stay as they are.
        Raises WrongArguments as `check_arguments` does."""
        positional, named = list(args), dict(kwargs)
        bound = self._bind(args, kwargs)
        if as_is:
            bound = [each for each in bound if each[1] not in as_is]
        for parameter, key, value in bound:
            if parameter.hint is None:
                continue
            try:
                converted = parameter.hint.convert(value)
            except Misfit as error:
                raise self._misfit(parameter, error, type(value)) from None
            if isinstance(key, int):
                positional[key] = converted
            else:
                named[key] = converted
        return positional, named

    def takes_sequence(self, key: int | str) -> bool:
        """Return whether the argument at a position, or of a name, may be any sequence, by its hint."""
        return self._parameter(key).is_sequence

    def convert_element(self, key: int | str, value: object) -> object:
        """Convert one element of such an argument. Raises WrongArguments."""
        parameter = self._parameter(key)
        try:
            return value if parameter.element is None else parameter.element.convert(value)
        except Misfit as error:
            raise self._misfit(parameter, error, type(value)) from None

    def _parameter(self, key: int | str) -> _Parameter:
        shape = self._shape
        if isinstance(key, str):
            return shape.named.get(key, _ANY)
        return shape.positional[key] if key < len(shape.positional) else _ANY

    @property
    def result_runs_code(self) -> bool:
        """Whether converting a result may run code of the user's own."""
        returns = self._shape.returns
        return returns is not None and returns.runs_code

    def convert_result(self, value: object) -> object:
        """A plain value from JSON as what the hint names. Raises Misfit."""
        returns = self._shape.returns
        return value if returns is None else returns.convert(value)

    def _bind(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Iterable[tuple[_Parameter, int | str, object]]:
        """Each argument with its parameter and where it stands."""
        shape = self._shape
        if not kwargs and len(args) == shape.simple:
            return zip(shape.positional, itertools.count(), args)
        return self._bind_any(args, kwargs)

    def _bind_any(
        self, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> Iterator[tuple[_Parameter, int | str, object]]:
        shape = self._shape
        wrong = _wrong(shape, len(args), kwargs)
        if wrong:
            if shape.certain:
                error = WrongArguments(f"{self.call} {wrong}")
                error.lacks_parameter = True
                raise error
            return
        for position, value in enumerate(args):
            parameter = shape.positional[position] if position < len(shape.positional) else shape.rest
            assert parameter is not None
            yield parameter, position, value
        for name, value in kwargs.items():
            parameter = shape.named.get(name, shape.rest_named)
            assert parameter is not None
            yield parameter, name, value

    def _misfit(self, parameter: _Parameter, error: Misfit, given: type) -> WrongArguments:
        reason = f"{error}" if given.__module__ == "builtins" else f"{error} (it is a {type_text(given)})"
        return WrongArguments(f"{self.call} takes `{parameter.text}`, and what it was given does not fit: {reason}")


def _wrong(shape: _Shape, count: int, kwargs: Mapping[str, object]) -> str:
    """What is wrong with so many positional arguments and these named ones; nothing: an empty text."""
    most = len(shape.positional)
    if count > most and shape.rest is None:
        return f"takes {most} positional arguments, and was given {count}"
    for name in kwargs:
        if name not in shape.named and shape.rest_named is None:
            takes = ", ".join(f"`{parameter.text}`" for parameter in shape.named.values()) or "none by name"
            return f"takes no argument `{name}`; it takes {takes}"
    given = {parameter.name for parameter in shape.positional[:count]}
    for name in kwargs:
        if name in shape.named and name in given:
            return f"was given two values for `{name}`"
    missing = [
        f"`{name}`" for name in shape.required if name not in given and (name not in kwargs or name not in shape.named)
    ]
    return f"misses {', '.join(missing)}" if missing else ""


def _shape_of(function: Function) -> _Shape:
    try:
        return _read_shape(function)
    except Exception:  # noqa: BLE001 - functions of C have no signature, and annotations may be anything
        return _UNKNOWN


def _read_shape(function: Function) -> _Shape:
    own = inspect.signature(function, follow_wrapped=False)
    inner = function
    certain = True
    if hasattr(function, "__wrapped__") and _takes_anything(own):
        inner = inspect.unwrap(function)
        certain = False
    signature = inspect.signature(inner, follow_wrapped=False)
    hints = _hints(inner)
    parameters = {
        name: _Parameter(
            name, _usable(parameter, hints.get(name, object)), _text(parameter, hints), *_elements(hints.get(name))
        )
        for name, parameter in signature.parameters.items()
    }

    def of_kind(*kinds: object) -> list[_Parameter]:
        return [parameters[name] for name, parameter in signature.parameters.items() if parameter.kind in kinds]

    positional = tuple(of_kind(*_POSITIONAL))
    keyword_only = {parameter.name for parameter in of_kind(inspect.Parameter.KEYWORD_ONLY)}
    required = tuple(
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty and parameter.kind in (*_POSITIONAL, *_NAMED)
    )
    return _Shape(
        positional=positional,
        named={parameter.name: parameter for parameter in of_kind(*_NAMED)},
        required=required,
        rest=next(iter(of_kind(inspect.Parameter.VAR_POSITIONAL)), None),
        rest_named=next(iter(of_kind(inspect.Parameter.VAR_KEYWORD)), None),
        returns=usable_hint(hints.get("return", object)),
        certain=certain,
        simple=len(positional) if keyword_only.isdisjoint(required) else -1,
    )


def _usable(parameter: inspect.Parameter, hint: object) -> Hint | None:
    if parameter.default is None:
        hint = Union[hint, None]  # noqa: UP007 - `|` is not there for every hint
    return usable_hint(hint)


def _elements(hint: object) -> tuple[bool, Hint | None]:
    """Return whether a hint is that of any sequence, and the hint of its elements."""
    if (typing.get_origin(hint) or hint) not in _SEQUENCES:
        return False, None
    (element,) = typing.get_args(hint) or (object,)
    return True, usable_hint(element)


def _text(parameter: inspect.Parameter, hints: Mapping[str, object]) -> str:
    """With the module of a class, where the hint could be resolved."""
    if parameter.annotation is parameter.empty:
        return parameter.name
    annotation = hints.get(parameter.name, parameter.annotation)
    return f"{parameter.name}: {annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)}"


def _takes_anything(signature: inspect.Signature) -> bool:
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def _hints(function: Function) -> dict[str, object]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - one that is only imported for type checkers, say: then each by itself
        return {name: hint for name in function.__annotations__ if (hint := _hint(function, name)) is not None}


def _hint(function: Function, name: str) -> object:
    alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})
    try:
        names = getattr(function, "__globals__", {})
        return typing.get_type_hints(alone, globalns=names, include_extras=True).get(name)
    except Exception:  # noqa: BLE001 - as above
        return None
