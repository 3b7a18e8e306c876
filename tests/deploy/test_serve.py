"""The web service of docs/deploy.md, on an exported folder."""

import io
import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import picture
from tests.doc_pages import ROOT, blocks

TestClient = pytest.importorskip("fastapi.testclient").TestClient


@pytest.mark.slow
@pytest.mark.usefixtures("fit_once")
def test_the_service_labels_a_photo_and_refuses_other_bytes(folder, run, tmp_path, monkeypatch):
    folder(60)
    vit = "timm:test_vit"
    run("extract", "--encoder", vit, "--weights", "random")
    run("fit", "--head", "linear", "--features", f"{vit}+random/pooled", "--run", "run")
    run("export", "run", "--folder", "photos-model")
    (code,) = [code for _, code in blocks(ROOT / "docs/deploy.md") if code.startswith("# serve.py")]
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace = {}
    exec(compile(code, "serve.py", "exec"), namespace)
    del sys.modules["predict"]
    client = TestClient(namespace["app"])
    picture(77, (300, 200)).save("photo.jpg")
    answer = client.post("/labels", content=Path("photo.jpg").read_bytes())
    assert answer.status_code == 200
    (predicted,) = json.loads(run("predict", "run", "photo.jpg", "--json").stdout)["predictions"]
    assert answer.json()["labels"] == predicted["labels"]
    scores = answer.json()["scores"]
    assert {name: scores[name] for name in predicted["scores"]} == pytest.approx(
        predicted["scores"], abs=1e-4
    )
    narrow, eps = io.BytesIO(), io.BytesIO()
    Image.new("L", (1, 30_000)).save(narrow, "PNG")
    Image.new("RGB", (20, 20)).save(eps, "EPS")
    contents = {b"no photo": "not a photo", narrow.getvalue(): "at most 256:1", eps.getvalue(): "not a photo"}
    for content, reason in contents.items():
        refused = client.post("/labels", content=content)
        assert refused.status_code == 415
        assert reason in refused.json()["detail"]
