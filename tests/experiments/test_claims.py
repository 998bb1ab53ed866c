"""Claims about back ends: verdicts on measurements that are made up, and what files say wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.loader import load
from pipeline.errors import ConfigError
from pipeline.experiments.comparison.claims import FALSE, NOT_SHOWN, TRUE, check_labels, judged
from pipeline.experiments.comparison.result import Measurement


def measured(case: str, *elapsed: float, **more: float) -> list[Measurement]:
    fields = {"start_up": 1.0, "verify": 0.0, "commit": 0.0, "user": 0.5, "system": 0.5, "memory": 100.0, **more}
    return [
        Measurement(case=case, backend=case, round=i, elapsed=seconds, n_workers=2, process=0.0, **fields)
        for i, seconds in enumerate(elapsed)
    ]


def verdict(measurements: list[Measurement], **claim: str) -> tuple[str, str, float]:
    (found,) = judged([{"claim": "x", **claim}], measurements, {})
    assert found.measured is not None
    return found.verdict, found.what, found.measured.value


SERIAL = measured("serial", 4.0, 4.1, 4.2)


@pytest.mark.parametrize(
    ("seconds", "bound", "said"),
    [
        ((2.0, 2.0, 2.1), ">= 1.5", TRUE),
        ((4.0, 4.0, 4.0), ">= 1.5", FALSE),
        ((2.0, 2.7, 3.0), ">= 1.5", NOT_SHOWN),
        ((4.0, 4.0, 4.0), "<= 1.15", TRUE),
        ((2.0, 2.0, 2.0), "<= 1.15", FALSE),
        ((2.05, 2.05, 2.05), "> 3", FALSE),
        ((2.05, 2.05, 2.05), "<3", TRUE),
    ],
)
def test_a_claim_holds_if_its_whole_interval_is_in_the_bound(seconds: tuple[float, ...], bound: str, said: str) -> None:
    runs = SERIAL + measured("threads", *seconds)
    assert verdict(runs, of="serial", to="threads", value=bound)[:2] == (said, "time of serial / threads")


def test_fewer_than_three_rounds_show_nothing() -> None:
    runs = measured("serial", 4.0, 4.0) + measured("threads", 1.0, 1.0)
    assert verdict(runs, of="serial", to="threads", value=">= 1.5") == (NOT_SHOWN, "time of serial / threads", 4.0)


@pytest.mark.parametrize(
    ("measure", "what", "value"),
    [
        ("elapsed", "time of pool", 2.0),
        ("total", "time with start-up of pool", 3.5),
        ("start_up", "start-up of pool", 1.0),
        ("cpu", "CPU time of pool", 3.0),
        ("cores", "cores of pool", 1.5),
        ("memory", "memory of pool", 100.0),
    ],
)
def test_each_measure_is_what_it_says(measure: str, what: str, value: float) -> None:
    runs = measured("pool", 2.0, 2.0, 2.0, commit=0.5, user=2.5)
    assert verdict(runs, of="pool", measure=measure, value="> 0")[1:] == (what, value)


def test_a_claim_about_a_back_end_that_did_not_run_says_so() -> None:
    (found,) = judged([{"claim": "x", "of": "serial", "to": "pool", "value": "> 1"}], SERIAL, {"pool": "no room"})
    assert (found.verdict, found.measured) == ("pool did not run: no room", None)


def test_a_claim_about_what_is_not_compared_is_refused() -> None:
    claims = [{"claim": "x", "of": "serial", "value": "> 1"}, {"claim": "y", "of": "serial", "to": "threds"}]
    with pytest.raises(ConfigError, match=r"claims\[1\].to: 'threds' is not compared; .* mean 'threads'"):
        check_labels(claims, ["serial", "threads"])


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("{claim: x, of: serial}", "5:7: compare.claims[0]: needs value: what it must be"),
        ("{claim: x, of: serial, value: 2}", "claims[0].value: got 2; value takes a bound like"),
        ("{claim: x, of: serial, value: '> 1', measure: core}", "did you mean 'cores'?"),
        ("{claim: x, off: serial, value: '> 1'}", "claims[0].off: unknown key; allowed: claim, measure, of, to, value"),
        ("faster", "claims[0]: got 'faster'; claims takes a list of maps"),
    ],
)
def test_a_wrong_claim_is_an_error_at_its_place(tmp_path: Path, claim: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(f"version: 1\nsteps: {{x: {{op: arange, stop: 3}}}}\ncompare:\n  claims:\n    - {claim}\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert message in str(caught.value)
