"""A sheet of SVG to draw on: boxes, lines and words, in colours that follow light and dark."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

# The site sets the same names by its own switch (site.css); alone, a drawing follows the reader's.
STYLE = """
.picture { --ink: #1f2937; --faint: #6b7280; --line: #9ca3af; --card: #f3f4f6; --mlp: #fef3c7;
  --helps: #0072b2; --hurts: #d55e00; --other: #009e73;
  font: 15px/1.3 Helvetica, Arial, sans-serif; }
@media (prefers-color-scheme: dark) { .picture { --ink: #e5e7eb; --faint: #a3aab6; --line: #6b7280;
  --card: #263040; --mlp: #4a3a10; --helps: #56b4e9; --hurts: #ff9d5c; --other: #2fbf94; } }
.picture text { fill: var(--ink); stroke: none; } .picture .faint { fill: var(--faint); }
.picture .small { font-size: 13px; } .picture .strong { font-weight: 700; }
.picture .mono { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 14px; }
.picture .helps { --c: var(--helps); } .picture .hurts { --c: var(--hurts); }
.picture .other { --c: var(--other); } .picture .plain { --c: var(--ink); }
.picture .thin { --c: var(--line); } .picture text.helps, .picture text.hurts,
.picture text.other { fill: var(--c); } .picture path, .picture rect, .picture circle {
  fill: none; stroke: var(--c, var(--line)); stroke-width: 1.5; }
.picture .card { fill: var(--card); } .picture .mlp { fill: var(--mlp); }
.picture .full { fill: var(--c); } .picture .wide { stroke-width: 3; }
.picture .dashed { stroke-dasharray: 5 4; } .picture .tip { fill: var(--c); stroke: none; }
"""


@dataclass
class Sheet:
    """What has been drawn so far, and how large it is, in pixels."""

    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, kind: str = "", anchor: str = "middle") -> None:
        """Write words, a line for each line of them, the first on a baseline."""
        for i, line in enumerate(words.split("\n")):
            self.parts.append(
                f'<text x="{x:g}" y="{y + 18 * i:g}" class="{kind}" text-anchor="{anchor}">'
                f"{escape(line)}</text>"
            )

    def box(
        self, x: float, y: float, w: float, h: float, words: str = "", kind: str = "card thin"
    ) -> None:
        """Draw a box by its upper left corner, with words in its middle."""
        self.parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="5" class="{kind}"/>'
        )
        if words:
            lines = words.count("\n")
            self.text(x + w / 2, y + h / 2 + 5 - 9 * lines, words)

    def line(
        self, points: list[tuple[float, float]], kind: str = "plain", tip: bool = False
    ) -> None:
        """Join points; `tip` ends the last line, which is upright or level, in an arrow."""
        path = "L".join(f"{x:g} {y:g}" for x, y in points)
        self.parts.append(f'<path d="M{path}" class="{kind}"/>')
        if tip:
            (x0, y0), (x1, y1) = points[-2:]
            dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
            corners = [(x1 + 2 * dx, y1 + 2 * dy)] + [
                (x1 - 9 * dx + s * 5 * dy, y1 - 9 * dy + s * 5 * dx) for s in (1, -1)
            ]
            shape = "L".join(f"{x:g} {y:g}" for x, y in corners)
            self.parts.append(f'<path d="M{shape}Z" class="tip {kind}"/>')

    def dot(self, x: float, y: float, kind: str = "plain", r: float = 4) -> None:
        """Draw a small disc."""
        self.parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{r:g}" class="full {kind}"/>')

    def svg(self) -> str:
        """Give what the file holds."""
        body = "\n".join(self.parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="picture" '
            f'viewBox="0 0 {self.width} {self.height}"><style>{STYLE}</style>\n{body}\n</svg>\n'
        )
