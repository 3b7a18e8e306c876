"""Options and parameter types that the commands of stage 2 share."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from encode_once.cache.options import (
    Command,
    Setting,
    StoredFeatureName,
    completions,
    grouped,
    json_or_text,
    warn,
)
from encode_once.cache.settings import is_of_found_file


def _trust(value: Any, param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Trust the files that the user's value names; imported late, since help texts need no NumPy."""
    from encode_once.cache.own_code import trust_named

    if not is_of_found_file(ctx, param):
        trust_named(value)


class HeadName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """The name of a head, which the shell completes. A file that it names is trusted."""

    name = "NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Trust the file of `file.py:Name`."""
        _trust(value, param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The heads; imports no torch."""
        from encode_once.classify.heads import HEADS

        return completions(HEADS, incomplete)


class DecisionRuleName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A decision rule's name; the old name `cuts` is accepted with a deprecation line."""

    name = "RULE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Replace the old name."""
        if value == "cuts":
            warn(["--decide cuts is deprecated: use --decide thresholds"])
            return "thresholds"
        return value


def _explicit(**values: Any) -> dict[str, Any]:
    """The options of the decision rule that were passed."""
    explicit = {name: value for name, value in values.items() if value is not None}
    if "objective" in explicit or explicit.get("shrink") is False:
        explicit.setdefault("decide", "thresholds")
    if explicit.get("at_most") == 0:
        explicit["at_most"] = None
    return explicit


decision_options = grouped(
    "decision",
    _explicit,
    click.option("--at-most", type=click.IntRange(0),
                 help="Maximum number of labels per row (0: no limit)."),
    click.option("--at-least", type=click.IntRange(0),
                 help="Minimum number of labels per row (0: no limit)."),
    click.option("--calibrate", metavar="METHOD",
                 help="Turn scores into probabilities: sigmoid, isotonic, temperature or none."),
    click.option("--decide", type=DecisionRuleName(),
                 help="expected-mean: each row's label set of the greatest expected mean of micro, macro and "
                 "samples F1 [default]; expected-f1: of samples F1; thresholds [default with an objective]; "
                 "or argmax: exactly one label per row."),
    click.option("--shrink/--no-shrink", default=None,
                 help="Shrink per-class thresholds toward a shared one, or keep the exact optimum."),
    click.option("--objective", "--tune", "objective", metavar="OBJECTIVE",
                 help="Objective for the thresholds [default: samples]."),
)  # fmt: skip


def _separated(context: click.Context, option: click.Parameter, values: Sequence[str]) -> list[str]:
    """The names of an option that may be repeated, or be given NAME,NAME."""
    return [name for value in values for name in value.split(",")]


features_option = click.option(
    "--features",
    multiple=True,
    type=StoredFeatureName(),
    callback=_separated,
    help="Feature to use; repeat it for several, or give NAME,NAME. [default: every pooled one]",
)
split_option = click.option(
    "--split", default="stratified:0.1", show_default=True, metavar="SPEC", help="Rows for evaluation."
)
groups_option = click.option(
    "--groups",
    default="content",
    show_default=True,
    metavar="SPEC",
    help="Rows to keep together in every split.",
)
validation_option = click.option(
    "--validation",
    default="auto",
    show_default=True,
    metavar="KIND",
    help="Rows to tune on: tenth (of the train rows), folds (all, out of fold), or auto: folds for up to "
    "1,500 train rows.",
)


class ClassNames(click.ParamType):  # type: ignore[type-arg]
    """`A,B`, in which a name with a comma is quoted, or a file with a name on each line → names."""

    name = "A,B|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Read the file, if there is one of that name."""
        if not isinstance(value, str):
            return list(value)
        (names,) = csv.reader([value], skipinitialspace=True)
        try:
            if Path(value).is_file():
                names = Path(value).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError) as error:
            self.fail(f"{value} cannot be read: {error}", param, ctx)
        return [name.strip() for name in names if name.strip()] or self.fail(
            f"{value} has no names", param, ctx
        )


classes_option = click.option(
    "--classes",
    "only_classes",
    type=ClassNames(),
    default=(),
    help="Labels to learn, or a file with one on each line. [default: all]",
)
hierarchy_option = click.option(
    "--hierarchy",
    type=click.Path(path_type=Path),
    metavar="FILE|RUN",
    help="CSV of child,parent, or a run with such: each label implies those above it.",
)
task_option = click.option(
    "--task",
    default="multi",
    show_default=True,
    metavar="KIND",
    help="multi: any number of labels per row; or single: exactly one.",
)
scale_option = click.option(
    "--scale",
    default="auto",
    show_default=True,
    metavar="KIND",
    help="Scale of columns: auto, column, feature (all alike), idf or none.",
)
labels_option = click.option(
    "--labels",
    default="",
    metavar="NAME",
    help="Label set to learn, of extract --label-set. [default: the labels]",
)
table_option = click.option("--data", help="Data folder to learn from, if the store has several.")
seed_option = click.option("--seed", default=0, show_default=True)


def spec_options(command: Command) -> Command:
    """The options of commands that fit; each but the decision rule is a field of `FitSpec`."""
    options = (
        features_option, task_option, classes_option, hierarchy_option, split_option, groups_option,
        decision_options, validation_option, scale_option, table_option, labels_option,
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


class OptionSetting(Setting):
    """`OPTION=VALUE` → (option, value). A file that the value names is trusted."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Trust the file of `file.py:Name`."""
        name, content = super().convert(value, param, ctx)
        _trust(content, param, ctx)
        return name, content


class HeadSetting(click.ParamType):  # type: ignore[type-arg]
    """`HEAD.OPTION=VALUE` → (head, option, value). A file that the value names is trusted."""

    name = "HEAD.OPTION=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str, Any]:
        """Split the name at its first dot or, if it has a colon as `file.py:Name`, at the first behind."""
        name, content = Setting().convert(value, param, ctx)
        dot = name.find(".", name.find(":") + 1)
        if dot < 0:
            self.fail(f"{value}: expected {self.name}", param, ctx)
        parsed = self.parsed(content)
        _trust(parsed, param, ctx)
        return name[:dot], name[dot + 1 :], parsed

    def parsed(self, content: Any) -> Any:
        """The value as it is."""
        return content


class HeadValues(HeadSetting):
    """`HEAD.OPTION=V1,V2` or `HEAD.OPTION=[V1, V2]` → (head, option, values)."""

    name = "HEAD.OPTION=V1,V2"

    def parsed(self, content: Any) -> list[Any]:
        """The values to try."""
        if isinstance(content, str):
            return [json_or_text(value) for value in content.split(",")]
        return content if isinstance(content, list) else [content]


def by_head(settings: Sequence[tuple[str, str, Any]]) -> dict[str, dict[str, Any]]:
    """Head → option → value."""
    options: dict[str, dict[str, Any]] = {}
    for head, option, value in settings:
        options.setdefault(head, {})[option] = value
    return options


class NameList(click.ParamType):  # type: ignore[type-arg]
    """`A,B` → ["A", "B"]."""

    name = "NAME,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Split the text; an empty one has no name."""
        return value if isinstance(value, list) else [name for name in value.split(",") if name]


ignore_option = click.option(
    "--ignore", multiple=True, metavar="CODE", help="Check to leave out, such as EO002; repeatable."
)


results_option = click.option(
    "--results", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write a row for each system or recipe into this CSV file; other rows stay.",
)  # fmt: skip
results_table_option = click.option(
    "--results-table", metavar="NAME",
    help="Name of the rows' table in that file. [default: that of the folder of runs]",
)  # fmt: skip
