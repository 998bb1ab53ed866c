"""``pipeline graph``: the picture of the steps. What a browser shows of it, and what stands in it."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import chromium
from folders import HOSTILE

import pipeline
from pipeline.cli import main

NAMES = ("tas", "pressure", "humidity", "wind_speed", "monthly_mean_anomaly", "regional_average_by_area_and_month", "a")
# Every text with what it must lie in, every box and label, and points along the lines that lie in one they have no
# business with. A line may begin in its own label, and end at a box.
LOOK = """() => {
  const rect = node => { const r = node.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const svg = document.documentElement;
  const nodes = [...document.querySelectorAll('.node')], pills = [...document.querySelectorAll('.pill')];
  const boxes = nodes.map(node => rect(node.querySelector('.box, .sheet')));
  const labels = pills.map(rect);
  const texts = [...document.querySelectorAll('text')].map(text => {
    const node = text.closest('.node');
    const home = node ? rect(node.querySelector('.box, .sheet')) :
      text.previousElementSibling.matches('.pill') ? rect(text.previousElementSibling) : rect(svg);
    return [text.textContent, rect(text), home, text.className.baseVal];
  });
  const hit = [];
  const areas = [...boxes, ...labels];
  for (const line of document.querySelectorAll('.edge .line')) {
    const matrix = line.getCTM(), length = line.getTotalLength();
    for (let i = 2; i < length - 2; i += 9) {
      const p = line.getPointAtLength(i).matrixTransform(matrix);
      for (const a of areas)
        if (p.x > a[0] + 0.5 && p.x < a[2] - 0.5 && p.y > a[1] + 0.5 && p.y < a[3] - 0.5)
          hit.push(line.previousElementSibling.textContent);
    }
  }
  return {boxes, labels, texts, hit, whole: [0, 0, svg.width.baseVal.value, svg.height.baseVal.value]};
}"""


def drawn(n: int) -> pipeline.Pipeline:
    """A pipeline of ``n`` steps of all kinds, most of them needing some of the nine before them; with copies."""
    rng = random.Random(n)
    p = pipeline.Pipeline(f"of_{n}", modules=["math"])
    arrays: list[Any] = []
    for i in range(n):
        name, kind = f"{NAMES[i % len(NAMES)]}_{i}", rng.random()
        recent = arrays[-9:]
        if i < 2 or kind < 0.08:
            matrix = {"matrix": {"key": list("abcdefghijkl")}} if i == 1 else {}
            arrays.append(
                p.step(name, op="arange", stop=rng.choice([500, 4_000_000]), dim="x", chunks=2_000_000, **matrix)
            )
        elif kind < 0.7:
            arrays.append(p.step(name, expr=f"minimum({rng.choice(recent)}, 2)"))
        elif kind < 0.8:
            p.step(name, op="mean", input=rng.choice(recent))
        else:
            args = {key: rng.choice(recent) for key in "abc"}
            over = {"q": range(3)} if kind < 0.9 else {}
            p.step(name, call="math:sqrt", args=args, **({"over": over} if over else {}))
    p.output(str(arrays[0]), to="zarr", path="a/long/path/to/some/place/first.zarr")
    p.output("all", input=arrays[1], to="npy", path="${key}.npy")
    p.keep(*p.steps)
    return p


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page of a headless browser."""
    with chromium(tmp_path_factory.mktemp("browser")) as context:
        yield context.new_page()


def inside(inner: list[float], outer: list[float]) -> bool:
    return (
        inner[0] >= outer[0] and inner[1] >= outer[1] - 1 and inner[2] <= outer[2] + 0.1 and inner[3] <= outer[3] + 1.5
    )


def apart(one: list[float], other: list[float]) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


@pytest.mark.parametrize("n", [5, 30, 100])
def test_nothing_overlaps_and_everything_is_within_its_box(n: int, pages: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    path.write_text(drawn(n).to_svg(), encoding="utf-8")
    pages.goto(f"file://{path}")
    seen = pages.evaluate(LOOK)
    assert len(seen["boxes"]) == n + 2
    assert len(seen["labels"]) > n / 3
    assert not [text for text, where, home, _ in seen["texts"] if not inside(where, home)]
    areas = [*seen["boxes"], *seen["labels"]]
    assert all(inside(area, seen["whole"]) for area in areas)
    assert all(apart(areas[i], areas[j]) for i in range(len(areas)) for j in range(i))
    texts = [where for _, where, _, _ in seen["texts"]]
    # a line of text is higher than its letters: two lines of one box touch
    shrunk = [[a, b + 3, c, d - 3] for a, b, c, d in texts]
    assert all(apart(shrunk[i], shrunk[j]) for i in range(len(shrunk)) for j in range(i))
    assert seen["hit"] == []


def test_it_is_readable_in_light_and_dark(pages: Any, tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    path.write_text(drawn(5).to_svg(), encoding="utf-8")
    found = {}
    for scheme in ("light", "dark"):
        pages.emulate_media(color_scheme=scheme)
        pages.goto(f"file://{path}")
        found[scheme] = pages.evaluate(
            "() => ['.node text', '.label', '.box', '.sheet', '.paper', '.edge .line'].map(name => {"
            " const style = getComputedStyle(document.querySelector(name));"
            " return name.includes('line') ? style.stroke : style.fill; })"
        )
    for text, label, box, sheet, paper, line in found.values():
        assert contrast(text, box) >= 7
        assert contrast(text, sheet) >= 7
        assert contrast(label, paper) >= 4.5
        assert contrast(line, paper) >= 3
    assert found["light"][4] != found["dark"][4]


def contrast(one: str, other: str) -> float:
    """Of two colours ``rgb(r, g, b)``, as WCAG 2 has it."""
    lights = []
    for colour in (one, other):
        parts = [int(part) / 255 for part in colour[4:-1].split(",")]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)
    return max(lights) / min(lights)


def told(svg: str) -> list[str]:
    """All texts of a picture; it is XML."""
    return [node.text or "" for node in ET.fromstring(svg).iter() if node.tag.endswith(("text", "title"))]


def test_kinds_and_sizes_stand_on_the_lines() -> None:
    p = pipeline.Pipeline("kinds", modules=["math"])
    x = p.step("x", op="arange", stop=1_500_000, dim="i", chunks=500_000)
    p.step("y", expr="x * 2", matrix={"k": [1, 2]})
    p.step("n", op="sum", input="y")
    p.step("calls", call="math:sqrt", over={"a": range(1200)}, args={"x": p["n"][1]})
    p.step("frame", op="to_frame", input=p["calls"], columns={"calls": "int64"})
    p.step("two", op="to_array", input="frame", columns=["calls", "a"], dims=["row", "column"], dtype="float64")
    p.step("svd", op="svd", input="two")
    p.step("value", call="math:sqrt", args={"x": p["svd"].s, "y": x})
    p.step("end", call="math:sqrt", args={"x": p["value"]})
    p.output("frame", to="csv", path="a.csv")
    p.output("y", to="npy", path="${k}.npy")
    p.keep("n", "end")
    texts = told(p.to_svg())
    sized = ("array 12.0 MB", "2 x array 12.0 MB", "2 x number", "1,200 items", "frame 3 cols", "array (row, column)")
    below = ("op arange", "expr x * 2", "call math:sqrt", "x 2", "csv a.csv", "npy")
    for label in (*sized, "u, s, v", "value", *below):
        assert label in texts, label
    assert "kinds: 9 steps, 2 outputs" in texts
    bare = told(p.to_svg(data=False))
    for label in ("array", "items", "frame", "u, s, v", "value"):
        assert label in bare, label
    assert not [text for text in bare if "MB" in text]


def test_hostile_text_stays_text() -> None:
    p = pipeline.Pipeline("<script>x</script>\x07", modules=["math"])
    for i, text in enumerate(HOSTILE):
        literal = text.replace("'", "").replace("\\", "").replace("${", "").replace("\u2028", "").replace("\x07", "")
        p.step(f"s{i}", call="math:sqrt", args={"a": text.replace("$", "")})
        p.output(f"s{i}", to="pickle", path=f"{literal.replace('/', '').replace(chr(0x202E), '')[:40]}{i}.pkl")
    svg = p.to_svg(data=False)
    assert "<script" not in svg
    assert {node.tag.rpartition("}")[2] for node in ET.fromstring(svg).iter()} == {
        *("svg", "title", "style", "rect", "defs", "marker", "path", "text", "g")
    }
    assert "http" not in svg.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_the_command_writes_it_or_prints_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text("version: 1\nparams: {n: 4}\nsteps: {x: {op: arange, stop: '${n}'}, y: {expr: x + 1}}\n")
    assert main(["graph", "f.yaml", "-o", "out.svg", "--set", "n=1000"]) == 0
    assert capsys.readouterr().out == ""
    assert "array 8.0 kB" in told(Path("out.svg").read_text())
    assert main(["graph", "f.yaml", "--no-data"]) == 0
    assert "array" in told(capsys.readouterr().out)
    assert main(["graph", "f.yaml", "--json"]) == 0
    assert told(json.loads(capsys.readouterr().out)["svg"])
    assert main(["graph", "f.yaml", "-o", "out.png"]) == 2
    assert "the drawing is an SVG; give a file name that ends in .svg" in capsys.readouterr().err
    assert main(["graph", "f.yaml", "-o", "none/out.svg"]) == 5
    assert "No such file or directory" in capsys.readouterr().err


def test_data_that_is_not_there_is_not_asked_for_without_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.yaml"
    path.write_text(
        "version: 1\nsteps: {x: {op: read_csv, path: nowhere.csv}, y: {op: select, input: x, columns: [a]}}\n"
    )
    assert main(["graph", str(path), "--no-data"]) == 0
    assert "frame" in told(capsys.readouterr().out)
    assert main(["graph", str(path)]) != 0
