"""Pictures of the graph of a flow: Graphviz's DOT, and SVG with a simple layered layout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from herdmaster.core.printable import printable
from herdmaster.inspection.flow_nodes import Node, graph_of
from herdmaster.inspection.flow_seen import UNSUCCESSFUL, StepInfo, StepState, describe_counts

_MAX_NODES: Final = 300
"""The nodes that are drawn; further ones are only counted."""
_MAX_LABEL: Final = 40
_FILLS: Final = {
    StepState.DONE: "#c6e7cf", StepState.RUNNING: "#cfe0fb", StepState.ASSIGNED: "#e3edfc",
    StepState.RECOVERING: "#fbe3b5", StepState.FAILED: "#f7c6c5", StepState.CANCELLED: "#ead9ee",
    StepState.EXPIRED: "#fbe3b5", StepState.BLOCKED: "#f3e2d8", StepState.PENDING: "#e3edfc",
    StepState.DELAYED: "#fbe3b5",
}  # fmt: skip
_FILL: Final = "#eef2f7"
_INK, _LINE, _PAPER = "#1f2933", "#7b8794", "#fdfdfb"
_CHARACTER: Final = 7.2
"""The width of a character of 12 pixels, of most fonts at most."""
_HEIGHT, _GAP, _RISE, _MARGIN = 42.0, 22.0, 46.0, 16.0
_SWEEPS: Final = 4


def to_dot(steps: Iterable[StepInfo], name: str = "flow") -> str:
    """Return the graph in Graphviz's DOT."""
    nodes = graph_of(steps)
    lines = [f"digraph {_quoted(name)} {{", '  node [shape=box, style="rounded,filled", fontname="sans-serif"];']
    for number, node in enumerate(nodes):
        title, state = texts_of(node)
        fill = _fill_of(node)
        lines.append(f'  n{number} [label={_quoted(title, state)}, fillcolor="{fill}"];')
    for number, node in enumerate(nodes):
        style = " [style=dashed]" if node.step.when else ""
        lines += [f"  n{parent} -> n{number}{style};" for parent in node.parents]
    return "\n".join([*lines, "}", ""])


def texts_of(node: Node) -> tuple[str, str]:
    """Return the two lines of a node: what it is, and its state."""
    title = printable(node.label)
    if len(title) > _MAX_LABEL:
        title = f"{title[: _MAX_LABEL - 3]}..."
    when = {"failure": "on failure: ", "optional": "optional: "}.get(node.step.when, "")
    is_plain = node.total == 1 and node.chunked is None
    return title, f"{when}{node.state.value if is_plain else describe_counts(node.counts, node.chunked)}"


def _fill_of(node: Node) -> str:
    failed = next((state for state in node.counts if state in UNSUCCESSFUL), None)
    return _FILLS.get(failed or node.state, _FILL)


def _quoted(*lines: str) -> str:
    texts = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines if line)
    return '"' + "\\n".join(texts) + '"'


def to_svg(steps: Iterable[StepInfo], name: str = "flow") -> str:
    """Return the graph as an SVG element that needs nothing else: no script, font or style sheet."""
    every = graph_of(steps)
    nodes = every[:_MAX_NODES]
    widths = [max(map(len, texts_of(node))) * _CHARACTER + 24 for node in nodes]
    layers = _ordered(nodes)
    breadths = [sum(widths[each] for each in layer) + _GAP * (len(layer) - 1) for layer in layers]
    width = max(breadths, default=100.0) + 2 * _MARGIN
    height = len(layers) * (_HEIGHT + _RISE) - _RISE + 2 * _MARGIN + (20 if len(every) > len(nodes) else 0)
    height = max(height, 2 * _MARGIN)
    centers: dict[int, tuple[float, float]] = {}
    for depth, (layer, breadth) in enumerate(zip(layers, breadths, strict=True)):
        left = (width - breadth) / 2
        for each in layer:
            centers[each] = (left + widths[each] / 2, _MARGIN + depth * (_HEIGHT + _RISE))
            left += widths[each] + _GAP
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f"<title>{escape(printable(name))}</title>",
        f'<rect width="100%" height="100%" fill="{_PAPER}"/>',
        *(_edge(centers[p], centers[each], node) for each, node in enumerate(nodes) for p in node.parents),
        *(_box(node, *centers[each], widths[each]) for each, node in enumerate(nodes)),
    ]
    if len(every) > len(nodes):
        more = f"and {len(every) - len(nodes)} more"
        elements.append(f'<text x="{_MARGIN}" y="{height - 10:.0f}" fill="{_INK}">{more}</text>')
    return "\n".join([*elements, "</svg>"])


def _ordered(nodes: Sequence[Node]) -> list[list[int]]:
    """Return the nodes of each depth, from left to right: near to their parents and children, with few crossings."""
    layers: list[list[int]] = []
    for number, node in enumerate(nodes):
        while len(layers) <= node.depth:
            layers.append([])
        layers[node.depth].append(number)
    place = {each: (position + 0.5) / len(layer) for layer in layers for position, each in enumerate(layer)}
    for sweep in range(_SWEEPS):
        for layer in layers if sweep % 2 == 0 else reversed(layers):
            near = {
                each: [place[other] for other in (nodes[each].parents if sweep % 2 == 0 else nodes[each].children)
                       if other in place]
                for each in layer
            }  # fmt: skip
            layer.sort(key=lambda each: sum(near[each]) / len(near[each]) if near[each] else place[each])
            place.update({each: (position + 0.5) / len(layer) for position, each in enumerate(layer)})
    return layers


def _edge(above: tuple[float, float], below: tuple[float, float], node: Node) -> str:
    (x1, y1), (x2, y2) = (above[0], above[1] + _HEIGHT), below
    middle = (y1 + y2) / 2
    dashes = ' stroke-dasharray="5 4"' if node.step.when else ""
    curve = f"M{x1:.1f} {y1:.1f} C{x1:.1f} {middle:.1f} {x2:.1f} {middle:.1f} {x2:.1f} {y2 - 6:.1f}"
    head = f"M{x2 - 4:.1f} {y2 - 7:.1f} L{x2:.1f} {y2:.1f} L{x2 + 4:.1f} {y2 - 7:.1f} Z"
    return f'<path d="{curve}" fill="none" stroke="{_LINE}"{dashes}/><path d="{head}" fill="{_LINE}"/>'


def _box(node: Node, x: float, y: float, width: float) -> str:
    title, state = texts_of(node)
    fill = _fill_of(node)
    behind = ""
    if node.total > 1:
        behind = (
            f'<rect x="{x - width / 2 + 4:.1f}" y="{y + 4:.1f}" width="{width:.1f}" height="{_HEIGHT:g}" rx="7" '
            f'fill="{fill}" stroke="{_LINE}"/>'
        )
    return (
        f'{behind}<rect x="{x - width / 2:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_HEIGHT:g}" rx="7" '
        f'fill="{fill}" stroke="{_LINE}"/>'
        f'<text x="{x:.1f}" y="{y + 17:.1f}" fill="{_INK}" text-anchor="middle" font-weight="600">'
        f"{escape(title)}</text>"
        f'<text x="{x:.1f}" y="{y + 33:.1f}" fill="{_INK}" text-anchor="middle">{escape(state)}</text>'
    )
