"""The formats of a table hold the same figures, whatever the names are."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from encode_once import cli
from encode_once.cache.terminal import one_line
from encode_once.classify import fit
from encode_once.classify.systems.formats import COLUMNS, csv_text, latex, markdown, text
from encode_once.classify.systems.page import diagram, page

pytestmark = pytest.mark.usefixtures("fit_once")
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)


def figure(mean, **other):
    return {
        "mean": mean, "sd": 0.012, "interval": None, "best": False, "as_good": False,
        "difference": -0.1, "difference_interval": [-0.2, -0.05], "p": 0.01, "p_holm": 0.02,
        "values": [{"run": "runs/a", "fold": 0, "value": mean}], **other,
    }  # fmt: skip


def tables_of(names=("linear on a", "mlp on b"), labels=("cat", "dog"), ranks=True):
    best = figure(
        0.7, best=True, as_good=True, difference=None, difference_interval=None, p=None, p_holm=None
    )
    figures = [best, figure(0.6), figure(0.65, as_good=True, sd=None, interval=[0.6, 0.7])]
    systems = [
        {
            "system": name,
            "runs": [f"runs/{number}"],
            "metrics": {"macro_f1": figures[number % 3], "mAP": None},
            "per_class": [
                {"label": label, "f1": 0.5 + number / 10, "sd": None, "support": 3} for label in labels
            ],
            "seconds": 1.25,
        }
        for number, name in enumerate(names)
    ]
    table = {
        "data": "/home/a/data/train.csv", "rows": 100, "sets": 5, "test": "a test", "caveats": ["beware"],
        "systems": systems,
    }  # fmt: skip
    of_ranks = {
        "metric": "macro_f1", "blocks": 5, "of": "data sets",
        "mean_ranks": {name: 1 + number for number, name in enumerate(names)}, "friedman_p": 0.5,
        "critical_difference": 1.5, "cliques": [list(names)], "wilcoxon_holm": [(names[0], names[-1], 0.01)],
    }  # fmt: skip
    return {
        "metrics": ["macro_f1", "mAP"],
        "tables": [table],
        "ranks": of_ranks if ranks and len(names) > 1 else None,
        "notes": ["a note"],
    }


def latex_rows(content):
    """The cells of each row of the tabulars, as text; raises if braces, columns or rules do not fit."""
    rows = []
    for columns, body in re.findall(
        r"\\begin\{tabular\}\{(l?r*)\}\n(.*?)\\end\{tabular\}", content, re.DOTALL
    ):
        lines = [line for line in body.splitlines() if line]
        assert [line for line in lines if not re.search(r"\\\\( %.*)?$", line)] == [
            r"\toprule", r"\midrule", r"\bottomrule"
        ]  # fmt: skip
        for line in lines:
            if line.startswith((r"\toprule", r"\midrule", r"\bottomrule")):
                continue
            line = re.sub(r" \\\\( %.*)?$", "", line)
            cells = re.split(r"(?<!\\) & ", line)
            assert len(cells) == len(columns)
            rows.append([plain(cell) for cell in cells])
    return rows


def plain(cell):
    """The text of a LaTeX cell."""
    words = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textless": "<",
             "textgreater": ">", "textbar": "|", "ldots": "…"}  # fmt: skip
    result, depth = "", 0
    for token in re.findall(
        r"\\[a-zA-Z]+(?:\{\})?|\\.|.", cell.replace(r"$\pm$", "±").replace(r"$^\dagger$", "†")
    ):
        if token == r"\textbf":
            continue
        if token.startswith("\\") and token[1].isalpha():
            assert token.endswith("{}"), token
            result += words[token[1:-2]]
        elif token.startswith("\\"):
            assert token[1] in "&%$#_{}", token
            result += token[1]
        elif token in "{}":
            depth += 1 if token == "{" else -1
            assert depth >= 0
        else:
            assert token not in "&%$#_^~<>|\\", cell
            result += token
    assert depth == 0, cell
    return result


@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True), st.lists(NAMES, min_size=1, max_size=3, unique=True)
)
def test_latex_holds_any_name(names, labels):
    rows = latex_rows(latex(tables_of(names, labels), per_class=True))
    systems, classes = rows[: 1 + len(names)], rows[1 + len(names) :]
    assert systems[0] == ["System", "macro_f1", "mAP"]
    assert [row[0] for row in systems[1:]] == [one_line(name) for name in names]
    assert classes[0] == ["Class", "Positives", *map(one_line, names)]
    assert [row[0] for row in classes[1:]] == [one_line(label) for label in labels]
    assert systems[1][1] == "0.700 ± 0.012"


def test_a_name_that_would_end_a_comment_or_a_row_does_not():
    content = latex(tables_of(["[x] a", "*b"], ["*", "[1]"]), per_class=True)
    assert not re.search(r"\\\\[^\n%]*\n\s*[\[*]", content)
    tables = tables_of(["a\n\\end{tabular}", "b"])
    tables["tables"][0]["systems"][0]["runs"] = ["runs/a\nb"]
    assert latex_rows(latex(tables))[1][0] == one_line("a\n\\end{tabular}")


def test_marks_and_intervals():
    tables = tables_of(["a", "b", "c"])
    assert r"a & \textbf{0.700} $\pm$ 0.012 & -- \\ % runs/0" in latex(tables)
    assert r"c & 0.650 (0.600 \ldots{} 0.700)$^\dagger$ & --" in latex(tables)
    assert "| 1 | a | **0.700** ± 0.012 | – | 1 | 1.2 |" in markdown(tables)
    assert "| 3 | c | 0.650 (0.600 … 0.700) † | – |" in markdown(tables)
    lines = text(tables).splitlines()
    assert "0.700 ± 0.012 *" in lines[1]
    assert "caveat: beware" in lines
    assert "3: runs/2" in lines
    assert "data/train.csv: 5 sets of 100 rows; mean ± standard deviation over seeds and eval sets" in lines
    assert "mean ranks by macro_f1 in 5 data sets: a 1.00, b 2.00, c 3.00" in lines
    assert "different by Wilcoxon's test with Holm's correction: a and c (p = 0.01)" in lines
    alone = text(tables_of(["a"]))
    assert "*" not in alone
    assert "tested by" not in alone


@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True), st.lists(NAMES, min_size=1, max_size=3, unique=True)
)
def test_csv_holds_any_name_and_full_numbers(names, labels):
    rows = [*csv.DictReader(io.StringIO(csv_text(tables_of(names, labels), per_class=True), newline=""))]
    assert [*rows[0]] == list(COLUMNS)
    averages = [row for row in rows if row["metric"] != "f1"]
    assert [row["system"] for row in averages] == [*map(one_line, names)]
    assert (averages[0]["mean"], averages[0]["best"], averages[0]["p"]) == ("0.7", "1", "")
    of_classes = [(row["system"], row["class"]) for row in rows if row["metric"] == "f1"]
    assert of_classes == [(one_line(name), one_line(label)) for name in names for label in labels]


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_markdown_has_equal_columns(names):
    lines = [line for line in markdown(tables_of(names, names), True).splitlines() if line.startswith("|")]
    of_systems = [len(re.findall(r"(?<!\\)\|", line)) for line in lines[: 2 + len(names)]]
    assert set(of_systems) == {7}


class Texts(HTMLParser):
    """The texts and links of a page."""

    def __init__(self):
        super().__init__()
        self.texts, self.links, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [dict(attrs)["href"]] if tag == "a" else []

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_a_page_shows_names_as_text_and_leads_to_the_runs(tmp_path):
    tables = tables_of(["<script>alert(1)</script>", "b & c"], ["<img src=x>", "dog"])
    tables["tables"][0]["systems"][1]["runs"] = [str(tmp_path / "runs" / "b %")]
    content = page(tables, tmp_path / "table.html")
    parsed = Texts()
    parsed.feed(content)
    assert {"<script>alert(1)</script>", "b & c", "<img src=x>", "a note", "caveat: beware"} <= {
        *parsed.texts
    }
    assert "img" not in parsed.tags
    assert parsed.links[1] == "runs/b%20%25/README.md"
    assert "from the best -0.1000 (-0.2000 … -0.0500); p = 0.01, corrected 0.02" in content
    assert "svg" in parsed.tags
    assert "<svg" not in page(tables_of(ranks=False), tmp_path / "table.html")


def test_the_diagram_of_ranks_joins_what_does_not_differ():
    ranks = tables_of(["a", "b", "c"])["ranks"] | {"cliques": [["a", "b"]]}
    drawn = diagram(ranks)
    (bar,) = drawn["bars"]
    places = {name[-1]: x for name, x, _, _ in drawn["systems"]}
    assert {name: ends for name, _, _, ends in drawn["systems"]} == {
        "1.00 a": False,
        "2.00 b": False,
        "3.00 c": True,
    }
    assert bar[:2] == (places["a"], places["b"])
    assert places["a"] < places["b"] < places["c"]
    assert [x for x, _ in drawn["ticks"]] == [places["a"], places["b"], places["c"]]


def test_the_command_prints_one_format_and_writes_the_page(filled, tmp_path, monkeypatch):
    store = filled()
    monkeypatch.chdir(tmp_path)
    for head in ("linear", "knn"):
        fit(store, head, run=f"runs/{head}", split="tail:100", validation="tenth")

    def run(*words, status=0):
        result = CliRunner().invoke(cli.main, ["compare", *words])
        assert result.exit_code == status, result.output
        return result

    tables = json.loads(run("runs", "--json", "--html", "table.html").stdout)
    assert [len(table["systems"]) for table in tables["tables"]] == [2]
    assert tables["metrics"][0] == "macro_f1"
    links = Texts()
    links.feed(Path("table.html").read_text())
    assert all(Path(link).exists() for link in links.links)
    assert len(links.links) == 2
    assert latex_rows(run("runs", "--latex", "--per-class").stdout)
    assert run("runs/linear", "runs/knn", "--md").stdout.startswith("|  | system | macro_f1 |")
    assert run("runs", "--csv", "--metric", "mAP").stdout.count(",mAP,") == 2
    first = tables["tables"][0]["systems"][0]["runs"][0]
    assert f"evaluate {first} runs/" in run("runs").stderr
    assert (
        "--latex and --md: print the table in one format" in run("runs", "--latex", "--md", status=2).stderr
    )
    assert "did you mean 'mAP'" in run("runs", "--metric", "map", status=2).stderr
