"""What monitoring finds as text, and as a page."""

from importlib.resources import files

from encode_once.cache.text_table import table_text
from encode_once.classify.monitoring.monitor import Monitored, alarm_line
from encode_once.classify.pages.render import render

LEGEND = "p: corrected for all tests; near: scores within 0.05 of the threshold; in brackets: rows of the run"


def class_rows(monitored: Monitored) -> list[dict[str, str]]:
    """A row for each class, the surest shift first."""
    alpha = monitored["alpha"]
    ordered = sorted(monitored["per_class"], key=lambda row: (row["p"], -row["psi"]))
    rows = []
    for row in ordered:
        p = {"scores": row["adjusted_p"], "labels": row["labels_adjusted_p"]}
        alarms = [name for name, value in p.items() if value is not None and value <= alpha]
        shares = {
            "expected": (row["expected"], row["prevalence_before"]),
            "has label": (row["prevalence"], row["prevalence_before"]),
            "labelled": (row["labelled"], row["labelled_before"]),
            "near": (row["near"], row["near_before"]),
        }
        figures = {"class": row["label"], "PSI": f"{row['psi']:.3f}", "p": f"{row['adjusted_p']:.2g}"}
        rows.append(figures | {name: _share(*pair) for name, pair in shares.items()})
        rows[-1]["alarm"] = ", ".join(alarms)
    if all(row["prevalence"] is None for row in ordered):
        rows = [{name: row[name] for name in row if name != "has label"} for row in rows]
    return rows


def feature_rows(monitored: Monitored) -> list[dict[str, str]]:
    """A row for each feature."""
    alpha = monitored["alpha"]
    rows = []
    for row in monitored["features"]:
        distance, p = row["energy_distance"], row["adjusted_p"]
        alarms = ["vectors"] if p is not None and p <= alpha else []
        alarms += ["missing"] if row["missing_adjusted_p"] <= alpha else []
        rows.append(
            {
                "feature": row["feature"],
                "distance": "–" if distance is None else f"{distance:.3f}",
                "p": "–" if p is None else f"{p:.2g}",
                "missing": _share(row["missing"], row["missing_before"]),
                "alarm": ", ".join(alarms),
            }
        )
    return rows


def text(monitored: Monitored) -> str:
    """The tables for a terminal."""
    tables = [rows for rows in (class_rows(monitored), feature_rows(monitored)) if rows]
    return "\n\n".join([*map(table_text, tables), LEGEND, about(monitored)])


def about(monitored: Monitored) -> str:
    """The rows that were compared, and what was found."""
    return (
        f"{monitored['rows']} rows of {monitored['source']} against {monitored['eval_rows']} eval rows of "
        f"{monitored['run']}: {alarm_line(monitored) or 'no alarm'}"
    )


def page(monitored: Monitored) -> str:
    """The same as a page."""
    return render(
        files(__package__) / "page",
        [],
        title="Monitoring",
        notes=monitored["warnings"],
        about=about(monitored),
        legend=LEGEND,
        tables=[rows for rows in (class_rows(monitored), feature_rows(monitored)) if rows],
    )


def _share(value: float | None, before: float | None) -> str:
    return "–" if value is None or before is None else f"{100 * value:.1f} % ({100 * before:.1f} %)"
