"""The report page in a real browser: what it shows is what scikit-learn and the command line say."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from encode_once.classify import load_run
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.heads.history import Epoch
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.gallery import GalleryRow
from encode_once.classify.report.page import page
from encode_once.classify.report.summary import summarise
from tests.browser import opened
from tests.classify.report.samples import make_run, scored
from tests.conftest import vectors_file

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
ARABIC = "قطة"
STYLES = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}


def gallery_of(run):
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(jpeg, "JPEG")
    image = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
    return [
        GalleryRow(
            row, f"{row}.jpg", HOSTILE, True, image if row % 2 else "", ["labelled a"] if row < 3 else []
        )
        for row in range(40)
    ]


def write_page(path, *runs):
    summary, evidences = summarise([*map(Evidence.of, runs)])
    evaluations = [evidence.evaluation for evidence in evidences]
    path.write_text(page(summary, evaluations, [gallery_of(run) for run in runs]), encoding="utf-8")
    return path


@pytest.fixture
def odd_run():
    """A run whose classes and captions look like markup."""
    run = make_run(decision=DecisionSpec("micro"))
    run.record = replace(run.record, classes=["a", HOSTILE, ARABIC], warnings=[HOSTILE])
    run.history = [Epoch(0, epoch, 1 / epoch, 1.2 / epoch, 0.5 + epoch / 100) for epoch in range(1, 6)]
    return run


@pytest.fixture
def report(browser, odd_run, tmp_path):
    with opened(browser, write_page(tmp_path / "report.html", odd_run)) as shown:
        yield shown


def figures(shown):
    outputs = shown.locator("output[data-figure]")
    return {output.get_attribute("data-figure"): float(output.inner_text()) for output in outputs.all()}


def oracle(run, thresholds):
    """The figures of thresholds by scikit-learn."""
    labels, predictions = run.eval.labels, run.eval.scores.astype(np.float64) >= thresholds
    values = {f"{average}_f1": f1_score(labels, predictions, average=average, zero_division=0)
              for average in ("micro", "macro", "samples")}  # fmt: skip
    values["precision"] = precision_score(labels, predictions, average="micro", zero_division=0)
    values["recall"] = recall_score(labels, predictions, average="micro", zero_division=0)
    return pytest.approx(values, abs=6e-4)


def cells(shown, column):
    return [cell.inner_text() for cell in shown.locator(f".classes tbody tr > :nth-child({column})").all()]


def set_range(locator, value):
    locator.evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )


def test_figures_follow_the_sliders_as_scikit_learn_has_them(report, odd_run):
    assert figures(report) == oracle(odd_run, odd_run.decision.thresholds)
    sliders = report.locator(".classes tbody input[type=range]")
    names = cells(report, 1)
    thresholds = odd_run.decision.thresholds.copy()
    for position, value in ((0, 0.1), (1, 0.9), (0, 0.65), (2, 0.0)):
        set_range(sliders.nth(position), value)
        thresholds[odd_run.record.classes.index(names[position])] = value
        assert figures(report) == oracle(odd_run, thresholds)
    k = odd_run.record.classes.index(names[1])
    predicted = odd_run.eval.scores[:, k] >= 0.9
    truth = odd_run.eval.labels[:, k]
    assert float(cells(report, 5)[1]) == pytest.approx(precision_score(truth, predicted), abs=6e-4)
    assert float(cells(report, 6)[1]) == pytest.approx(recall_score(truth, predicted), abs=6e-4)
    assert float(cells(report, 7)[1]) == pytest.approx(f1_score(truth, predicted), abs=6e-4)
    assert float(cells(report, 8)[1]) == pytest.approx(
        average_precision_score(truth, odd_run.eval.scores[:, k]), abs=6e-4
    )


def test_one_slider_a_button_and_a_cost_ratio_set_all_classes(report, odd_run):
    set_range(report.locator(".all"), 0.3)
    assert figures(report) == oracle(odd_run, 0.3)
    report.get_by_role("button", name="0.5", exact=True).click()
    assert figures(report) == oracle(odd_run, 0.5)
    report.get_by_label("a false positive costs").fill("3")
    report.get_by_role("button", name="Set by cost").click()
    assert figures(report) == oracle(odd_run, 0.75)
    report.get_by_role("button", name="Tuned thresholds").click()
    assert figures(report) == oracle(odd_run, odd_run.decision.thresholds)


def test_an_exact_threshold_may_be_typed_and_above_1_nothing_is_predicted(report, odd_run):
    box = report.get_by_label("exact threshold of a", exact=True)
    box.fill("2")
    box.press("Enter")
    thresholds = odd_run.decision.thresholds.copy()
    thresholds[0] = 2
    assert figures(report) == oracle(odd_run, thresholds)
    label = report.get_by_label("threshold of a", exact=True)
    assert label.get_attribute("aria-valuetext") == "never"


def test_classes_are_sorted_filtered_and_searched(report, odd_run):
    support = odd_run.eval.labels.sum(axis=0)
    assert [int(cell) for cell in cells(report, 2)] == sorted(support, reverse=True)
    header = report.locator("th", has=report.get_by_role("button", name="positives"))
    assert header.get_attribute("aria-sort") == "descending"
    report.get_by_role("button", name="positives").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert [int(cell) for cell in cells(report, 2)] == sorted(support)
    report.get_by_label("Show").select_option("rarest")
    report.get_by_label("number", exact=True).fill("1")
    assert cells(report, 1) == [odd_run.record.classes[int(support.argmin())]]
    assert report.locator(".thresholds .count").inner_text() == "1 of 3 classes"
    report.get_by_label("Show").select_option("all")
    report.get_by_label("name contains").fill(ARABIC[:2])
    assert cells(report, 1) == [ARABIC]


def test_a_class_is_chosen_by_keyboard_and_has_its_charts(report):
    button = report.locator(".classes").get_by_role("button", name=ARABIC)
    button.focus()
    button.press("Enter")
    assert report.locator(".of-class h3").inner_text() == f"Class {ARABIC}"
    titles = [chart.get_attribute("aria-label") for chart in report.locator(".of-class svg").all()]
    assert [title.split(ARABIC)[0] for title in titles] == [
        "Precision by recall of ",
        "Scores of ",
        "Reliability of ",
    ]


def test_the_gallery_is_filtered_and_the_most_confident_mistakes_come_first(report, odd_run):
    def items():
        return [int(text.split(".")[0]) for text in report.locator("figcaption b").all_inner_texts()]

    labels, scores = odd_run.eval.labels[:40], odd_run.eval.scores[:40]
    predictions = scores.astype(np.float64) >= odd_run.decision.thresholds
    wrong = labels != predictions
    errors = np.where(wrong, np.abs(labels - scores), 0).max(axis=1)
    shown = items()
    assert len(shown) == 40
    assert errors[shown].tolist() == sorted(errors, reverse=True)
    select = report.locator(".gallery .kind")
    for kind, of_kind in (
        ("wrong", wrong), ("missed", labels & ~predictions), ("extra", predictions & ~labels),
    ):  # fmt: skip
        select.select_option(kind)
        assert set(items()) == set(np.flatnonzero(of_kind.any(axis=1)).tolist())
        report.locator(".gallery .class").select_option("1")
        assert set(items()) == set(np.flatnonzero(of_kind[:, 1]).tolist())
        report.locator(".gallery .class").select_option("")
    select.select_option("right")
    assert set(items()) == set(np.flatnonzero(~wrong.any(axis=1)).tolist())
    select.select_option("any")
    report.get_by_label("doubted by the audit").check()
    assert set(items()) == {0, 1, 2}
    report.get_by_label("error at least").fill("1")
    assert items() == []
    assert report.locator(".gallery .count").inner_text() == "0 of 40 shown"


def test_names_and_captions_are_text_and_nothing_in_them_runs(report):
    assert report.title() == "run"
    assert HOSTILE in report.locator("figcaption").first.inner_text()
    assert report.locator("main img[src=x]").count() == 0
    assert report.locator(".note").first.inner_text() == HOSTILE


def test_a_script_that_came_into_the_page_by_another_way_would_not_run(browser, odd_run, tmp_path):
    shown = browser.new_page()
    shown.goto(f"file://{write_page(tmp_path / 'report.html', odd_run)}")
    title = """() => {
        const script = document.createElement("script");
        script.textContent = "document.title = 'owned'";
        document.body.append(script);
        return document.title;
    }"""
    assert shown.evaluate(title) == "run"
    shown.close()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_its_window_is_accessible_and_follows_the_colour_scheme(
    browser, odd_run, tmp_path, style, width
):
    from axe_playwright_python.sync_playwright import Axe

    other = make_run(path="other")
    other.record = replace(other.record, classes=odd_run.record.classes)
    path = write_page(tmp_path / "report.html", odd_run, other)
    with opened(browser, path, color_scheme=style, viewport={"width": width, "height": 800}) as shown:
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == STYLES[style]
        violations = Axe().run(shown).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"][:80]) for rule in violations] == []


def test_several_runs_stand_side_by_side_and_each_can_be_shown(browser, tmp_path):
    worse = scored(1)
    worse.scores[:] = 0.5 * worse.scores + 0.25 * np.random.default_rng(0).random(worse.scores.shape)
    path = write_page(tmp_path / "r.html", make_run(path="first"), make_run(evaluated=worse, path="second"))
    with opened(browser, path) as shown:
        assert shown.get_by_role("heading", name="Runs side by side").is_visible()
        assert "second − first" in shown.get_by_role("region", name="Figures of all runs").inner_text()
        assert shown.get_by_role("heading", name="first", exact=True).is_visible()
        shown.get_by_label("Run shown").select_option(label="second")
        assert shown.get_by_role("heading", name="second", exact=True).is_visible()
        assert not shown.get_by_role("heading", name="first", exact=True).is_visible()
        assert shown.locator("article:visible output[data-figure=micro_f1]").inner_text() != "–"


def test_exported_thresholds_are_taken_by_tune_which_reaches_the_same_figures(
    browser, run, tmp_path, folder, fit_once
):
    data = folder(120)
    run("extract", "--encoder", "glove-100", "--weights", vectors_file(tmp_path / "v.txt"), "--data", data)
    run("fit", "--head", "linear", "--run", "run", "--split", "tail:60", "--report")
    with opened(browser, tmp_path / "run" / "report.html") as shown:
        for position, slider in enumerate(shown.locator(".classes tbody input[type=range]").all()):
            set_range(slider, [0.05, 0.2, 0.35][position % 3])
        expected = shown.evaluate("document.querySelector('article').report.panel.thresholds.figures()")
        with shown.expect_download() as download:
            shown.get_by_role("button", name="Export thresholds.json").click()
        download.value.save_as(tmp_path / "thresholds.json")
    run("tune", "run", "--from", "thresholds.json")
    reached = json.loads(run("evaluate", "run", "--json").stdout)
    for name in ("micro_f1", "macro_f1", "samples_f1"):
        assert reached[name] == pytest.approx(expected[name], abs=1e-4)
    assert reached["decided"] == "thresholds chosen by hand"
    assert load_run("run").decision.spec.objective == "by-hand"
