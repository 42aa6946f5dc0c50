"""All mutants of one module: mutmut's operators, and four more, where a fault of behaviour can be.

No mutants are made of docstrings, annotations, type aliases and type variables, log calls, texts for people (strings
with a space in them), `__repr__` and `__str__`, asserts and `strict` of zip (they state what is known), decorators,
bases of classes, and `__slots__`. No false value takes the place of another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation import mutators

_LOG_METHODS: Final = {"debug", "info", "warning", "error", "exception", "critical", "log", "isEnabledFor"}
_TEXT_METHODS: Final = {"__repr__", "__str__"}
_TYPE_FUNCTIONS: Final = {"TypeVar", "ParamSpec", "NewType", "cast"}
_PLAIN_FUNCTIONS: Final = {"len", "isinstance", "issubclass"}  # another argument only raises TypeError
_TABLES: Final = {"__slots__", "__all__"}
_SKIPPED: Final = (cst.Annotation, cst.Decorator, cst.Import, cst.ImportFrom, cst.Assert)


@dataclass(frozen=True, slots=True)
class Lines:
    """A range of lines, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Mutation:
    """One change of one module."""

    line: int
    kind: str  # the operator's name
    statement: Lines  # which tests run these lines says which tests reach the change
    function: Lines | None  # the function around it, unless it is the module's or a class's own code
    module: cst.Module = field(repr=False)
    node: cst.CSTNode = field(repr=False)
    changed: cst.CSTNode = field(repr=False)

    def code(self) -> str:
        """Return the whole module with the change."""
        mutated = self.module.deep_replace(self.node, self.changed)
        return str(mutated.code)


@dataclass(frozen=True, slots=True)
class _Scope:
    statement: Lines
    function: Lines | None = None
    in_defaults: bool = False


def mutations(source: str) -> list[Mutation]:
    """Return every mutation of this module, in the order of its text."""
    wrapper = MetadataWrapper(cst.parse_module(source))
    return list(
        _Walk(wrapper.module, dict(wrapper.resolve(PositionProvider))).below(wrapper.module, _Scope(Lines(1, 1)))
    )


class _Walk:
    def __init__(self, module: cst.Module, positions: dict[cst.CSTNode, CodeRange]) -> None:
        self._module = module
        self._positions = positions

    def below(self, node: cst.CSTNode, scope: _Scope) -> Iterator[Mutation]:
        for child in node.children:
            if not _is_strictness(node, child):
                yield from self._at(child, scope)

    def _at(self, node: cst.CSTNode, scope: _Scope) -> Iterator[Mutation]:
        if _is_skipped(node):
            return
        inner = self._scope(node, scope)
        position = self._positions.get(node)
        if position is not None:
            for kind, changed in _changes(node):
                yield Mutation(position.start.line, kind, inner.statement, inner.function, self._module, node, changed)
        if isinstance(node, cst.ClassDef):
            yield from self.below(node.body, inner)
        else:
            yield from self.below(node, inner)

    def _scope(self, node: cst.CSTNode, scope: _Scope) -> _Scope:
        if isinstance(node, cst.FunctionDef):
            lines = self._lines(node)
            return _Scope(lines, scope.function or lines)
        if isinstance(node, cst.SimpleStatementLine):
            return replace(scope, statement=self._lines(node))
        if isinstance(node, cst.BaseCompoundStatement):
            first = self._positions[node].start.line
            body = self._positions[node.cases[0] if isinstance(node, cst.Match) else node.body].start.line
            return replace(scope, statement=Lines(first, max(first, body - 1)))
        return scope

    def _lines(self, node: cst.CSTNode) -> Lines:
        position = self._positions[node]
        return Lines(position.start.line, position.end.line)


def _is_skipped(node: cst.CSTNode) -> bool:
    match node:
        case cst.FunctionDef(name=cst.Name(value=name)):
            return name in _TEXT_METHODS
        case cst.If(test=cst.Name(value="TYPE_CHECKING")):
            return True
        case cst.Expr(value=cst.SimpleString() | cst.ConcatenatedString()):
            return True  # a docstring
        case cst.Expr(value=cst.Call() as call):
            return _is_log_call(call)
        case cst.Call():
            return _is_log_call(node) or _name(node.func) in _TYPE_FUNCTIONS
        case cst.Assign(value=cst.Call(func=cst.Name(value=name))) if name in _TYPE_FUNCTIONS:
            return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Name(value=name))], value=value):
            return name in _TABLES or (name[:1].isupper() and not name.isupper() and _is_type(value))
        case cst.AnnAssign(target=cst.Name(value=name)):
            return name in _TABLES
        case cst.FormattedString():
            return _is_text(node)
        case _:
            return isinstance(node, _SKIPPED)


def _is_strictness(call: cst.CSTNode, argument: cst.CSTNode) -> bool:
    """Say whether this is `strict` of zip, which states what is known, as an assert does."""
    match call, argument:
        case cst.Call(func=cst.Name(value="zip")), cst.Arg(keyword=cst.Name(value="strict")):
            return True
        case _:
            return False


def _is_type(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.Subscript | cst.BinaryOperation | cst.Name)


def _is_log_call(call: cst.Call) -> bool:
    function = call.func
    return (
        isinstance(function, cst.Attribute) and function.attr.value in _LOG_METHODS and "log" in _name(function.value)
    )


def _name(node: cst.BaseExpression) -> str:
    match node:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return str(name)
        case _:
            return ""


def _is_text(node: cst.BaseExpression) -> bool:
    """Say whether the value is a text for people: a string with a space in it."""
    match node:
        case cst.SimpleString():
            return " " in node.value
        case cst.FormattedString():
            return any(isinstance(part, cst.FormattedStringText) and " " in part.value for part in node.parts)
        case cst.ConcatenatedString():
            return _is_text(node.left) or _is_text(node.right)
        case _:
            return False


def _changes(node: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    for kind, operator in mutators.mutation_operators:
        if isinstance(node, kind):
            for changed in _changes_by(operator, node):
                yield operator.__name__.removeprefix("operator_"), changed
    yield from _further_changes(node)


def _changes_by(operator: Callable[[cst.CSTNode], Iterable[cst.CSTNode]], node: cst.CSTNode) -> Iterable[cst.CSTNode]:
    if operator is mutators.operator_string:
        return [] if not isinstance(node, cst.SimpleString) or _is_text(node) else list(operator(node))[:1]
    if operator is mutators.operator_number and not isinstance(node, cst.Integer | cst.Float):
        return []
    if operator is mutators.operator_arg_removal:
        return _without_arguments(node, operator(node))
    if operator is mutators.operator_assignment:
        return _with_other_values(node, operator(node))
    return operator(node)


def _with_other_values(node: cst.CSTNode, changed: Iterable[cst.CSTNode]) -> Iterable[cst.CSTNode]:
    """Swap no false value for another: code asks only whether it is true. Another operator turns False into True."""
    match node:
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript())], value=cst.Name(value="None")):
            return []  # a dictionary that is an ordered set
        case cst.Assign(value=cst.Name(value="False")) | cst.AnnAssign(value=cst.Name(value="False")):
            return []
        case cst.Assign(value=cst.Name(value="None")) | cst.AnnAssign(value=cst.Name(value="None")):
            return [node.with_changes(value=cst.SimpleString('"XXXX"'))]
        case _:
            return changed


def _without_arguments(node: cst.CSTNode, changed: Iterable[cst.CSTNode]) -> Iterator[cst.CSTNode]:
    assert isinstance(node, cst.Call)
    if _name(node.func) in _PLAIN_FUNCTIONS:
        return
    for call in changed:
        assert isinstance(call, cst.Call)
        left_out = [argument for argument in node.args if argument not in call.args]
        if not any(_is_text(argument.value) or _is_strictness(node, argument) for argument in left_out):
            yield call


def _further_changes(node: cst.CSTNode) -> Iterator[tuple[str, cst.CSTNode]]:
    """Leave a statement out, turn a condition round, return nothing."""
    match node:
        case cst.Expr(value=cst.Call() | cst.Await()) | cst.Del():
            yield "statement", cst.Pass()
        case cst.If(test=test):
            bracketed = test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            space = cst.SimpleWhitespace(" ")
            turned = cst.UnaryOperation(cst.Not(), bracketed)
            yield "condition", node.with_changes(test=turned, whitespace_before_test=space)
        case cst.Return(value=value) if value is not None and _name(value) not in ("None", "False"):
            space = cst.SimpleWhitespace(" ")
            yield "return", node.with_changes(value=cst.Name("None"), whitespace_after_return=space)
        case _:
            return
