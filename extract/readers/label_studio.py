"""Label Studio's JSON export: a list of tasks, with the fields of their data and the results of annotations.

Each control of the labelling page, such as `<Choices name="weather">`, becomes a column: of labels if its
results are choices, taxonomies or labelled regions, and otherwise of texts or numbers, which may be captions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encode_once.cache.terminal import short_list
from encode_once.extract.images.formats import IMAGE_SUFFIXES
from encode_once.extract.readers.label_values import strings_in

HEAD_NAMES = (b'"data"', b'"annotations"', b'"result"')  # in the first tasks of a file
CONTROL = "labels"  # the column of results that do not say of which control they are
OTHER_VALUES = ("text", "rating", "number", "datetime")  # of results that are no labels
LISTED = 12


@dataclass
class Tasks:
    """The records of tasks, and what is to be reported of them."""

    records: list[dict[str, Any]] = field(default_factory=list)
    label_columns: dict[str, None] = field(default_factory=dict)
    fields: dict[str, None] = field(default_factory=dict)  # of tasks, which are not used
    cancelled: int = 0  # annotations
    several: list[int] = field(default_factory=list)  # tasks with more than one annotation

    def warnings(self, path: Path) -> list[str]:
        """What else was decided."""
        lines = []
        if self.several:
            lines.append(
                f"{path}: tasks with several annotations: {len(self.several)} (first: record "
                f"{self.several[0]}); their labels are joined"
            )
        if self.cancelled:
            lines.append(f"{path}: annotations that were cancelled: {self.cancelled}; they are left out")
        return lines

    def unused(self, path: Path) -> list[str]:
        """What else is in the tasks."""
        names = short_list([*self.fields], LISTED)
        return [f"the tasks' fields {names} in {path.name}"] if self.fields else []


def is_tasks(content: Any) -> bool:
    """Whether the content of a file is a list of tasks."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(task, dict)
            and isinstance(task.get("data"), dict)
            and isinstance(task.get("annotations"), list)
            for task in content
        )
    )


def read_tasks(tasks: list[dict[str, Any]]) -> Tasks:
    """The tasks as records of one column for each field of their data and each control."""
    result = Tasks()
    data_names = {"image", *(name for task in tasks for name in task["data"])}
    for number, task in enumerate(tasks):
        record = dict(task["data"])
        image = next((name for name, value in record.items() if _is_image(value)), None)
        if image is not None:
            value = record.pop(image)
            record["image"] = value.partition("?d=")[2] or value
        annotations = [entry for entry in task["annotations"] if isinstance(entry, dict)]
        finished = [entry for entry in annotations if not entry.get("was_cancelled")]
        result.cancelled += len(annotations) - len(finished)
        if len(finished) > 1:
            result.several.append(number)
        for annotation in finished:
            for control, values, are_labels in _results(annotation):
                column = control if control not in data_names else f"{control} (annotated)"
                cell = record.setdefault(column, [])
                cell += [entry for entry in values if entry not in cell]
                if are_labels:
                    result.label_columns[column] = None
        result.fields |= dict.fromkeys(
            name for name, value in task.items() if value not in (None, [], {}, "")
        )
        result.records.append(record)
    for name in ("data", "annotations"):
        result.fields.pop(name, None)
    return result


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and Path(value).suffix.lower() in IMAGE_SUFFIXES


def _results(annotation: dict[str, Any]) -> Iterator[tuple[str, list[Any], bool]]:
    """Of each result, its control, its values, and whether these are labels."""
    results = annotation.get("result")
    for result in results if isinstance(results, list) else ():
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue
        control = str(result.get("from_name", CONTROL))
        for key, entry in value.items():
            if key == "choices" or key.endswith("labels"):
                yield control, [*(strings_in(entry) or ())], True
            elif key == "taxonomy" and isinstance(entry, list):
                yield control, ["/".join(map(str, path)) for path in entry if isinstance(path, list)], True
            elif key in OTHER_VALUES:
                yield control, entry if isinstance(entry, list) else [entry], False
