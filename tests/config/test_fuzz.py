"""Mutated files give an error with its place, never a traceback; typos get the right suggestion."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from fuzzing import Checked, Typo, corpus, in_a_process, mutated, suggested, text_changed, tree_of

from pipeline.config import yaml_nodes
from pipeline.config.yaml_nodes import Node


def require_answers(rows: list[Checked]) -> None:
    """Exit code 0, 2 or 3, no traceback; refusing a file takes less than 200 MB, whatever it asks for."""
    for row in rows:
        assert not row.fault, f"file {row.number} ({row.kind} of {row.file}): {row.fault}: {row.said[-2000:]}"
        assert row.code == 0 or row.grown < 200e6, f"file {row.number} ({row.kind} of {row.file}): {row.grown:,} bytes"


def require_suggestions(found: list[tuple[Typo, bool]]) -> None:
    missed = [one for one, ok in found if not ok]
    assert len(missed) <= 0.05 * len(found), missed


def test_mutated_files_load_or_give_an_error() -> None:
    rows = in_a_process(range(60))
    assert {row.code for row in rows} >= {0, 2}  # some are still right
    require_answers(rows)


def test_typos_get_the_right_suggestion() -> None:
    found = suggested(random.Random(1), files=0.2, share=0.1)
    assert set(Counter(one.kind for one, _ in found)) == {"key", "op", "step", "column"}
    require_suggestions(found)


def flat(node: Node) -> tuple[object, ...]:
    """All that a tree says, places included."""
    if node.is_map:
        return (*known(node), [(key, node.keys[key], flat(value)) for key, value in node.items()])
    return (*known(node), [flat(value) for value in node.value] if node.is_list else repr(node.value))


def known(node: Node) -> tuple[object, ...]:
    return node.location, node.text, node.plain, node.size


def read_alike(numbers: range) -> int:
    """How many texts libyaml accepts, each of which ruamel reads alike, to the last place."""
    texts, n = corpus(), 0
    trees = {name: tree_of(text) for name, text in texts.items()}
    made = list(texts.values())
    for number in numbers:
        _, name, content = mutated(number, texts, trees)
        made += [c.decode(errors="replace") for c in (content, text_changed(texts[name], random.Random(number)))]
    for text in made:
        if yaml_nodes._OTHERWISE_IN_11.search(text):
            continue
        try:
            quickly = yaml_nodes._quickly(text, "file", ".")
        except Exception:  # noqa: BLE001  (of a text that it does not accept)
            continue
        assert flat(quickly) == flat(yaml_nodes._carefully(text, "file", ".")), text
        n += 1
    return n


def test_both_parsers_of_yaml_read_a_file_alike() -> None:
    assert read_alike(range(100)) > 150


@pytest.mark.parametrize("text", ["a: [1,\t2]", "a: b\u2028c", "a: b\x85c", "%YAML 1.1\n---\na: 1", "a: 'b\r c'", "a:"])
def test_what_yaml_1_1_reads_otherwise_is_read_as_1_2(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    carefully: list[str] = []
    monkeypatch.setattr(yaml_nodes, "_carefully", lambda text, file, folder: carefully.append(text))
    yaml_nodes.parse(text, "file", ".")
    assert carefully == [text]


@pytest.mark.slow
def test_both_parsers_read_ten_thousand_files_alike() -> None:
    assert read_alike(range(10_000)) > 5_000


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_thousand_mutated_files_load_or_give_an_error() -> None:
    for start in range(0, 20_000, 500):
        require_answers(in_a_process(range(start, start + 500)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_every_misspelt_name_gets_the_right_suggestion(seed: int) -> None:
    require_suggestions(suggested(random.Random(seed)))
