"""Draw boxes, lines and text as SVG.

Each picture has a background of its own, so that it is readable on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

INK = "#1f2933"
PALE = "#52606d"
PAPER = "#fdfdfb"
LINE = "#9aa5b1"
FILL = "#eef2f7"
COLORS = {
    "client": "#1d4ed8",
    "primary": "#b45309",
    "worker": "#15803d",
    "operator": "#9d174d",
}
"""A colour for each role."""


class Picture:
    """An SVG picture that is drawn element by element; `text()` is the file."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._width = width
        self._height = height
        self._title = title
        self._elements: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *, fill: str = FILL, stroke: str = LINE) -> None:
        self._elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="8" fill="{fill}" stroke="{stroke}"/>'
        )

    def line(self, points: Iterable[tuple[float, float]], *, color: str = LINE, dashed: bool = False) -> None:
        self._path(points, color, "", dashed=dashed)

    def arrow(self, points: Iterable[tuple[float, float]], *, color: str = PALE, dashed: bool = False) -> None:
        """A line with straight pieces and an arrowhead at its end."""
        self._path(points, color, f' marker-end="url(#head-{color.removeprefix("#")})"', dashed=dashed)

    def write(
        self, x: float, y: float, text: str, *, color: str = INK, size: int = 13, anchor: str = "start",
        bold: bool = False, mono: bool = False, halo: bool = False,
    ) -> None:  # fmt: skip
        """One line of text; `y` is its base line. A halo keeps it readable where it crosses a line."""
        weight = ' font-weight="600"' if bold else ""
        family = ' class="mono"' if mono else ""
        edge = f' stroke="{PAPER}" stroke-width="5" paint-order="stroke"' if halo else ""
        self._elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}{family}{edge}>'
            f"{escape(text)}</text>"
        )

    def text(self) -> str:
        heads = "".join(
            f'<marker id="head-{color.removeprefix("#")}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" '
            f'markerHeight="7" orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{color}"/></marker>\n'
            for color in (PALE, *COLORS.values())
        )
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width} {self._height}" '
            f'width="{self._width}" height="{self._height}" role="img">\n'
            f"<title>{escape(self._title)}</title>\n"
            "<style>text{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif}"
            ".mono{font-family:ui-monospace,'DejaVu Sans Mono',monospace}</style>\n"
            f"<defs>\n{heads}</defs>\n"
            f'<rect width="{self._width}" height="{self._height}" rx="10" fill="{PAPER}" stroke="{LINE}"/>\n'
            + "".join(f"{element}\n" for element in self._elements)
            + "</svg>\n"
        )

    def _path(self, points: Iterable[tuple[float, float]], color: str, marker: str, *, dashed: bool) -> None:
        way = "L".join(f"{x:g} {y:g}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._elements.append(f'<path d="M{way}" fill="none" stroke="{color}" stroke-width="1.5"{dash}{marker}/>')
