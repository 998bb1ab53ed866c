"""The steps of a file drawn as one SVG without other files, for light and dark screens and for paper.

A box is a step, with its operation below its name; the label on the lines that leave it is the kind of its value, and
its size as far as it is known before the run. Outputs are sheets with a folded corner. A line has the colour of the
step that it starts from. The SVG has no script, and all text is escaped.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.config.model import Config, Output, Step
from pipeline.errors import printable
from pipeline.graph.drawing_layout import Box, Drawing, Sizes, cut, place_boxes
from pipeline.units import bytes_text, count_text

if TYPE_CHECKING:
    from pipeline.graph.graph import Graph
    from pipeline.graph.value_types import ValueType


__all__ = ["graph_svg"]

# all but _LONGEST in pixels
_BOX, _BAND, _BETWEEN, _WIDTH = 40.0, 22.0, 38.0, 1_160.0  # heights of a box, a label, and a bend; width of the drawing
_NAME, _SMALL = 7.9, 6.5  # mean width of a letter at font sizes 13 and 11
_MARGIN, _TITLE = 14.0, 44.0  # around the drawing; height of its title
_LONGEST = 30  # letters in a line of text
_TINTS = ("#3b7dbf", "#c8653a", "#2e8b57", "#a3559f", "#a88a1c", "#3a98a5", "#c2506e", "#7a7f3a", "#7169c6")
_STYLE = """
svg { --paper: #ffffff; --ink: #1a1a1a; --faint: #595959; --box: #f4f6f8; --rim: #8a939c; --sheet: #fdf6e3; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #16191d; --ink: #eceff1; --faint: #a9b1b8; --box: #262b31; --rim: #6d7780; --sheet: #35301f; }
}
@media print { svg { --paper: #ffffff; --ink: #1a1a1a; --faint: #595959; --box: #ffffff; --sheet: #ffffff; } }
text { font: 13px system-ui, "DejaVu Sans", Arial, sans-serif; fill: var(--ink); }
.small, .label { font-size: 11px; fill: var(--faint); }
.head { font-size: 15px; font-weight: 600; }
.paper { fill: var(--paper); }
.box { fill: var(--box); stroke: var(--rim); }
.sheet { fill: var(--sheet); stroke: var(--rim); }
.bridge { fill: none; stroke: var(--paper); stroke-width: 3.8; }
.line { fill: none; stroke-width: 1.6; }
.edge:hover .line { stroke-width: 3.5; }
.pill { fill: var(--paper); stroke-width: 1; }
"""


@dataclass(frozen=True)
class _Node:
    """A step or output to be drawn as a box.

    Parameters
    ----------
    name, below : its two lines of text
    label : text on the lines that leave it; may be empty
    instances : number of instances, shown if there are several
    tooltip : the whole text, uncut
    """

    name: str
    below: str
    label: str
    instances: int
    tooltip: str
    is_output: bool = False

    @property
    def times(self) -> str:
        return f"x {self.instances:,}" if self.instances > 1 else ""

    @property
    def width(self) -> float:
        inside = max(
            len(self.name) * _NAME + len(self.times) * _SMALL + 12 * bool(self.times), len(self.below) * _SMALL
        )
        return max(inside + 26, len(self.label) * _SMALL + 18, 96)


def graph_svg(config: Config, graph: Graph | None = None) -> str:
    """Return the SVG of the steps and outputs of a file.

    Parameters
    ----------
    graph : the built Graph, for sizes; without it only the kinds of values are shown
    """
    nodes = _nodes(config, graph)
    drawing = place_boxes(
        list(nodes),
        _edges(config),
        Sizes(_WIDTH, _BOX + _BAND, _BETWEEN),
        widths={name: node.width for name, node in nodes.items()},
    )
    head = _head(config)
    width = max(drawing.width, min(len(head) * 9.0, _WIDTH)) + 2 * _MARGIN
    height = drawing.height + 2 * _MARGIN + _TITLE
    left = _MARGIN + (width - 2 * _MARGIN - drawing.width) / 2
    tints = {box.step: _TINTS[i % len(_TINTS)] for i, box in enumerate(_in_reading_order(drawing.boxes))}
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}"'
    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{_escaped(head)}">',
        f"<title>{_escaped(head)}</title><style>{_STYLE}</style>",
        f'<rect class="paper" width="100%" height="100%"/>{_arrows(tints)}',
        f'<text class="head" x="{_MARGIN}" y="{_MARGIN + 16}">{_escaped(cut(head, int(width / 9)))}</text>',
        f'<g transform="translate({left:.1f} {_MARGIN + _TITLE:.1f})">',
        *_lines(drawing, nodes, tints),
        *(_box(box, nodes[box.step], tints[box.step]) for box in drawing.boxes),
        "</g></svg>",
    ]
    return "\n".join(pieces) + "\n"


def _head(config: Config) -> str:
    n = len({step.step for step in config.steps.values()})
    outputs = len({output.name for output in config.outputs})
    return f"{config.name}: {count_text(n, 'step')}, {count_text(outputs, 'output')}"


def _in_reading_order(boxes: Iterable[Box]) -> list[Box]:
    return sorted(boxes, key=lambda box: (box.y, box.x))


# ---------------------------------------------------------------------------------------------------------------------
# The boxes and their texts
# ---------------------------------------------------------------------------------------------------------------------


def _nodes(config: Config, graph: Graph | None) -> dict[str, _Node]:
    """Return steps by name and outputs as "write name"; a step has no space in its name, so the names are distinct."""
    found = {}
    instances: dict[str, list[Step]] = {}
    for step in config.steps.values():
        instances.setdefault(step.step, []).append(step)
    for name, steps in instances.items():
        first = steps[0]
        what = " ".join(dict.fromkeys([first.kind, first.function]))
        value_types = [graph.value_types[step.name] for step in steps] if graph is not None else []
        label = _sized(value_types) if value_types else _kind(first)
        tooltip = f"{name}: {what}; {label}"
        found[name] = _Node(cut(name, _LONGEST), cut(what, _LONGEST), cut(label, _LONGEST), len(steps), tooltip)
    outputs: dict[str, list[Output]] = {}
    for output in config.outputs:
        outputs.setdefault(output.name, []).append(output)
    for name, written in outputs.items():
        tooltip = f"{name}: {written[0].to}; {', '.join(output.path for output in written[:6])}"
        below = f"{written[0].to} {written[0].path}" if len(written) == 1 else written[0].to
        found[f"write {name}"] = _Node(
            cut(name, _LONGEST), cut(below, _LONGEST), "", len(written), tooltip, is_output=True
        )
    return found


def _edges(config: Config) -> list[tuple[str, str]]:
    of_steps = ((r.step, step.step) for step in config.steps.values() for r in step.references())
    of_outputs = ((output.input.step, f"write {output.name}") for output in config.outputs)
    return list(dict.fromkeys([*of_steps, *of_outputs]))


def _sized(value_types: Sequence[ValueType]) -> str:
    """Return the number of instances, and the kind and size of their values (the largest if sizes differ)."""
    texts = list(dict.fromkeys(map(_value_text, value_types)))
    if len(texts) > 1 and all(value_type.kind == "array" for value_type in value_types):
        most = max(_nbytes(value_type) for value_type in value_types)
        texts = [f"array up to {bytes_text(most)}"] if most == most else ["array"]
    text = texts[0] if len(texts) == 1 else value_types[0].kind
    return f"{len(value_types):,} x {text}" if len(value_types) > 1 else text


def _nbytes(value_type: ValueType) -> float:
    return value_type.nbytes if value_type.kind == "array" else math.nan


def _value_text(value_type: ValueType) -> str:
    if value_type.kind == "array":
        if not value_type.dims:
            return "number"
        return (
            f"array ({', '.join(value_type.dims)})"
            if math.isnan(value_type.nbytes)
            else f"array {bytes_text(value_type.nbytes)}"
        )
    if value_type.kind == "frame":
        n = len(value_type.schema)
        size = "" if math.isnan(value_type.nbytes) else f", {bytes_text(value_type.nbytes)}"
        return f"frame {count_text(n, 'col')}{size}"
    if value_type.kind == "items":
        return count_text(len(value_type.names), "item") if value_type.names is not None else "items"
    return ", ".join(value_type.parts) if value_type.kind == "parts" else value_type.kind


def _kind(step: Step) -> str:
    """Return the kind of a step's value, as far as it is known without building."""
    if step.kind == "op":
        return ", ".join(step.parameters.parts) or str(step.parameters.gives)
    if step.kind == "expr":
        return "array"
    return ", ".join(step.parts) or ("items" if step.over is not None else "value")


# ---------------------------------------------------------------------------------------------------------------------
# Elements of SVG
# ---------------------------------------------------------------------------------------------------------------------


def _escaped(text: str) -> str:
    return html.escape(printable(text))


def _arrows(tints: Mapping[str, str]) -> str:
    marks = (
        f'<marker id="arrow-{tint[1:]}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L8 4L0 7.5z" fill="{tint}"/></marker>'
        for tint in dict.fromkeys(tints.values())
    )
    return f"<defs>{''.join(marks)}</defs>"


def _lines(drawing: Drawing, nodes: Mapping[str, _Node], tints: Mapping[str, str]) -> list[str]:
    """Return the lines, grouped by the step that they leave, with a gap in the lines drawn before where they cross."""
    boxes = {box.step: box for box in drawing.boxes}
    paths: dict[str, list[tuple[str, str]]] = {}
    for (source, target), path in zip(drawing.edges, drawing.paths, strict=True):
        paths.setdefault(source, []).append((target, path))
    found = []
    for source, lines in paths.items():
        box, tint = boxes[source], tints[source]
        middle = box.x + box.width / 2
        bridges = "".join(f'<path class="bridge" d="{path}"/>' for _, path in lines)
        drawn = "".join(
            f'<g class="edge"><title>{_escaped(f"{nodes[source].tooltip} → {nodes[target].name}")}</title>'
            f'<path class="line" d="{path}" stroke="{tint}" marker-end="url(#arrow-{tint[1:]})"/></g>'
            for target, path in lines
        )
        stem = f'<path class="line" d="M{middle:.1f} {box.y + _BOX:.1f}V{box.y + _BOX + _BAND:.1f}" stroke="{tint}"/>'
        found.append(f"<g>{bridges}{drawn}{stem}{_pill(nodes[source].label, middle, box.y + _BOX, tint)}</g>")
    return found


def _pill(label: str, middle: float, top: float, tint: str) -> str:
    """Return the label on the stem where the lines leave a box."""
    if not label:
        return ""
    width = len(label) * _SMALL + 12
    return (
        f'<rect class="pill" x="{middle - width / 2:.1f}" y="{top + 4:.1f}" width="{width:.1f}" height="16" rx="8" '
        f'stroke="{tint}"/>'
        f'<text class="label" x="{middle:.1f}" y="{top + 15.8:.1f}" text-anchor="middle">{_escaped(label)}</text>'
    )


def _box(box: Box, node: _Node, tint: str) -> str:
    x, y, width = box.x, box.y, box.width
    if node.is_output:
        right, fold = x + width, 11.0
        outline = f"M{x:.1f} {y:.1f}H{right - fold:.1f}L{right:.1f} {y + fold:.1f}V{y + _BOX:.1f}H{x:.1f}z"
        corner = f"M{right - fold:.1f} {y:.1f}V{y + fold:.1f}H{right:.1f}"
        shape = f'<path class="sheet" d="{outline}"/><path class="sheet" d="{corner}"/>'
    else:
        shape = (
            f'<rect class="box" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BOX:.0f}" rx="5"/>'
            f'<rect x="{x + 1:.1f}" y="{y + 5:.1f}" width="4" height="{_BOX - 10:.0f}" rx="2" fill="{tint}"/>'
        )
    times = ""
    if node.times:
        at = x + width - (20 if node.is_output else 9)
        times = f'<text class="small" x="{at:.1f}" y="{y + 17:.1f}" text-anchor="end">{node.times}</text>'
    return (
        f'<g class="node"><title>{_escaped(node.tooltip)}</title>{shape}'
        f'<text x="{x + 12:.1f}" y="{y + 17:.1f}">{_escaped(node.name)}</text>{times}'
        f'<text class="small" x="{x + 12:.1f}" y="{y + 32:.1f}">{_escaped(node.below)}</text></g>'
    )
