"""The page of findings in a real browser: decisions, their export, what is expected, and hostile names."""

import csv
import io
import random
import re

import numpy as np
import pytest
from PIL import Image
from scipy.optimize import minimize_scalar

from encode_once.cache import DataError, Store, Table
from encode_once.cache.keys import pack
from encode_once.classify import fit
from encode_once.classify.audit.findings import Finding, TableRow, expectation, expected_errors
from encode_once.classify.audit.page import Decision, corrections_files, page
from encode_once.classify.runs.own_table import own_table
from tests.browser import opened
from tests.classify.report.samples import make_run
from tests.conftest import WORDS, vectors_file

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]
HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
ARABIC, COMMA = "قطة", 'a,"b"\n'
ROWS = [(), ("cat", HOSTILE), (HOSTILE, ARABIC), (COMMA,), ("cat",), ("cat", ARABIC)]
IDS = ["0.jpg", HOSTILE, ARABIC, COMMA, "4.jpg", "5.jpg"]
STYLES = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 28)"}


def table_of(source="/data/train.csv", split="train"):
    images = [f"/data/{row}.jpg" if row != 3 else "" for row in range(len(IDS))]
    keys = pack(bytes([row + 1]) * 16 for row in range(len(IDS)))
    captions = [HOSTILE] * len(IDS)
    return Table(source, IDS, images, captions, ROWS, image_keys=keys, caption_keys=keys, split=split)


def doubt(row, label, missing, score, table=None):
    states = ("absent", "present") if missing else ("present", "absent")
    return Finding("label", score, (label,), *states, f"why {label}", TableRow(table or TABLE, row, "train"))


TABLE = table_of()
MISSING, WRONG = doubt(0, HOSTILE, True, 0.9), doubt(1, "cat", False, 0.8)
DUPLICATE = Finding(
    "duplicate", 1, ("cat", ARABIC), "", "", HOSTILE, TableRow(TABLE, 1, "train"), TableRow(TABLE, 2, "train")
)
LEAK = Finding(
    "leak",
    1,
    (),
    "",
    "",
    "a leak",
    TableRow(table_of("/other/train.csv"), 4, "train"),
    TableRow(TABLE, 4, "train"),
)
RARE = Finding("rare", 0.5, (ARABIC,), "3", "25", "3 of 9 rows")
FINDINGS = [LEAK, DUPLICATE, MISSING, WRONG, doubt(3, "cat", True, 0.7), RARE]


def thumbnail(source, key):
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(jpeg, "JPEG")
    return None if source == "/data/4.jpg" else jpeg.getvalue()


def write_page(path, findings=FINDINGS, **options):
    text, warnings = page(make_run(), findings, thumbnail, **options)
    path.write_text(text, encoding="utf-8")
    return warnings


@pytest.fixture
def shown(browser, tmp_path):
    write_page(tmp_path / "audit.html", notes=[HOSTILE])
    with opened(browser, tmp_path / "audit.html") as page_shown:
        yield page_shown


def article(shown, title):
    return shown.locator("article", has=shown.get_by_role("heading", name=re.compile(rf"^{title}\b")))


def choose(shown, title, name):
    article(shown, title).get_by_label(name).check()


def exported(shown):
    with shown.expect_download() as download:
        shown.get_by_role("button", name="Export corrections.csv").click()
    assert download.value.suggested_filename == "corrections.csv"
    with open(download.value.path(), newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["split", "id", "label", "decision"]
    assert len({tuple(line[:3]) for line in lines}) == len(lines)
    return {tuple(line) for line in lines}


def titles(shown):
    return [heading.partition(":")[0] for heading in shown.locator("article h3").all_inner_texts()]


def test_decisions_are_exported_with_names_as_they_are(shown):
    assert exported(shown) == set()
    choose(shown, "Label 1", "Add")
    choose(shown, "Label 2", "Keep as it is")
    choose(shown, "Label 3", "Add cat")
    assert shown.locator(".summary").inner_text() == "3 decided, 2 to change"
    decided = {
        ("train", "0.jpg", HOSTILE, "add"),
        ("train", HOSTILE, "cat", "keep"),
        ("train", COMMA, "cat", "add"),
    }
    assert exported(shown) == decided
    choose(shown, "Label 1", "Undecided")
    assert exported(shown) == {line for line in decided if line[1] != "0.jpg"}


def test_a_row_takes_the_labels_of_its_duplicate_or_the_other_way(shown):
    names = article(shown, "Duplicate 1").locator("label span").all_inner_texts()
    assert names[:2] == [f"First: remove cat, add {ARABIC}", f"Second: add cat, remove {ARABIC}"]
    choose(shown, "Duplicate 1", "First:")
    assert exported(shown) == {("train", HOSTILE, "cat", "remove"), ("train", HOSTILE, ARABIC, "add")}
    assert article(shown, "Label 2").get_by_label("Remove cat").is_checked()  # the same label of the same row
    choose(shown, "Label 2", "Keep as it is")
    assert article(shown, "Duplicate 1").get_by_label("Undecided").is_checked()
    choose(shown, "Duplicate 1", "Second:")
    assert {("train", ARABIC, "cat", "add"), ("train", ARABIC, ARABIC, "remove")} <= exported(shown)
    choose(shown, "Duplicate 1", "Keep both")
    assert exported(shown) == {("train", HOSTILE, "cat", "keep"), ("train", HOSTILE, ARABIC, "keep")}


def test_leaks_and_rare_classes_are_only_shown(shown):
    assert titles(shown) == ["Duplicate 1", "Label 1", "Label 2", "Label 3"]
    shown.get_by_label("Kind").select_option("all")
    assert titles(shown) == ["Leak 1", "Duplicate 1", "Label 1", "Label 2", "Label 3", "Rare class 1"]
    for title in ("Leak 1", "Rare class 1"):
        assert article(shown, title).locator("input").count() == 0
    assert article(shown, "Leak 1").locator("figure").count() == 2
    assert article(shown, "Leak 1").locator("img").count() == 0
    assert (
        article(shown, "Leak 1").locator(".no-image").all_inner_texts() == ["the image cannot be shown"] * 2
    )
    assert article(shown, "Label 3").locator(".no-image").inner_text() == "no image"


def test_findings_are_filtered_by_kind_class_and_decision(shown):
    for kind, expected in {
        "missing": ["Label 1", "Label 3"],
        "wrong": ["Label 2"],
        "duplicate": ["Duplicate 1"],
        "leak": ["Leak 1"],
        "rare": ["Rare class 1"],
    }.items():
        shown.get_by_label("Kind").select_option(kind)
        assert titles(shown) == expected
        assert shown.locator(".count").inner_text() == f"{len(expected)} of 6 findings"
    shown.get_by_label("Kind").select_option("all")
    shown.locator("select.class").select_option(ARABIC)
    assert titles(shown) == ["Duplicate 1", "Rare class 1"]
    shown.locator("select.class").select_option("")
    choose(shown, "Label 2", "Remove cat")
    shown.get_by_label("undecided only").check()
    assert titles(shown) == ["Duplicate 1", "Label 1", "Label 3"]


def test_keys_decide_and_go_on(shown):
    article(shown, "Duplicate 1").get_by_label("Undecided").focus()
    for key in "3j1":  # keep both, and go on; next; remove, and go on
        shown.keyboard.press(key)
    keep = ("train", HOSTILE, ARABIC, "keep")
    assert exported(shown) == {keep, ("train", HOSTILE, "cat", "remove")}
    article(shown, "Label 3").get_by_label("Undecided").focus()
    for key in "k0kk1":  # previous; undecided; the first; its first option
        shown.keyboard.press(key)
    assert exported(shown) == {("train", HOSTILE, "cat", "remove"), ("train", HOSTILE, ARABIC, "add")}


def test_decisions_stay_when_the_page_is_loaded_again_and_earlier_ones_are_exported_too(browser, tmp_path):
    earlier = [Decision("train", "5,a.jpg", '"cat"', "remove"), Decision("train", HOSTILE, "cat", "keep")]
    write_page(tmp_path / "audit.html", decided=earlier)
    with opened(browser, tmp_path / "audit.html") as shown:
        assert article(shown, "Label 2").get_by_label("Keep as it is").is_checked()
        choose(shown, "Label 1", "Add")
        expected = {*map(tuple, earlier), ("train", "0.jpg", HOSTILE, "add")}
        assert exported(shown) == expected
        shown.reload()
        shown.wait_for_selector("html[data-ready=yes]")
        assert exported(shown) == expected
        assert "This browser keeps your decisions" in shown.locator(".work").inner_text()
        row = shown.locator("details tbody tr").nth(1)  # an earlier decision does not count
        assert row.locator("td").all_text_contents() == ["1", "0", "0", "0.0", "1"]


def test_a_browser_that_keeps_nothing_says_so(browser, tmp_path):
    write_page(tmp_path / "audit.html")
    context = browser.new_context(offline=True)
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('denied'); } })"
    )
    shown = context.new_page()
    shown.goto(f"file://{tmp_path / 'audit.html'}")
    shown.wait_for_selector("html[data-ready=yes]")
    assert "does not keep your decisions" in shown.locator(".work").inner_text()
    choose(shown, "Label 1", "Add")
    assert len(exported(shown)) == 1
    context.close()


def test_of_many_findings_some_are_shown_at_a_time_and_images_are_limited(browser, tmp_path):
    many = [doubt(row % 6, f"label {row}", True, 0.5) for row in range(120)]
    (warning,) = write_page(tmp_path / "audit.html", [LEAK, *many], limit=2)
    assert warning == "4 of 6 images are not in the page: --thumbnails N shows more"
    with opened(browser, tmp_path / "audit.html") as shown:
        assert shown.locator(".note").all_inner_texts() == [warning]
        assert len(titles(shown)) == 50
        assert shown.evaluate("work.rows.filter((row) => row.image).length") == 2
        assert {text.partition(" (")[0] for text in shown.locator(".no-image").all_inner_texts()} == {
            "no image",
            "beyond the limit of images",
        }
        article(shown, "Label 50").get_by_label("Undecided").focus()
        shown.keyboard.press("j")
        assert len(titles(shown)) == 100
        assert (
            article(shown, "Label 51").get_by_label("Undecided").evaluate("e => e === document.activeElement")
        )
        shown.get_by_role("button", name="Show more").click()
        assert titles(shown)[-1] == "Label 120"
        assert not shown.get_by_role("button", name="Show more").is_visible()


def test_names_and_captions_are_text_and_nothing_in_them_runs(shown):
    assert shown.title() == "Audit of run"
    assert shown.locator(".note").first.inner_text() == HOSTILE
    text = article(shown, "Duplicate 1").inner_text()
    assert text.count(HOSTILE) >= 5  # ids, captions, a label and the reason
    assert shown.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", [400, 1200])
def test_the_page_fits_its_window_is_accessible_and_follows_the_colour_scheme(
    browser, tmp_path, style, width
):
    from axe_playwright_python.sync_playwright import Axe

    write_page(tmp_path / "audit.html", notes=[HOSTILE])
    options = {"color_scheme": style, "viewport": {"width": width, "height": 800}}
    with opened(browser, tmp_path / "audit.html", **options) as shown:
        shown.get_by_label("Kind").select_option("all")
        shown.locator("summary").click()
        choose(shown, "Label 1", "Add")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate("getComputedStyle(document.body).backgroundColor") == STYLES[style]
        violations = Axe().run(shown).response["violations"]
        assert [(rule["id"], rule["nodes"][0]["html"][:80]) for rule in violations] == []
        shown.emulate_media(media="print")
        assert not shown.get_by_role("button", name="Export corrections.csv").is_visible()
        assert article(shown, "Label 1").is_visible()


def test_a_file_that_a_store_names_as_corrections_is_read_only_with_its_recorded_content(filled, tmp_path):
    store = filled()
    run, _ = fit(store, "linear", run=tmp_path / "run")
    assert corrections_files(store, own_table(run, store).table) == []
    secret = tmp_path / "secret.csv"
    secret.write_text("split,id,label,decision\ntrain,password,1234,keep\n")
    table = store.table()
    table.corrections, table.more_sources = str(secret), [str(secret)]
    store.save(table, [])
    assert corrections_files(store, own_table(run, store).table) == []
    store.save(table)
    assert corrections_files(store, own_table(run, store).table) == [str(secret)]
    secret.write_text("split,id,label,decision\ntrain,password,5678,keep\n")
    with pytest.raises(DataError, match="changed since"):
        corrections_files(store, own_table(run, store).table)


# ------------------------------------------------------------------------------------------ where to stop


def log_odds(score):
    score = np.clip(score, 0.001, 0.999)
    return np.log(score / (1 - score))


def shifts(items):
    """Log odds are shifted by what maximises the likelihood of this audit's decisions, times the prior's."""
    result = {}
    for kind in (True, False):
        decided = [i for i in items if i["missing"] == kind and i["error"] is not None and not i["earlier"]]
        odds = log_odds(np.array([item["score"] for item in decided]))
        signs = np.array([1 if item["error"] else -1 for item in decided])

        def loss(shift, odds=odds, signs=signs):
            return np.log1p(np.exp(-signs * (odds + shift))).sum() + shift**2 / 8

        result[kind] = minimize_scalar(loss, bounds=(-20, 20), options={"xatol": 1e-9}).x
    return result


def chances(items):
    of = shifts(items)
    return [
        1 / (1 + np.exp(-log_odds(item["score"]) - of[item["missing"]]))
        if item["error"] is None
        else float(item["error"])
        for item in items
    ]


def last_worthwhile(items):
    """Brute force: try every place to stop, from the first on, and look at all that comes after."""
    open_items = [(i + 1, p) for i, p in enumerate(chances(items)) if items[i]["error"] is None]
    for stop in [0, *(number for number, _ in open_items)]:
        after = [p for number, p in open_items if number > stop]
        windows = [after[i : i + 10] for i in range(len(after))]
        if all(np.mean(window) < 0.1 for window in windows):
            return stop
    raise AssertionError


def test_expectations_are_those_of_brute_force(shown):
    rng = random.Random(0)
    stops = set()
    for trial in range(150):
        quality = {True: rng.random(), False: rng.random() * rng.random()}
        items = [
            {"score": rng.random() ** rng.choice([0.1, 1, 6]), "missing": rng.random() < 0.5, "error": None}
            for _ in range(rng.randrange(60))
        ]
        items.sort(key=lambda item: -item["score"])
        for item in items[: rng.randrange(60)]:
            if rng.random() < 0.8:
                item["error"] = rng.random() < quality[item["missing"]] * (trial % 3 > 0)
        for item in items:
            item["earlier"] = item["error"] is False and rng.random() < 0.1
        expected = shown.evaluate("items => probabilities(items)", items)
        assert expected == pytest.approx(chances(items), abs=1e-5)
        stops.add(shown.evaluate("items => lastWorthwhile(items)", items))
        assert shown.evaluate("items => lastWorthwhile(items)", items) == last_worthwhile(items)
    assert len(stops) > 20


def test_the_summary_follows_the_decisions(browser, tmp_path):
    findings = [doubt(row % 6, f"{row}", row % 2 == 0, 0.9 - row / 1000) for row in range(40)]
    assert expected_errors(findings, 7) == pytest.approx(sum(0.9 - row / 1000 for row in range(7)))
    assert expectation(findings).startswith("of the first 40 doubtful labels, the scores predict 35 errors")
    assert expectation([LEAK, RARE]) == ""
    write_page(tmp_path / "audit.html", findings)
    with opened(browser, tmp_path / "audit.html") as shown:
        scores = [finding.score for finding in findings]
        assert float(shown.locator(".expected").inner_text()) == pytest.approx(sum(scores), abs=0.05)
        assert "Go on to the last of the 40" in shown.locator(".answer").inner_text()
        for number in range(1, 31):
            choose(shown, f"Label {number}", "Add" if number % 2 else "Keep as it is")
        items = [
            {
                "score": score,
                "missing": row % 2 == 0,
                "error": row % 2 == 0 if row < 30 else None,
                "earlier": 0,
            }
            for row, score in enumerate(scores)
        ]
        assert float(shown.locator(".expected").inner_text()) == pytest.approx(sum(chances(items)), abs=0.05)
        shown.get_by_label("errors expected among the first").fill("31")
        assert float(shown.locator(".expected").inner_text()) == pytest.approx(
            sum(chances(items)[:31]), abs=0.05
        )
        assert float(shown.locator(".by-scores").inner_text()) == pytest.approx(sum(scores[:31]), abs=0.05)
        assert shown.locator(".decided").inner_text() == "30"
        cells = [row.locator("td").all_text_contents() for row in shown.locator("details tbody tr").all()]
        promised = sum(scores[1:30:2])
        factor = float(f"{np.exp(shifts(items)[False]):.2g}")
        assert cells[1] == ["20", "15", "0", f"{promised:.1f}", str(factor)]


# --------------------------------------------------------------------------------------------- all the way


def test_decided_labels_are_corrected_and_not_found_again(browser, run, tmp_path, folder):
    data = folder(150)
    lines = (data / "train.csv").read_text().splitlines()
    planted = {}
    for row in (20, 60, 90):
        labels = lines[row + 1].split(",")[1].split()
        planted[f"{row}.png"] = next(word for word in WORDS if word not in labels)
        lines[row + 1] = lines[row + 1].replace(
            " ".join(labels), " ".join([*labels, planted[f"{row}.png"]]), 1
        )
    (data / "train.csv").write_text("\n".join(lines) + "\n")
    source = (data / "train.csv").read_bytes()
    run("extract", "--encoder", "glove-100", "--weights", vectors_file(tmp_path / "v.txt"), "--data", data)
    run("fit", "--head", "linear", "--split", "kfold:3", "--run", "first")
    printed = run("audit", "first", "-o", "audit.html").stderr
    assert "next: encode-once extract --corrections corrections.csv" in printed
    assert re.search(r"of the first \d+ doubtful labels, the scores predict \d+ errors", printed)

    def finding_of(path):
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["kind"] == "label"]
        return {(row["id"], row["label"]) for row in rows if row["given"] == "present"}

    assert {*planted.items()} <= finding_of(tmp_path / "audit.csv")
    with opened(browser, tmp_path / "audit.html") as shown:
        for name, label in planted.items():
            shown.locator("article", has_text=f"train {name}").get_by_label(f"Remove {label}").check()
        decided = exported(shown)
        with shown.expect_download() as download:
            shown.get_by_role("button", name="Export corrections.csv").click()
        download.value.save_as(tmp_path / "corrections.csv")
    assert decided == {("train", name, label, "remove") for name, label in planted.items()}
    assert (
        "labels added 0, removed 3, already so 0" in run("extract", "--corrections", "corrections.csv").stderr
    )
    assert (data / "train.csv").read_bytes() == source
    table = Store("store").table()
    assert not any(
        planted.get(row_id) in labels for row_id, labels in zip(table.ids, table.labels, strict=True)
    )
    run("audit", "first", status=1)
    run("fit", "--head", "linear", "--split", "kfold:3", "--run", "second")
    run("audit", "second", "-o", "second.html")
    assert not {*planted.items()} & finding_of(tmp_path / "second.csv")
    with opened(browser, tmp_path / "second.html") as shown:
        assert exported(shown) == decided
    (tmp_path / "corrections.csv").unlink()
    printed = run("audit", "second", "-o", "second.html").stderr
    assert "the page does not have the decisions of an earlier audit" in printed
