"""The notebook of the documents: every cell runs, and shows what is kept in the file."""

import copy
import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from tests.doc_pages import LINK, ROOT

NOTEBOOK = json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def script():
    spec = spec_from_file_location("notebook", ROOT / "docs/notebook.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_did():
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    script = [sys.executable, ROOT / "docs/notebook.py", "--check"]
    process = subprocess.run(script, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_all_cells_were_executed_in_order_in_no_folder_of_ours():
    assert [cell["execution_count"] for cell in CODE] == [*range(1, len(CODE) + 1)]
    outputs = [output for cell in CODE for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"execute_result", "stream"}
    assert "image/svg+xml" in outputs[-2]["data"]
    assert not re.search(r"/(tmp|home|root|work|Users)/", json.dumps(NOTEBOOK))
    assert len(json.dumps(NOTEBOOK)) < 50_000


def test_links_of_the_notebook_lead_to_pages():
    texts = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown"]
    links = LINK.findall("\n".join(texts))
    assert links
    for link in links:
        assert (ROOT / "docs" / link).exists(), link


@pytest.mark.parametrize(
    ("pattern", "changed", "is_reported"),
    [
        (r"(<td>0\.\d\d)\d", r"\g<1>1", False),
        (r"<td>0\.9", "<td>0.4", True),
        (r"<td>(\d+)</td>", r"<td>\g<1>0</td>", True),
        (r"micro_f1", "micro", True),
        (r'cx="\d+', 'cx="1', False),
        (r"linear on glove", "mlp on glove", True),
        (r" [*†]<", "<", False),
    ],
)
def test_other_words_and_counts_are_reported_and_rounding_is_not(script, pattern, changed, is_reported):
    other = copy.deepcopy(NOTEBOOK)
    count = 0
    for cell in other["cells"]:
        for output in cell.get("outputs", ()):
            for kind, lines in output.get("data", {}).items():
                text, replaced = re.subn(pattern, changed, "".join(lines))
                output["data"][kind] = text
                count += replaced
    assert count
    assert bool(script.differences(NOTEBOOK, other)) == is_reported
    assert script.differences(NOTEBOOK, copy.deepcopy(NOTEBOOK)) == []


def test_an_output_that_is_missing_is_reported(script):
    other = copy.deepcopy(NOTEBOOK)
    other["cells"] = [{**cell, "outputs": []} for cell in other["cells"]]
    assert len(script.differences(NOTEBOOK, other)) == sum(bool(cell["outputs"]) for cell in CODE)
