"""The tables of systems as text, Markdown, LaTeX and CSV, with the same cells and marks."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from encode_once.cache.terminal import one_line
from encode_once.cache.text_table import interval_text, markdown_text, table_text
from encode_once.classify.evaluation.metrics import MetricName
from encode_once.classify.systems.comparison import (
    EVAL_SETS,
    DataTable,
    Ranks,
    SystemFigure,
    SystemTables,
    data_name,
)

LEGEND = "bold: the best; †: not significantly different from it (p ≥ 0.05)"
TEXT_LEGEND = "*: the best; †: not significantly different from it (p ≥ 0.05)"
LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    | {character: f"{{{character}}}" for character in "[]*"}  # which `\\` in front would take for its own
)


class Cell(NamedTuple):
    """A figure as tables show it: the mean, what follows it, and how it is marked."""

    mean: str
    rest: str = ""  # the deviation, or the interval
    best: bool = False
    as_good: bool = False  # not the best, and not significantly different from it


def cell(figure: SystemFigure | None, alone: bool) -> Cell:
    """The cell of a figure; alone: whether there is no other system to be better than."""
    if figure is None:
        return Cell("–")
    rest = f"± {figure['sd']:.3f}" if figure["sd"] is not None else ""
    if not rest and figure["interval"]:
        rest = f"({interval_text(figure['interval'])})"
    best = figure["best"] and not alone
    return Cell(f"{figure['mean']:.3f}", rest, best, figure["as_good"] and not best and not alone)


def rows_of(table: DataTable, metrics: Sequence[MetricName]) -> list[list[Cell]]:
    """The cells of each system."""
    alone = len(table["systems"]) == 1
    return [[cell(row["metrics"][metric], alone) for metric in metrics] for row in table["systems"]]


def class_rows(table: DataTable) -> Iterator[tuple[str, int, list[Cell]]]:
    """Each class with its support and the cell of each system."""
    columns = [row["per_class"] for row in table["systems"]]
    for of_class in zip(*columns, strict=True):
        highest = max(f"{figure['f1']:.3f}" for figure in of_class)
        cells = [
            Cell(
                f"{figure['f1']:.3f}",
                "" if figure["sd"] is None else f"± {figure['sd']:.3f}",
                len(of_class) > 1 and f"{figure['f1']:.3f}" == highest,
            )
            for figure in of_class
        ]
        yield of_class[0]["label"], of_class[0]["support"], cells


def about(table: DataTable) -> list[str]:
    """What a table was measured on, how differences were tested, and why it may not be fair."""
    rows, sets = table["rows"], table["sets"]
    measured = f"{sets} sets of {rows} rows" if sets > 1 else f"{rows} eval rows"
    parts = "95 % intervals in brackets"
    if sets > 1 or any(len(row["runs"]) > 1 for row in table["systems"]):
        parts = "mean ± standard deviation over seeds and eval sets"
    lines = [f"{data_name(table)}: {measured}; {parts}"]
    lines += [f"tested by {table['test']}"] if len(table["systems"]) > 1 else []
    return [*lines, *(f"caveat: {caveat}" for caveat in table["caveats"])]


def ranks_text(ranks: Ranks) -> list[str]:
    """Mean ranks and their tests in lines."""
    mean_ranks = ", ".join(f"{name} {rank:.2f}" for name, rank in ranks["mean_ranks"].items())
    lines = [f"mean ranks by {ranks['metric']} in {ranks['blocks']} {ranks['of']}: {mean_ranks}"]
    if ranks["of"] == EVAL_SETS:
        lines.append("caveat: these sets share train rows, so that the p-values of ranks are too small")
    if ranks["friedman_p"] is not None:
        lines.append(f"Friedman's test that all are alike: p = {ranks['friedman_p']:.3g}")
    lines.append(f"critical difference of mean ranks (Nemenyi, 0.05): {ranks['critical_difference']:.2f}")
    lines += [f"not different by it: {', '.join(clique)}" for clique in ranks["cliques"]]
    differing = [f"{a} and {b} (p = {p:.3g})" for a, b, p in ranks["wilcoxon_holm"] if p < 0.05]
    lines.append(f"different by Wilcoxon's test with Holm's correction: {'; '.join(differing) or 'none'}")
    return lines


def text(tables: SystemTables, per_class: bool = False) -> str:
    """For a terminal."""
    return "\n".join(_plain(tables, per_class, table_text, text_cell, TEXT_LEGEND))


def markdown(tables: SystemTables, per_class: bool = False) -> str:
    """As Markdown, the best figures in bold."""
    return "\n\n".join(_plain(tables, per_class, markdown_text, _markdown_cell, LEGEND))


def text_cell(shown: Cell) -> str:
    """The cell in plain text, with its mark."""
    mark = "*" if shown.best else "†" if shown.as_good else ""
    return " ".join(filter(None, [shown.mean, shown.rest, mark]))


def _markdown_cell(shown: Cell) -> str:
    mean = f"**{shown.mean}**" if shown.best else shown.mean
    return " ".join(filter(None, [mean, shown.rest])) + (" †" if shown.as_good else "")


def _plain(
    tables: SystemTables,
    per_class: bool,
    table_of: Callable[[Sequence[dict[str, Any]]], str],
    show: Callable[[Cell], str],
    legend: str,
) -> Iterator[str]:
    for table in tables["tables"]:
        names = {f"{n}": one_line(row["system"]) for n, row in enumerate(table["systems"], 1)}
        rows = zip(names.items(), table["systems"], rows_of(table, tables["metrics"]), strict=True)
        yield table_of(
            [
                {"": number, "system": name}
                | dict(zip(tables["metrics"], map(show, cells), strict=True))
                | {"runs": len(row["runs"]), "seconds": f"{row['seconds']:.1f}"}
                for (number, name), row, cells in rows
            ]
        )
        yield from about(table)
        if len(names) > 1:
            yield legend
        for number, row in zip(names, table["systems"], strict=True):
            yield f"{number}: {', '.join(row['runs'])}"
        if per_class:
            yield table_of(
                [
                    {"class": label, "positives": support} | dict(zip(names, map(show, cells), strict=True))
                    for label, support, cells in class_rows(table)
                ]
            )
    if tables["ranks"]:
        yield from ranks_text(tables["ranks"])


def latex(tables: SystemTables, per_class: bool = False) -> str:
    r"""As `tabular` environments with the rules of booktabs; comments name the runs of each row."""
    lines = [r"% \usepackage{booktabs}"]
    for table in tables["tables"]:
        lines += [f"% {one_line(line)}" for line in about(table)]
        header = ["System", *map(_latex_text, tables["metrics"])]
        rows = [
            [_latex_text(row["system"]), *map(_latex_cell, cells)]
            for row, cells in zip(table["systems"], rows_of(table, tables["metrics"]), strict=True)
        ]
        lines += _tabular(header, rows, [", ".join(row["runs"]) for row in table["systems"]])
        if per_class:
            header = ["Class", "Positives", *(_latex_text(row["system"]) for row in table["systems"])]
            rows = [
                [_latex_text(label), str(support), *map(_latex_cell, cells)]
                for label, support, cells in class_rows(table)
            ]
            lines += _tabular(header, rows)
    lines += [f"% {one_line(line)}" for line in (ranks_text(tables["ranks"]) if tables["ranks"] else [])]
    return "\n".join(lines)


def _tabular(header: Sequence[str], rows: Sequence[Sequence[str]], comments: Sequence[str] = ()) -> list[str]:
    ends = [f" % {one_line(comment)}" for comment in comments] or [""] * len(rows)
    return [
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(row) + rf" \\{end}" for row, end in zip(rows, ends, strict=True)),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _latex_text(content: str) -> str:
    return one_line(content).translate(LATEX)


def _latex_cell(shown: Cell) -> str:
    mean = rf"\textbf{{{shown.mean}}}" if shown.best else "--" if shown.mean == "–" else shown.mean
    rest = shown.rest.replace("±", r"$\pm$").replace("…", r"\ldots{}")
    return " ".join(filter(None, [mean, rest])) + (r"$^\dagger$" if shown.as_good else "")


COLUMNS = (
    "data", "system", "class", "metric", "mean", "sd", "low", "high", "difference", "difference_low",
    "difference_high", "p", "p_holm", "best", "as_good", "values", "runs",
)  # fmt: skip


def csv_rows(tables: SystemTables, per_class: bool = False) -> Iterator[list[str]]:
    """A row for each figure, as `COLUMNS`; numbers in full."""
    for table in tables["tables"]:
        for row in table["systems"]:
            start, runs = [data_name(table), one_line(row["system"])], one_line("; ".join(row["runs"]))
            for metric, figure in row["metrics"].items():
                if figure is not None:
                    yield [*start, "", metric, *_numbers(figure), runs]
            for of_class in row["per_class"] if per_class else ():
                figures = [_number(of_class["f1"]), _number(of_class["sd"])]
                yield [*start, one_line(of_class["label"]), "f1", *figures, *[""] * 10, runs]


def _numbers(figure: SystemFigure) -> list[str]:
    none: list[float | None] = [None, None]
    ends, difference_ends = figure["interval"] or none, figure["difference_interval"] or none
    values = "; ".join(_number(value["value"]) for value in figure["values"])
    marks = [str(int(figure["best"])), str(int(figure["as_good"]))]
    numbers = [figure["mean"], figure["sd"], *ends, figure["difference"], *difference_ends]
    return [*map(_number, [*numbers, figure["p"], figure["p_holm"]]), *marks, values]


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def csv_text(tables: SystemTables, per_class: bool = False) -> str:
    """A row for each figure, with the columns `COLUMNS`."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([COLUMNS, *csv_rows(tables, per_class)])
    return file.getvalue().rstrip("\n")
