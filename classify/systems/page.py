"""The tables of systems as one self-contained page, whose rows lead to the runs."""

import os
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from encode_once.classify.pages.render import render
from encode_once.classify.systems.comparison import Ranks, SystemFigure, SystemTables, data_name
from encode_once.classify.systems.formats import LEGEND, about, class_rows, ranks_text, rows_of

FILES = files(__package__) / "page"
WIDTH, MARGIN, STEP = 900, 40, 18  # of the diagram of ranks, in units of its picture


def page(tables: SystemTables, path: Path) -> str:
    """The page of tables for a file at this path, to which its links are relative."""
    return render(
        FILES,
        (),
        title="Systems",
        notes=tables["notes"],
        legend=LEGEND,
        metrics=tables["metrics"],
        tables=[
            {
                "name": data_name(table),
                "about": about(table),
                "rows": [
                    {
                        "system": row["system"],
                        "runs": [(run, _link(run, path)) for run in row["runs"]],
                        "cells": [
                            (shown, _details(row["metrics"][metric]))
                            for shown, metric in zip(cells, tables["metrics"], strict=True)
                        ],
                        "seconds": row["seconds"],
                    }
                    for row, cells in zip(table["systems"], rows_of(table, tables["metrics"]), strict=True)
                ],
                "classes": [*class_rows(table)],
            }
            for table in tables["tables"]
        ],
        ranks=tables["ranks"] and ranks_text(tables["ranks"]),
        diagram=tables["ranks"] and diagram(tables["ranks"]),
    )


def _link(run: str, page: Path) -> str:
    """A run's model card, relative to the page."""
    return quote(os.path.relpath(Path(run) / "README.md", page.parent), errors="surrogateescape")


def _details(figure: SystemFigure | None) -> str:
    """A figure's values and its difference from the best, for the reader who points at it."""
    if figure is None:
        return ""
    parts = [", ".join(f"{value['value']:.4f}" for value in figure["values"])]
    if figure["difference"] is not None and figure["difference_interval"] and figure["p_holm"] is not None:
        low, high = figure["difference_interval"]
        parts.append(f"from the best {figure['difference']:+.4f} ({low:+.4f} … {high:+.4f})")
        parts.append(f"p = {figure['p']:.3g}, corrected {figure['p_holm']:.3g}")
    return "; ".join(parts)


def diagram(ranks: Ranks) -> dict[str, Any]:
    """The critical-difference diagram: where its ticks, systems and bars over cliques are."""
    names, k = ranks["mean_ranks"], len(ranks["mean_ranks"])

    def x(rank: float) -> float:
        return round(MARGIN + (rank - 1) / (k - 1) * (WIDTH - 2 * MARGIN), 1)

    bars = [
        (x(names[clique[0]]), x(names[clique[-1]]), 40 + 8 * n) for n, clique in enumerate(ranks["cliques"])
    ]
    first, middle = 52 + 8 * len(bars), WIDTH / 2
    inner_first = sorted(names.items(), key=lambda item: abs(x(item[1]) - middle))  # so that few lines cross
    return {
        "width": WIDTH,
        "height": first + STEP * k,
        "ticks": [(x(rank), rank) for rank in range(1, k + 1)],
        "bars": bars,
        "systems": [
            (f"{rank:.2f} {name}", x(rank), first + STEP * n, x(rank) > middle)  # whether its text ends there
            for n, (name, rank) in enumerate(inner_first)
        ],
        "critical": (x(1), min(x(1 + ranks["critical_difference"]), WIDTH)),
    }
