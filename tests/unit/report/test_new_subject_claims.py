"""Claims about new people, on rows whose truth is planted: seven people, three seeds."""

from __future__ import annotations

import numpy as np
import pytest

from neurofm.benchmarks.adapted.new_subject import MODEL, SKIP, Scored
from neurofm.benchmarks.guards.audit import Finding
from neurofm.benchmarks.results import row
from neurofm.report.content import Report, notes_of
from neurofm.report.html import page
from neurofm.report.new_subject import best_from_scratch, claims_of, mean_scores

BUDGETS = (50.0, 100.0, 200.0, 400.0)
HELPS, BEATS, ADDS, FIFTY = range(4)


def scored(*, people=7, seeds=3, spread=0.002, gains=(0.02,) * 4, over_bar=0.01, over_skip=(0.01,) * 4, slope=0.01,
           scratch_skip=-0.05):  # fmt: skip
    """Rows: the bar climbs from 0.50 by `slope` a budget; everything else is an offset from it."""
    rng = np.random.default_rng(0)
    rows = []

    def add(value, **about):
        rows.append(row(metric="r2", value=value + spread * rng.standard_normal(), run_id="r", test_hash="t", **about))

    for p in range(people):
        level = 0.05 * rng.standard_normal()
        for i, b in enumerate(BUDGETS):
            bar = 0.5 + slope * i + level
            ours = bar + over_bar
            common = {"subject": f"p{p}", "budget": b, "budget_unit": "volumes"}
            add(bar, **common, model="ridge", baseline=True)
            # a far better one with whole-run normalisation, which no claim may use
            add(bar + 0.3, **common, model="ridge", baseline=True, transductive=True)
            for seed in range(seeds):
                add(ours, **common, model=MODEL, strategy="full", seed=seed)
                add(ours - over_skip[i], **common, model=SKIP, strategy="full", seed=seed)
                add(ours - gains[i], **common, model=MODEL, strategy="scratch", seed=seed)
                add(ours - gains[i] + scratch_skip, **common, model=SKIP, strategy="scratch", seed=seed)
    return Scored(rows=rows)


def verdicts(**choices):
    return [c.held for c in claims_of(scored(**choices), "masked_region", "full")]


def test_what_is_planted_holds():
    assert verdicts() == [True, True, True, False]
    assert verdicts(slope=0.001) == [True, True, True, True]


def test_what_is_not_there_fails():
    assert verdicts(gains=(0.0,) * 4, over_bar=-0.01, over_skip=(0.0,) * 4) == [False] * 4
    assert verdicts(gains=(-0.02,) * 4)[HELPS] is False
    # a mean above zero is not enough: the interval has to be
    wide = claims_of(scored(spread=0.2, over_bar=0.03), "masked_region", "full")
    assert [c.held for c in wide[:3]] == [False] * 3


def test_half_of_the_budgets_is_enough_for_a_gain_but_not_for_the_bar():
    two, one = (0.03, 0.03, -0.01, -0.01), (0.03, -0.01, -0.01, -0.01)
    assert verdicts(gains=two, over_skip=two)[:3] == [True, True, True]
    assert verdicts(gains=one, over_skip=one)[:3] == [False, True, False]
    some = scored()
    for r in some.rows:
        if r["model"] == MODEL and r["strategy"] == "full" and r["budget"] == 400:
            r["value"] -= 0.02
    claims = claims_of(some, "masked_region", "full")
    assert claims[HELPS].held
    assert not claims[BEATS].held


def test_from_scratch_is_the_better_of_network_and_closed_form():
    # the closed form from scratch is as good as the pretrained model: no gain is left
    assert verdicts(gains=(0.05,) * 4, scratch_skip=0.05)[HELPS] is False
    rows = scored(gains=(0.05,) * 4, scratch_skip=0.02, spread=0).rows
    whole, part = (mean_scores(rows, model=m, strategy="scratch") for m in (MODEL, SKIP))
    assert best_from_scratch(rows) == part
    assert part[50.0]["p0"] == pytest.approx(whole[50.0]["p0"] + 0.02)


@pytest.mark.parametrize("few", [{"people": 5}, {"seeds": 2}, {"people": 1}])
def test_too_few_are_shown_but_not_judged(few):
    claims = claims_of(scored(**few), "masked_region", "full")
    assert [c.verdict for c in claims] == ["NOT TESTED"] * 4
    assert all("too few to judge by" in c.detail for c in claims)


def test_seeds_are_counted_for_the_person_with_the_fewest():
    some = scored()
    some.rows = [r for r in some.rows if r["subject"] != "p3" or r["seed"] < 1]
    claims = claims_of(some, "masked_region", "full")
    assert {c.held for c in claims} == {None}
    assert "7 people and 1 seed" in claims[0].detail


def test_people_are_counted_at_the_budget_with_the_fewest():
    some = scored()
    some.rows = [r for r in some.rows if r["budget"] < 400 or r["subject"] < "p5" or r["baseline"]]
    assert {c.held for c in claims_of(some, "masked_region", "full")} == {None}


def test_failures_are_named_first():
    claims = claims_of(scored(), "masked_region", "full")
    said = page(Report(title="t", claims=claims))
    assert said.index("1 of 4 claims failed, 3 held.") < said.index("FAILED") < said.index("HELD")
    assert "50 volumes are enough" in said[said.index("FAILED") : said.index("HELD")]


def test_notes_say_what_the_audit_found():
    ok, bad = (Finding(severity=s, check="subject", message=f"{s}.") for s in ("ok", "leak"))
    assert notes_of([ok, bad]) == ["Leakage audit, leak: leak."]
    assert notes_of([ok]) == ["Leakage audit: 1 kinds of overlap were looked for, none was found."]
    assert notes_of([]) == []
