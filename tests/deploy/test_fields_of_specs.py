"""Every field of a spec is in all that fits a run again: a field that is added needs a value here."""

from dataclasses import fields, replace

import pytest

from encode_once.classify import DecisionSpec, fit
from encode_once.classify.commands import fit as fit_command
from encode_once.classify.options import _explicit
from encode_once.classify.runs.rerun import _spec
from encode_once.classify.spec import BY_TASK, DECISION_DEFAULTS, FitSpec, decision_from
from encode_once.deploy.forget import refit_words
from encode_once.deploy.update import spec_again
from tests.classify.runs.test_kinds_of_labels import stored

VALUES = {  # a value of each field that is not the default
    "head": "knn",
    "features": ("e/text",),
    "options": {"tolerance": 0.5},
    "split": "tail:9",
    "groups": "none",
    "decision": DecisionSpec("macro", shrink=False, at_least=1),
    "tune_on": "eval",
    "validation": "tenth",
    "data": "other",
    "scale": "none",
    "seed": 3,
    "task": "single",
    "labels": "mood",
    "only_classes": ("dog", "cat"),
    "hierarchy": (("cat", "pet"),),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A run of defaults."""
    folder = tmp_path_factory.mktemp("fields")
    store = stored(folder, [("cat", "dog")[: row % 3] for row in range(60)])
    run, _ = fit(store, "linear", run=folder / "run")
    return run


@pytest.mark.parametrize("name", [field.name for field in fields(FitSpec)])
def test_rerun_update_and_forget_take_each_field_over(fitted, name):
    """Nothing is fitted: the run is as if it had been fitted with another value; `compare` has a test."""
    spec = replace(fitted.spec, **{"decision": BY_TASK, name: VALUES[name]})
    record = replace(
        fitted.record,
        table=spec.data,
        features=dict.fromkeys(spec.features),
        asked_validation=spec.validation,
    )
    run = replace(fitted, spec=spec, record=record, decision=replace(fitted.decision, spec=spec.decision))
    for again in (_spec(run, print), spec_again(run, trust=True, anyway=True)[0]):
        assert getattr(again, name) == getattr(spec, name) != getattr(fitted.spec, name)

    words = refit_words(run, name_data=True)
    options = fit_command.make_context("fit", words[1:]).params
    rule = _explicit(**{field: options[field] for field in DECISION_DEFAULTS})
    decision = FitSpec(task=options["task"], decision=decision_from(rule)).decision
    pairs = spec.hierarchy if options["hierarchy"] == run.path else ()
    settings = {"decision": decision, "options": dict(options["settings"]), "hierarchy": pairs}
    value = (options | settings)[name]
    assert (tuple(value) if isinstance(value, list) else value) == getattr(spec, name)
