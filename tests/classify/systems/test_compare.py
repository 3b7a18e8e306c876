"""The comparison from Python: the frame, what a notebook shows, and the picture."""

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from encode_once.cache import UsageError
from encode_once.classify import compare, fit
from encode_once.classify.systems.compare import SystemComparison
from encode_once.classify.systems.comparison import compare_systems, metrics_named
from encode_once.classify.systems.formats import text
from encode_once.classify.systems.picture import MARGIN, WIDTH, picture
from tests.classify.systems.test_formats import tables_of

pytestmark = pytest.mark.usefixtures("fit_once")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def runs(filled, tmp_path):
    settings = {"split": "tail:100", "validation": "tenth", "decision": "macro"}
    return [
        fit(filled(), "linear", features=features, run=tmp_path / name, **settings)[0]
        for name, features in (("both", ["e/image", "e/text"]), ("text", ["e/text"]))
    ]


def test_runs_and_their_folders_are_compared_as_by_the_command(runs, tmp_path):
    metrics = metrics_named(())
    expected = compare_systems(runs, metrics)
    for chosen in (runs, [run.path for run in runs], [tmp_path], [tmp_path, runs[0]], tmp_path):
        table = compare(chosen)
        assert sorted(row["system"] for row in table.tables["tables"][0]["systems"]) == sorted(
            row["system"] for row in expected["tables"][0]["systems"]
        )
    table = compare(runs)
    assert table.tables == expected
    assert repr(table) == text(expected)
    frame = table.frame()
    assert frame.index.names == ["data", "system"]
    for (_, system), row in zip(frame.index, expected["tables"][0]["systems"], strict=True):
        assert system == row["system"]
        for metric in metrics:
            shown, figures = row["metrics"][metric], frame[metric].loc[:, system, :].iloc[0]
            assert figures["mean"] == shown["mean"]
            assert [figures["low"], figures["high"]] == shown["interval"]
            assert (figures["best"], figures["as_good"]) == (shown["best"], shown["as_good"])
            assert figures["p_holm"] == shown["p_holm"] or (
                shown["p_holm"] is None and np.isnan(figures["p_holm"])
            )
    assert frame["macro_f1"]["sd"].dtype == float
    per_class = table.frame(per_class=True)
    for (_, system), of_system in per_class.iterrows():
        row = next(row for row in expected["tables"][0]["systems"] if row["system"] == system)
        assert of_system.to_dict() == {of_class["label"]: of_class["f1"] for of_class in row["per_class"]}


def test_metrics_are_chosen(runs):
    table = compare(runs, "mAP")
    assert table.tables["metrics"] == ["mAP"]
    assert "mAP of each system" in table.plot().svg
    with pytest.raises(UsageError, match="unknown metric of the table 'micro_f1'"):
        table.plot("micro_f1")
    with pytest.raises(UsageError, match="unknown metric 'mAp': did you mean 'mAP'"):
        compare(runs, "mAp")


def test_a_picture_shows_each_figure_at_its_place(tmp_path):
    tables = tables_of(("linear on a", "mlp on b", "knn on <c>", "forest"))
    shown = picture(tables, "macro_f1")
    root = ET.fromstring(shown.svg)
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert "data/train.csv: macro_f1; bars: standard deviation" in texts
    assert {"0.700  linear on a", "0.600  mlp on b", "0.650 †  knn on <c>"} <= {*texts}
    ticks = [
        (float(e.text), float(e.get("x"))) for e in root.iter(f"{SVG}text") if re.match(r"[\d.]+$", e.text)
    ]
    slope, start = np.polyfit(*np.array(ticks).T, 1)
    points = [float(circle.get("cx")) for circle in root.iter(f"{SVG}circle")]
    np.testing.assert_allclose(points, start + slope * np.array([0.7, 0.6, 0.65, 0.7]), atol=0.1)
    bars = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "3"]
    ends = np.array([[float(bar.get(end)) for end in ("x1", "x2")] for bar in bars])
    expected = [[0.688, 0.712], [0.588, 0.612], [0.6, 0.7], [0.688, 0.712]]
    np.testing.assert_allclose(ends, start + slope * np.array(expected), atol=0.1)
    assert ends.min() >= MARGIN - 0.1
    assert ends.max() <= WIDTH - MARGIN + 0.1
    shown.save(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_text() == shown._repr_svg_()


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_picture_of_equal_figures_has_an_axis(value):
    tables = tables_of(("a",), ranks=False)
    tables["tables"][0]["systems"][0]["metrics"]["macro_f1"] |= {"mean": value, "sd": None}
    root = ET.fromstring(picture(tables, "macro_f1").svg)
    (point,) = root.iter(f"{SVG}circle")
    assert MARGIN <= float(point.get("cx")) <= WIDTH - MARGIN


def test_names_of_others_are_text():
    name = "<script>alert(1)</script>&\n\x1b[2J\x00"
    table = SystemComparison(tables_of((name, "b")), [f"left out: {name}"])
    ET.fromstring(table.plot().svg)  # which a control character or an open tag would break
    for shown in (table.plot().svg, table._repr_html_()):
        assert "<script" not in shown
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;" in shown
    assert "\x1b" not in repr(table) + table.plot().svg
