"""How large the report page of many rows is, and how fast a browser shows it and follows its sliders."""

import shutil
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

import numpy as np

from encode_once.cache import DataError
from encode_once.cache.keys import KEY_BYTES
from encode_once.classify.bench.synthetic import synthetic_scores
from encode_once.classify.decisions.rule import DecisionSpec
from encode_once.classify.evaluation.evaluation import ScoredRows
from encode_once.classify.report.checks import Evidence
from encode_once.classify.report.page import page
from encode_once.classify.report.summary import summarise
from encode_once.classify.runs.record import RunRecord
from encode_once.classify.runs.run import Run
from encode_once.classify.spec import FitSpec

TUNING_ROWS = 3000
MOVES = 40  # of a slider
SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
            "--disable-sync")  # fmt: skip
MOVE = """([selector, moves]) => {
    const slider = document.querySelector(selector);
    const times = [];
    for (let i = 0; i < moves; i++) {
        slider.value = (i * 0.37) % 1;
        const start = performance.now();
        slider.dispatchEvent(new Event("input", { bubbles: true }));
        document.body.offsetHeight;  // lays the page out
        times.push(performance.now() - start);
    }
    return times;
}"""


class Figure(TypedDict):
    """A figure of the page, and the limit it should keep."""

    figure: str
    value: float
    limit: float | None


def figures(rows: int, classes: int) -> list[Figure]:
    """Figures of the page of a synthetic run, without a gallery.

    Raises:
        DataError: there is no browser.
    """
    browser = _browser()
    run = synthetic_run(rows, classes)
    started = time.perf_counter()
    summary, runs = summarise([Evidence.of(run)])
    summarised = time.perf_counter()
    text = page(summary, [evidence.evaluation for evidence in runs], [[]])
    written = time.perf_counter()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(text, encoding="utf-8")
        shown = _shown(browser, path)
        size = path.stat().st_size / 1e6
    return [
        {"figure": "summary, s", "value": summarised - started, "limit": None},
        {"figure": "page, s", "value": written - summarised, "limit": None},
        {"figure": "page, MB", "value": size, "limit": 25},
        {"figure": "first paint, s", "value": shown["paint"] / 1000, "limit": 2},
        {"figure": "sliders ready, s", "value": shown["ready"] / 1000, "limit": None},
        {"figure": "a class's slider, median ms", "value": median(shown["one"]), "limit": None},
        {"figure": "a class's slider, worst ms", "value": max(shown["one"]), "limit": 50},
        {"figure": "all classes' slider, median ms", "value": median(shown["all"]), "limit": None},
        {"figure": "all classes' slider, worst ms", "value": max(shown["all"]), "limit": None},
    ]


def synthetic_run(rows: int, classes: int) -> Run:
    """A run of these many eval rows, made of scores and labels alone."""
    parts = []
    for seed, n in enumerate((TUNING_ROWS, rows)):
        scores, labels = synthetic_scores(n, classes, seed)
        keys = np.random.default_rng(seed).integers(0, 256, (n, KEY_BYTES), np.uint8)
        parts.append(ScoredRows([*map(str, range(n))], scores, labels, keys=keys))
    validation, evaluated = parts
    names = [f"class {number}" for number in range(classes)]
    record = RunRecord({}, names, "no store", "no table", "id", " ", created="2026-01-01")
    rule = DecisionSpec("micro").fit(validation.scores, validation.labels)
    return Run(Path("synthetic"), FitSpec(), record, _no_model, validation, evaluated, validation.keys, rule)


def _no_model() -> Any:
    raise DataError("a synthetic run has no model")


def _browser() -> str:
    path = shutil.which("chromium")
    if path is None:
        raise DataError("there is no chromium to show the page: make browser installs it")
    if find_spec("playwright") is None:
        raise DataError("the browser is driven by playwright: pip install playwright")
    return path


def _shown(browser: str, path: Path) -> Mapping[str, Any]:
    """Milliseconds from the start of loading to the first paint and to working sliders, and of each move."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=browser, args=[*SWITCHES])
        shown = launched.new_page()
        shown.goto(f"file://{path}")
        shown.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        result = {
            "ready": shown.evaluate("performance.now()"),
            "paint": shown.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"),
            "one": shown.evaluate(MOVE, [".classes tbody input[type=range]", MOVES]),
            "all": shown.evaluate(MOVE, [".all", MOVES]),
        }
        launched.close()
    return result
