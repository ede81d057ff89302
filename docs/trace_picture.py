"""Draw a trace as an SVG: a bar for each span, in the colour of its process.

docs/trace.svg is of real spans, those of a job whose model worker is killed at work: `make trace`.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Protocol

_ROW, _LEFT, _WIDTH, _RIGHT, _TOP = 18, 170, 640, 30, 52
_COLOURS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#72b7b2", "#9d755d", "#eeca3b")
_LOST = "#e45756"
_OPENING = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    'font-family="sans-serif" font-size="11">'
)
_CHILDREN = ("postgresql", "S3/")
"""Names of spans that would be too many rows: they are drawn into their parents' bars."""


class Drawn(Protocol):
    """What is drawn of a span."""

    @property
    def span_id(self) -> str: ...
    @property
    def parent_id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...
    @property
    def attributes(self) -> Mapping[str, Any]: ...
    @property
    def links(self) -> Sequence[str]: ...
    @property
    def process(self) -> str: ...


def draw(spans: Sequence[Drawn]) -> str:
    """Return the picture of a trace: time goes to the right, spans by their start downwards."""
    rows = [span for span in _in_order(spans) if not span.name.startswith(_CHILDREN)]
    row_of = {span.span_id: n for n, span in enumerate(rows)}
    begun = min(span.start_ns for span in spans)
    whole = max(span.end_ns for span in spans) - begun
    colours = dict(zip(dict.fromkeys(span.process for span in rows), _COLOURS, strict=False))

    def x(at_ns: int) -> float:
        return _LEFT + _WIDTH * (at_ns - begun) / whole

    height = _TOP + _ROW * len(rows) + 34
    parts = [
        _OPENING.format(width=_LEFT + _WIDTH + _RIGHT, height=height),
        '<rect width="100%" height="100%" fill="#fff"/>',
        *_legend(colours),
        *_axis(whole, height),
    ]
    notes: list[str] = []
    for n, span in enumerate(rows):
        y = _TOP + _ROW * n
        is_lost = span.attributes.get("error.type") == "lease_expired"
        fill = _LOST if is_lost else colours.get(span.process, "#888")
        width = max(1.5, x(span.end_ns) - x(span.start_ns))
        parts.append(f'<text x="8" y="{y + 12}">{escape(_label(span))}</text>')
        parts.append(
            f'<rect x="{x(span.start_ns):.1f}" y="{y + 3}" width="{width:.1f}" height="11" '
            f'rx="2" fill="{fill}"/>'
        )
        if is_lost:
            notes.append(_note(x(span.end_ns) + 4, y + 12, "killed; the sweep wrote this span"))
        parts += [
            _arrow((x(span.start_ns), y + 9), (x(rows[to].end_ns), _TOP + _ROW * to + 9))
            for to in (row_of[link] for link in span.links if link in row_of)
        ]
    for span in spans:
        if span.name.startswith(_CHILDREN) and span.parent_id in row_of:
            y = _TOP + _ROW * row_of[span.parent_id]
            width = max(0.6, x(span.end_ns) - x(span.start_ns))
            parts.append(
                f'<rect x="{x(span.start_ns):.1f}" y="{y + 6}" width="{width:.1f}" height="5" '
                'fill="#fff" fill-opacity=".55"/>'
            )
    return "\n".join([*parts, *notes, "</svg>", ""])


def _in_order(spans: Sequence[Drawn]) -> list[Drawn]:
    """Return each span after its parent, and siblings by their start."""
    ids = {span.span_id for span in spans}
    children: dict[str, list[Drawn]] = {}
    for span in sorted(spans, key=lambda span: span.start_ns):
        children.setdefault(span.parent_id if span.parent_id in ids else "", []).append(span)
    ordered: list[Drawn] = []

    def add(parent: str) -> None:
        for span in children.get(parent, ()):
            ordered.append(span)
            add(span.span_id)

    add("")
    return ordered


def _label(span: Drawn) -> str:
    if "longhand.step.kind" not in span.attributes:
        return span.name
    chunk = f" {span.attributes['longhand.step.index']}" if span.name == "transcribe" else ""
    return f"    {span.name}{chunk}, attempt {span.attributes['longhand.step.attempt']}"


def _legend(colours: Mapping[str, str]) -> list[str]:
    parts, at = [], 8.0
    for n, (process, colour) in enumerate(colours.items()):
        name = f"{process.partition('@')[0]} (process {n + 1})"
        parts.append(f'<rect x="{at:.0f}" y="10" width="11" height="11" rx="2" fill="{colour}"/>')
        parts.append(f'<text x="{at + 16:.0f}" y="20">{escape(name)}</text>')
        at += 30 + 6.2 * len(name)
    return parts


def _axis(whole_ns: int, height: int) -> list[str]:
    parts = []
    for n in range(5):
        at = _LEFT + _WIDTH * n / 4
        said = f"{whole_ns * n / 4 / 1e9:.1f} s"
        parts.append(
            f'<line x1="{at:.0f}" y1="{_TOP - 4}" x2="{at:.0f}" y2="{height - 24}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{at:.0f}" y="{height - 8}" text-anchor="middle">{said}</text>')
    return parts


def _note(x: float, y: float, said: str) -> str:
    """Write beside a bar, legibly on whatever is below."""
    halo = 'stroke="#fff" stroke-width="4" paint-order="stroke"'
    return f'<text x="{x:.1f}" y="{y}" fill="{_LOST}" {halo}>{said}</text>'


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Draw a link: from an attempt to the one before it."""
    (x, y), (to_x, to_y) = start, end
    middle = (x + to_x) / 2
    return (
        f'<path d="M{x:.1f} {y} C{middle:.1f} {y} {middle:.1f} {to_y} {to_x:.1f} {to_y}" '
        f'fill="none" stroke="{_LOST}" stroke-dasharray="3 2"/>'
    )
