"""Options and parameter types that the commands of stage 1, and those that encode other data, share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from encode_once.cache import UsageError
from encode_once.cache.names import REGIONS, split_regions, without_output
from encode_once.cache.options import completions, grouped, say, warn
from encode_once.cache.views import AT, LEAST, MOST, OWN_VIEW, View, split_view, with_view
from encode_once.extract.compute import BACKENDS

if TYPE_CHECKING:
    from encode_once.cache import Shard
    from encode_once.extract.readers import ReadOptions
    from encode_once.extract.report import Report


class EncoderName(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """The name of an encoder, or several with commas; the shell completes the last."""

    name = "NAME"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The encoders; imports no torch."""
        from encode_once.extract.encoders import listed

        before, comma, last = incomplete.rpartition(",")
        names = [f"{before}{comma}{name}" for name, _ in listed()]
        return completions(names, f"{before}{comma}{last}")


trust_option = click.option(
    "--trust",
    is_flag=True,
    help="Use the code and weights files that the run or store names, if their hashes match.",
)


def warn_of_failures(report: "Report") -> None:
    """Report an extraction that another command needed."""
    warn(report.remarks)


weights_option = click.option(
    "--weights",
    multiple=True,
    metavar="[ENCODER=]FILE",
    help="Local weights file, or `random` for a trial: its features are ENCODER+random/OUTPUT.",
)
backend_option = click.option(
    "--backend",
    default="auto",
    show_default=True,
    type=click.Choice(BACKENDS),
    help="Runtime of image networks on a CPU. auto: the faster one, if there are many images.",
)


def read_options(
    id_column: str | None,
    image_column: str | None,
    caption_column: tuple[str, ...],
    label_columns: tuple[str, ...],
    unknown_column: str | None,
    classes: str | None,
    **options: Any,
) -> "ReadOptions":
    """How a command reads data: the values of INPUT_OPTIONS."""
    from encode_once.extract.readers import Columns, ReadOptions, class_list

    columns = Columns(id_column, image_column, caption_column, label_columns, unknown_column)
    return ReadOptions(columns, classes=class_list(classes) if classes else (), **options)


def shard(text: str) -> "Shard":
    """The share of the inputs that `I/N` names."""
    from encode_once.cache import Shard

    return Shard.parse(text)


INPUT_OPTIONS = (
    click.option(
        "--images",
        metavar="[SPLIT=]DIR",
        multiple=True,
        help="Folder of the images, if not next to the table, or its URL; repeatable, as for each split.",
    ),
    click.option(
        "--allow-urls",
        metavar="URL",
        multiple=True,
        help="Fetch images that a table names by URLs below this one, as https://HOST/photos; repeatable.",
    ),
    click.option(
        "--label-column",
        "--label-columns",
        "label_columns",
        metavar="NAME",
        multiple=True,
        help="Column of the labels; repeatable. A,B,C or A:Z names several, such as one for each class.",
    ),
    click.option(
        "--label-separator",
        metavar="TEXT",
        help="Between the labels of a row. [default: by the whole column]",
    ),
    click.option(
        "--classes", metavar="FILE|A,B", help="Class names in their order, if labels are vectors of 0 and 1."
    ),
    click.option(
        "--uncertain",
        type=click.Choice(["unknown", "positive", "negative", "missing"]),
        help="What -1 means in columns of 0, 1 and -1; missing leaves such rows out. [default: unknown]",
    ),
    click.option(
        "--unknown",
        metavar="MARK",
        multiple=True,
        help="Cells that are unknown labels, as NA or blank, or what precedes their names; repeatable.",
    ),
    click.option("--unknown-column", metavar="NAME", help="Column that lists each row's unknown labels."),
    click.option("--keep-text", is_flag=True, help="Keep None, nan, NA and the like as captions and labels."),
    click.option("--caption-column", metavar="NAME", multiple=True, help="Column of captions; repeatable."),
    click.option("--image-column", metavar="NAME", help="Column of the images: paths or bytes."),
    click.option("--id-column", metavar="NAME", help="Column of the rows' ids."),
    click.option(
        "--corrections",
        metavar="FILE",
        type=click.Path(),
        help="Correct labels as the page of `audit` exports it; the data themselves are not changed.",
    ),
    click.option("--skip-bad-rows", is_flag=True, help="Leave out rows that cannot be read, with a warning."),
)
input_options = grouped("read", read_options, *INPUT_OPTIONS)


def column_words(names: Mapping[str, Sequence[str]]) -> list[str]:
    """The options that name a table's columns; names: as a run records them."""
    options = {
        "id": "--id-column",
        "image": "--image-column",
        "captions": "--caption-column",
        "labels": "--label-column",
        "unknown": "--unknown-column",
    }
    return [
        word for role, columns in names.items() for name in columns if name for word in (options[role], name)
    ]


def mark_words(unknown: Sequence[str], uncertain: str | None) -> list[str]:
    """The options that say which labels are unknown; as they are passed, or as a run records them."""
    words = [word for mark in unknown for word in ("--unknown", mark)]
    return [*words, "--uncertain", uncertain] if uncertain else words


def views_option(function: Any) -> Any:
    """Add the options `--view` and `--size`."""
    view = click.option(
        "--view",
        "views",
        multiple=True,
        metavar="VIEW",
        help="What image encoders see: crop (the model's own), whole, pad, five-crops, flip, or several of "
        "these as whole-flip; repeatable. The same as --encoder ENCODER@VIEW.",
    )
    size = click.option(
        "--size", type=click.IntRange(LEAST, MOST), metavar="PIXELS", help="Size at which they see it."
    )
    return view(size(function))


def with_views(encoders: Sequence[str], texts: Sequence[str], size: int | None) -> list[str]:
    """The encoders with each of the views; those that have none, or name their own, as they are.

    texts: views as `View.parse` reads them, or several with commas.

    Raises:
        UsageError: a view is unknown, or has a size of its own next to `size`.
    """
    from encode_once.extract.encoders import has_views

    views = [View.parse(text) for words in texts for text in words.split(",")] or [OWN_VIEW]
    for view in views:
        if size and view.size:
            raise UsageError(f"--view {view} --size {size}: name the size once")
    views = [replace(view, size=view.size or size) for view in views]
    if not any(views):
        return [*encoders]
    named = []
    for requested in encoders:
        encoder, regions = split_regions(requested)
        if split_view(encoder)[1] or not has_views(encoder):
            say(f"{requested} is encoded as it is: it {'has a view' if AT in encoder else 'has no views'}")
            named.append(requested)
            continue
        named += [with_view(encoder, view) + f"/{REGIONS}" * regions for view in views]
    return named


def weights_by_encoder(encoders: Sequence[str], weights: Sequence[str]) -> dict[str, str]:
    """Encoder, without a view, → weights, from `ENCODER=FILE`, or from `FILE` if there is one encoder."""
    by_encoder = {}
    encoders = [*dict.fromkeys(map(without_output, encoders))]
    for text in weights:
        encoder, equals, file = text.rpartition("=")
        if equals and without_output(encoder) in encoders:
            by_encoder[without_output(encoder)] = file
        elif len(encoders) == 1:
            by_encoder[encoders[0]] = text
        else:
            raise UsageError(f"--weights {text} could be for any of several encoders: write ENCODER={text}")
    return by_encoder
