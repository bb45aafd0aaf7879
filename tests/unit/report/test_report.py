from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from neurofm.benchmarks.adapted.trial_decoders import time_resolved
from neurofm.benchmarks.results import row as score_row
from neurofm.benchmarks.stats.intervals import sign_flip_p, t_interval
from neurofm.report.canvas import PALETTE, label_ends, new_figure, room_for_ends, style
from neurofm.report.content import Claim, Drawing, Report, Section, Table, folded
from neurofm.report.figures_adaptation import adaptation_curve, paired_gains, region_scores
from neurofm.report.figures_decoding import confusion_matrix, time_resolved_accuracy
from neurofm.report.figures_signals import dataset_overview, traces, training_curves
from neurofm.report.html import page, write_report
from neurofm.schema.errors import ConfigError, DataError
from neurofm.schema.tables import read_table

PEOPLE = [f"sub-{k}" for k in range(1, 8)]
BUDGETS = [50, 100, 200, 400]


def synthetic_scores() -> list[dict]:
    rng = np.random.default_rng(0)
    rows = []
    for person in PEOPLE:
        level = 0.04 * rng.normal()
        for b in BUDGETS:
            gain = 0.035 * np.log2(b / 25) / 2
            values = {"finetuned": 0.53 + gain, "scratch": 0.30 + 3 * gain, "ridge": 0.50 + gain}
            rows += [
                score_row(subject=person, budget=b, budget_unit="volumes", model=model, seed=seed, metric="r2",
                          run_id="r", test_hash="t", baseline=model == "ridge",
                          value=value + level + 0.006 * rng.normal())
                for model, value in values.items() for seed in range(1 if model == "ridge" else 3)
            ]  # fmt: skip
    return rows


def synthetic_drawings() -> dict[str, Drawing]:
    rng = np.random.default_rng(1)
    names = {"finetuned": "fine-tuned", "scratch": "from scratch", "ridge": "ridge"}
    rows = synthetic_scores()
    curves = {
        name: {
            p: {
                b: float(
                    np.mean([r["value"] for r in rows if (r["model"], r["subject"], r["budget"]) == (model, p, b)])
                )
                for b in BUDGETS
            }
            for p in PEOPLE
        }
        for model, name in names.items()
    }
    tones = {"fine-tuned": "finetuned", "from scratch": "scratch", "ridge": "ridge"}
    pair = {b: [[curves[s][p][b] for p in PEOPLE] for s in ("fine-tuned", "from scratch")] for b in BUDGETS}
    gains, _ = paired_gains({b: (v[0], v[1]) for b, v in pair.items()}, people=PEOPLE)
    true = np.apply_along_axis(lambda v: np.convolve(v, np.ones(5) / 5, "same") * 2, 0, rng.normal(size=(250, 3)))
    y = np.repeat(np.arange(4), 20)
    trials = rng.normal(size=(80, 2, 100)) + 2.5 * y[:, None, None] * (np.arange(100) > 45)
    nearest = lambda a, ya, b: np.abs(  # noqa: E731
        b[:, 0].mean(1)[:, None] - np.array([a[ya == c, 0].mean() for c in range(4)])
    ).argmin(1)
    course = time_resolved(nearest, trials, y, trials[::-1] + rng.normal(size=trials.shape), y[::-1], rate_hz=100,
                           start_s=-0.4, n_draws=100)  # fmt: skip
    steps = np.arange(0, 1000, 10)
    fall = {
        k: (steps, np.exp(-steps / t) + 0.4 + 0.02 * rng.normal(size=100))
        for k, t in (("seed 0", 200), ("seed 1", 240))
    }
    regions = [f"R{k:02d}" for k in range(32)]
    by_region = rng.uniform(0.2, 0.7, size=32)
    spectra = {p: (np.linspace(0.01, 0.69, 60), 1 / (0.02 + np.linspace(0.01, 0.69, 60) ** 1.2)) for p in PEOPLE}
    return {
        "adaptation": adaptation_curve(curves, tones=tones, ceiling=(0.66, "ceiling of linear models")),
        "gains": gains,
        "regions": region_scores(
            {"fine-tuned": by_region + rng.normal(0.02, 0.02, (7, 32)),
             "ridge": by_region + rng.normal(0, 0.02, (7, 32))},
            regions=regions, tones=tones,
        ),
        "traces": traces(true, {"fine-tuned": true * 0.8 + 0.25 * rng.normal(size=true.shape)},
                                 titles=["sub-1, R00", "sub-1, R12", "sub-1, R30"], step_s=0.72, tones=tones),
        "confusion": confusion_matrix(
            {"fine-tuned": [[20, 4, 3, 3], [2, 10, 2, 1], [1, 3, 9, 2], [2, 2, 1, 9]],
             "LDA": [[18, 5, 4, 3], [2, 11, 1, 1], [2, 3, 8, 2], [1, 3, 1, 9]]},
            classes=["forward", "left", "backward", "right"],
        ),
        "course": time_resolved_accuracy({"LDA": course}, tones={"LDA": "blue"}),
        "training": training_curves({"training loss": fall, "validation loss": fall}),
        "dataset": dataset_overview(minutes=dict.fromkeys(PEOPLE, 14.4), example=true, rate_hz=1 / 0.72,
                                            channels=["R00", "R12", "R30"], spectra=spectra),
    }  # fmt: skip


@pytest.fixture(scope="module")
def drawings() -> dict[str, Drawing]:
    return synthetic_drawings()


def sample_report(drawings: dict[str, Drawing]) -> Report:
    sections = [
        Section(title=k.capitalize(), lead="Synthetic numbers.", drawings=[(d, f"Figure of {k}.")])
        for k, d in drawings.items()
    ]
    table = Table(
        caption="Scores, synthetic",
        columns=["model", "n", "R²"],
        rows=[["ridge", 7, 0.533], ["<none>", 0, float("nan")]],
    )
    return Report(
        title="New people on hcp7 & a decoder of movement", subtitle="A sample with synthetic numbers",
        claims=[
            Claim(text="Pretraining helps a new person.", held=True, detail="ΔR² +0.12 [0.08, 0.16], p = .0156"),
            Claim(text="The decoder reaches LDA.", held=False, detail=".61 against .66"),
            Claim(text="It transfers <between> scanners.", held=None),
        ],
        sections=[*sections, Section(title="Table of figures", tables=[table], notes=["A note."])],
        scores=synthetic_scores(), looks={"hcp7, volumes 600–1199": 1}, facts={"checkpoint": "abc", "seeds": "0, 1, 2"},
    )  # fmt: skip


class Links(HTMLParser):
    """Everything a page refers to, and the tags that are open."""

    void = frozenset({"meta", "br", "link", "img", "path", "use", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.refers: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.refers += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data")]
        self.ids += [v or "" for k, v in attrs if k == "id"]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.void:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path, drawings: dict[str, Drawing]) -> None:
    path = write_report(tmp_path, sample_report(drawings))
    text = path.read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    assert {r[0] for r in links.refers} == {"#"}
    assert {r[1:] for r in links.refers} <= set(links.ids)
    assert not links.tags & {"script", "link", "iframe", "img"}
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(links.ids) == len(set(links.ids))
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text
    assert path.stat().st_size < 3_000_000
    assert {p.stem for p in (tmp_path / "figures").iterdir()} == {d.name for d in drawings.values()}


def test_the_failed_claim_comes_first_and_each_starts_with_its_verdict(drawings: dict[str, Drawing]) -> None:
    text = page(sample_report(drawings))
    verdicts = re.findall(r'<li class="\w+"><strong class="verdict">([A-Z ]+)</strong>', text)
    assert verdicts == ["FAILED", "HELD", "NOT TESTED"]
    assert "1 of 3 claims failed, 1 held, 1 not tested." in text
    assert text.index("FAILED") < text.index("<h2>")
    assert "&lt;between&gt;" in text
    assert "<td>&lt;none&gt;</td>" in text
    assert '<td class="number">0.533</td>' in text
    assert '<td class="number">–</td>' in text
    assert "volumes 600–1199: 1 run." in text


def test_every_number_drawn_stands_in_the_tables(tmp_path: Path, drawings: dict[str, Drawing]) -> None:
    write_report(tmp_path, sample_report(drawings))
    rows = read_table(tmp_path, "report_figures")
    assert {r["figure"] for r in rows} == {d.name for d in drawings.values()}
    assert len(read_table(tmp_path, "report_scores")) == len(synthetic_scores())
    scores = [s for s in synthetic_scores() if s["model"] == "finetuned" and s["budget"] == 50]
    by_person = [np.mean([s["value"] for s in scores if s["subject"] == p]) for p in PEOPLE]
    (mean,) = (
        r for r in rows if (r["figure"], r["panel"], r["series"], r["x"]) == ("adaptation", "mean", "fine-tuned", 50)
    )
    assert (mean["y"], mean["low"], mean["high"]) == pytest.approx(t_interval(by_person)[:3])
    gain = [r["y"] for r in rows if (r["figure"], r["panel"], r["x"]) == ("gains", "person", 400.0)]
    (label,) = (r["label"] for r in rows if (r["figure"], r["panel"], r["x"]) == ("gains", "mean", 400.0))
    assert f"p = {sign_flip_p(gain):.4g}" in label


def test_drawings_follow_the_theme_and_speak(drawings: dict[str, Drawing]) -> None:
    for drawing in drawings.values():
        svg = ElementTree.fromstring(drawing.svg)
        assert svg.attrib["role"] == "img"
        assert len(svg.attrib["aria-label"]) > 30
        assert "var(--ink)" in drawing.svg
        for light, _ in PALETTE.values():
            assert light not in drawing.svg.lower()
        # No pure black or white may be left that would vanish on one of the two themes
        assert "#000000" not in drawing.svg
        assert drawing.png.startswith(b"\x89PNG")


def contrast(a: str, b: str) -> float:
    def luminance(colour: str) -> float:
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", [n for n in PALETTE if n != "grid"])
def test_colours_can_be_read_on_both_papers(name: str) -> None:
    # WCAG 2.1 asks 4.5 for text
    assert contrast(PALETTE[name][0], "#ffffff") >= 4.5
    assert contrast(PALETTE[name][1], "#14181e") >= 4.5


def test_equal_content_gives_equal_pages(drawings: dict[str, Drawing]) -> None:
    again = synthetic_drawings()
    assert {k: d.svg for k, d in again.items()} == {k: d.svg for k, d in drawings.items()}


def test_wrong_content_is_refused(tmp_path: Path, drawings: dict[str, Drawing]) -> None:
    twice = Report(
        title="x", sections=[Section(title="s", drawings=[(drawings["gains"], ""), (drawings["gains"], "")])]
    )
    with pytest.raises(ConfigError, match="two drawings are called 'gains'"):
        write_report(tmp_path, twice)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="no scores"):
        adaptation_curve({})
    with pytest.raises(DataError, match="do not belong together"):
        traces(np.zeros((5, 2)), {"a": np.zeros((4, 2))}, titles=["a", "b"], step_s=1.0)


def test_a_persons_curve_runs_from_few_to_many() -> None:
    drawing = adaptation_curve({"a": {"p": {300.0: 0.7, 5.0: 0.4, 30.0: 0.6}, "q": {5.0: 0.3, 300.0: 0.6, 30.0: 0.5}}})
    for person in "pq":
        drawn = [(r["x"], r["y"]) for r in drawing.rows if r["panel"] == person]
        assert len(drawn) == 3
        assert drawn == sorted(drawn)


def test_a_report_without_claims_and_with_an_allowed_leak_says_so() -> None:
    text = page(Report(title="x", leak_reason="to measure it"))
    assert "No claim was stated" in text
    assert "to measure it" in text
    assert page(Report(title="x", claims=[Claim(text="t", held=True)])).count("leaks") == 0


def test_what_could_not_be_tested_for_one_reason_is_one_line():
    few = "1 person is too few to judge by."
    names = ("LoRA", "the frozen probe", "CSP")
    claims = [Claim(text=f"Ours is ahead of {n} (area).", held=None, detail=few) for n in names]
    held = Claim(text="It holds.", held=True, detail="0.7")
    other = Claim(text="Another thing is so.", held=None, detail="no data")
    assert folded([held, *claims, other]) == [
        held, Claim(text="Ours is ahead of LoRA, the frozen probe and CSP (area).", held=None, detail=few), other,
    ]  # fmt: skip
    # failed and held ones never, and sentences without a common frame stay whole
    assert folded([held, held]) == [held, held]
    (one,) = folded(
        [Claim(text="A is so.", held=None, detail=few), Claim(text="B was never so.", held=None, detail=few)]
    )
    assert one.text == "A is so. B was never so."


def test_names_at_the_ends_of_lines_lie_inside_the_axes_and_apart():
    with style():
        figure = new_figure(4.0, 3.0)
        ax = figure.subplots()
        ax.set(xlim=(-0.4, 3), ylim=(0, 1))
        ends = {n: (2.0, y, "#000000") for n, y in (("a short one", 0.01), ("of two\nlines", 0.02), ("w" * 20, 0.03))}
        figure.canvas.draw()
        room_for_ends(ax, ends, 2.0)
        label_ends(ax, ends)
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in ax.texts]
        frame = ax.get_window_extent()
    assert len(boxes) == 3
    assert all(b.x1 <= frame.x1 + 1 and b.y0 >= frame.y0 - 1 for b in boxes)
    assert all(low.y1 <= high.y0 + 1 for low, high in pairwise(sorted(boxes, key=lambda b: b.y0)))


def text_of(drawing: Drawing) -> str:
    """Letters are paths; matplotlib notes beside them what they say."""
    return " ".join(re.findall(r"<!--\s*(.*?)\s*-->", drawing.svg))


def test_one_person_is_called_so_and_one_wild_score_does_not_stretch_every_frame():
    people = {f"{k}/day2": {5: 0.5 + 0.01 * k, 30: 0.7} for k in range(8)}
    alone = adaptation_curve({"ours": {"04": {5: 0.5, 30: 0.7}}})
    assert "One person, 04" in text_of(alone)
    wild = adaptation_curve({"ours": people, "ridge": {**people, "3/day2": {5: -40.0, 30: 0.6}}})
    assert "1 of 32 scores lie outside the frames" in text_of(wild)
    assert "day2" not in text_of(wild)
    # the table has it all the same
    assert [r["y"] for r in wild.rows if r["panel"] == "3/day2" and r["x"] == 5] == [0.53, -40.0]
