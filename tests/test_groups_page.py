"""docs/groups.md: its steps are run, each block after those above it."""

from __future__ import annotations

from pathlib import Path

from pages import blocks
from serially import values_of

PAGE = Path(__file__).parents[1] / "docs" / "groups.md"
ROWS = """at,shop,item,price,amount
2018-11-03T23:30:00-03:00,Ulm,apple,1.5,4
2018-11-04T01:30:00-02:00,Ulm,pear,2.5,10
2018-11-07T12:00:00-02:00,,apple,1,20
2018-11-20T12:00:00-02:00,Kiel,fig,3,1
"""


def test_the_steps_of_the_page(tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_text(ROWS)
    steps = "".join(f"  {line}\n" for block in blocks(PAGE) for line in block.text.splitlines())
    names = [line.strip().partition(":")[0] for line in steps.splitlines() if line[2] != " "]
    got = values_of(f"keep: [{', '.join(names)}]\nsteps:\n{steps}", tmp_path)
    assert got["shops"].turnover.tolist() == [3.0, 31.0, 20.0]
    assert got["months"].apples.tolist() == [4, 20]
    assert got["baskets"].said.tolist() == ["fig", "apple, pear", "apple"]
    assert got["days"].n.tolist()[:5] == [1, 1, 0, 0, 1]
    assert [t.isoformat() for t in got["days"]["at"][:2]] == ["2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"]
    assert got["weeks"].turnover.tolist() == [3.0, 31.0, 20.0]
    assert got["by_item"].apple.tolist() == [0, 4, 20]
    assert got["sizes"]["size"].tolist() == ["few", "many", "many", "few"]
    assert got["about"]["count"].tolist() == [4, 4]
