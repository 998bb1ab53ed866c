"""docs/training.md: its steps are run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pages import blocks
from serially import values_of

PAGE = Path(__file__).parents[1] / "docs" / "training.md"


def test_the_steps_of_the_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    flats = pd.DataFrame({"rooms": rng.integers(1, 6, 80), "area": rng.uniform(20, 150, 80).round(1)})
    flats["floor"], flats["district"], flats["street"] = rng.integers(0, 9, 80), ["N", "S"] * 40, list("abcdefgh") * 10
    flats["price"] = 3 * flats["area"] + 20 * flats["rooms"] + rng.normal(size=80)
    flats["dear"] = flats["price"] > 300
    for i in range(4):
        flats.iloc[i * 20 : (i + 1) * 20].to_parquet(tmp_path / f"flats{i}.parquet")
    head = "keep: [search, classes, forest]\nsteps:\n  flats: {op: read_parquet, path: flats*.parquet}\n"
    steps = "".join(f"  {line}\n" for block in blocks(PAGE) for line in block.text.splitlines())
    got = values_of(head + steps, tmp_path)
    assert len(got["search"]) == 24
    assert list(got["table"].columns) == ["alpha", "fit_intercept", "fold", "r2", "neg_mean_absolute_error"]
    assert np.allclose(got["guess"]["expected"], flats["price"], atol=5)
    assert np.allclose(got["chances"]["no"] + got["chances"]["yes"], 1)
    assert bool(got["good"])
    assert len(got["classes"]) == 3 * 3
    assert len(got["forest"]) == 2
    assert len(got["online"]) == 2
