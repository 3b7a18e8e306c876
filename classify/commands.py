"""Commands of stage 2: fit heads, tune and repeat."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from encode_once.cache.options import (
    RunFolder,
    alert,
    json_option,
    print_result,
    say,
    say_next,
    store_option,
    verb,
    warn,
)
from encode_once.cache.terminal import short_path
from encode_once.classify.options import (
    HeadName,
    OptionSetting,
    decision_options,
    ignore_option,
    seed_option,
    spec_options,
)

if TYPE_CHECKING:
    from encode_once.classify.report.checks import Evidence


@verb()
@click.option(
    "--head",
    default="mlp",
    type=HeadName(),
    show_default=True,
    help="Head to fit: `heads` lists them; or your own, FILE.py:NAME, or sklearn.MODULE:CLASS.",
)
@spec_options
@click.option(
    "--tune-on",
    default="inner",
    show_default=True,
    help="Rows to tune on: inner, or eval as some reports do.",
)
@click.option("--run", type=click.Path(), help="Folder to write. [default: runs/HEAD, or the next free one]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is in that folder.")
@store_option
@seed_option
@click.option(
    "--set",
    "settings",
    multiple=True,
    type=OptionSetting(),
    metavar="OPTION=VALUE",
    help="Option of the head; `heads HEAD` shows them.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="SECONDS",
    help="Time for all heads that --head auto tries. [default: 300]",
)
@click.option("--track", "trackers", multiple=True, metavar="NAME",
              help="Send epochs and figures to tensorboard or mlflow; repeatable.")  # fmt: skip
@ignore_option
@json_option
def fit(
    store: str,
    run: str | None,
    overwrite: bool,
    settings: Sequence[tuple[str, Any]],
    budget: float | None,
    hierarchy: Path | None,
    decision: dict[str, Any],
    trackers: Sequence[str],
    ignore: Sequence[str],
    as_json: bool,
    **options: Any,
) -> "Evidence":
    """Fit a head on cached features, tune its decision rule, and measure on eval rows.

    A caption feature uses the captions of the table; FEATURE@KIND uses others, encoded by extract --captions
    KIND. Features learned from captions, as tfidf:500, need no encoder: with no others, data that the
    store does not know is read first.

    \b
    --split SPEC      stratified:0.1, random:0.2, tail:3000, kfold:5, or a column
    --groups SPEC     content: equal images or, without images, captions
                      none
                      a column, such as the photographer
                      FEATURE:COSINE: near-duplicates, as clip-vit-l/image:0.95
    --objective NAME  macro, micro, samples or weighted F1; micro-f2: another beta
                      precision:0.9 or recall:0.9 of each class on unseen rows with
                      90 % confidence (--no-shrink: on the tuning rows)
                      global-micro, ...: one threshold for all classes
                      none (0.5), at:0.4, or cost:5/1

    \b
    Examples:
      encode-once fit --head mlp
      encode-once fit --head mlp --features clip-vit-l/image --features clip-vit-l/text@table+coca-b32
      encode-once fit --head linear --features clip-vit-l/image --split tail:3000 --run runs/image
      encode-once fit --head mlp --set dropout=0.3 --objective micro
      encode-once fit --head linear --task single
      encode-once fit --head linear --features tfidf:500 --data photos
      encode-once fit --head sklearn.svm:LinearSVC --set C=0.1
    """
    from encode_once.classify import fit as fit_head
    from encode_once.classify.evaluation.tables import metrics_text
    from encode_once.classify.report import checks
    from encode_once.classify.runs.asked import hierarchy_of
    from encode_once.classify.runs.model_card import model_card
    from encode_once.classify.runs.trackers import check_tracker, track
    from encode_once.classify.spec import FitSpec, decision_from

    checks.check_codes(ignore)
    for tracker in trackers:
        check_tracker(tracker)
    of_head = dict(settings) | ({} if budget is None else {"budget": budget})
    pairs = hierarchy_of(hierarchy) if hierarchy else ()
    spec = FitSpec(**options, hierarchy=pairs, decision=decision_from(decision), options=of_head)
    fitted, metrics = fit_head(store, spec, run=run, overwrite=overwrite)
    warn(fitted.record.warnings)
    for line in fitted.model.head.notes:
        say(line)
    print_result(metrics, as_json, lambda: metrics_text(metrics))
    features, seconds = ", ".join(fitted.spec.features), fitted.record.seconds
    labels = f", label set {spec.labels}" if spec.labels else ""
    table = short_path(fitted.record.table)
    say(f"{fitted.path}: {spec.head} on {features} of {table}{labels}, {seconds:.1f} s")
    sparse = [name for name, kind in fitted.record.scales.items() if kind == "feature"]
    if sparse and spec.scale == "auto":
        say(f"most numbers are 0 in {', '.join(sparse)}: scaled as a whole, not by column (--scale column)")
    evidence = checks.Evidence.of(fitted)
    fired, skipped = checks.fired(evidence, ignore, vectors=False)
    warn(skipped)
    for check in fired:
        alert(checks.line(check))
    fitted.save_card(model_card(fitted, checks.findings(fired, skipped, ignore)))
    warn(fitted.card_warnings)
    for tracker in trackers:
        say(f"{tracker}: {track(fitted, metrics, tracker)}")
    return evidence


@verb()
@click.argument("run", type=RunFolder())
@decision_options
@click.option("--from", "thresholds_file", type=click.Path(path_type=Path), metavar="FILE",
              help="Take the thresholds of a file, as a report page exports it.")  # fmt: skip
@json_option
def tune(run: str, decision: dict[str, Any], thresholds_file: Path | None, as_json: bool) -> None:
    """Re-tune a run's thresholds from its saved scores, without refitting.

    Options that are omitted keep their current value. --from tunes nothing: it takes thresholds of plain
    scores that you chose, and keeps bounds on the number of labels.

    \b
    Examples:
      encode-once tune runs/mlp --objective micro
      encode-once tune runs/mlp --objective precision:0.9
      encode-once tune runs/mlp --decide expected-f1 --calibrate isotonic
      encode-once tune runs/mlp --from thresholds.json
    """
    from encode_once.cache import UsageError
    from encode_once.classify import tune as tune_run
    from encode_once.classify.decisions.objectives import BY_HAND
    from encode_once.classify.evaluation.tables import metrics_text

    if decision.get("objective") == BY_HAND:
        raise UsageError(f"{BY_HAND} thresholds come from a file: --from FILE")
    evaluation = tune_run(run, thresholds_file=thresholds_file, **decision)
    metrics = evaluation.metrics
    warn(evaluation.warnings)
    print_result(metrics, as_json, lambda: metrics_text(metrics))
    say_next("evaluate", run)


@verb()
@click.argument("name", required=False, type=HeadName())
@json_option
def heads(name: str | None, as_json: bool) -> None:
    """List the heads, or show one: what it does, and its options with defaults, values and search ranges.

    \b
    Examples:
      encode-once heads
      encode-once heads mlp
      encode-once heads knn --json
    """
    from encode_once.classify.heads import catalogue

    if name is None:
        records = catalogue.listed()
        print_result(records, as_json, lambda: catalogue.listing(records))
        say_next("heads", "mlp")
        return
    record = catalogue.described(name)
    print_result(record, as_json, lambda: catalogue.text(record))
    say_next("fit", "--head", name, *catalogue.example(record))


DIFFERENT = 6  # exit status of `rerun`


@verb()
@click.argument("run", type=RunFolder())
@click.option("--run", "place", type=click.Path(), metavar="FOLDER",
              help="Folder to write. [default: runs/NAME-rerun, or the next free one]")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace the run that is in that folder.")
@click.option("--store", help="Folder of the feature store. [default: the run's store]")
@click.option("--trust", is_flag=True,
              help="Use the code, the prompts and the lists of ids that the run names.")  # fmt: skip
@json_option
def rerun(
    run: str, place: str | None, overwrite: bool, store: str | None, trust: bool, as_json: bool
) -> None:
    """Fit a run again from its folder; report whether it gives the same, and what has changed since.

    Features, split, seed and options are those of the run, and the decision rule is the one that it has now.
    An option whose default has changed since gets the default that the run records. Nothing is encoded. The
    exit status is 0 if all scores, labels and thresholds are equal to the bit, and 6 if not.

    --json prints {"run", "rerun", "equal", "eval": {"rows", "only_then", "only_now", "largest", "scores",
    "labels"}, "validation": …, "classes_only_then", "classes_only_now", "predictions", "thresholds",
    "metrics": {metric: {"then", "now", "difference"}}, "changes": [{"what", "then", "now"}], "seconds"}.

    \b
    Examples:
      encode-once rerun runs/mlp
      encode-once rerun runs/mlp --run runs/again --overwrite --json
    """
    from encode_once.classify import load_run
    from encode_once.classify.runs import rerun as repeating

    loaded = load_run(run, trust=trust, log=say)
    result = repeating.rerun(
        loaded, place, store, overwrite=overwrite, trust=trust, log=lambda line: warn([line])
    )
    print_result(result, as_json, lambda: repeating.text(result))
    say_next("report", run, result["rerun"])
    if not result["equal"]:
        click.get_current_context().exit(DIFFERENT)


verbs = (heads, rerun, tune)
