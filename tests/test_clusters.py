"""The examples of docs/clusters.md: what the schedulers start are shards of a table, which make the whole."""

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from encode_once.cache import Shard, Store
from encode_once.cache.merge import merge
from encode_once.extract import encode
from tests.conftest import vectors_file
from tests.doc_pages import ROOT, blocks
from tests.test_docs import parse

BLOCKS = [*blocks(ROOT / "docs" / "clusters.md")]
SHELL = [text for language, text in BLOCKS if language == "bash"]
KUBERNETES, SKYPILOT = (yaml.safe_load(text) for language, text in BLOCKS if language == "yaml")
SLURM, LAST = (text for text in SHELL if "/shared/photos" in text)
POD = KUBERNETES["spec"]["template"]["spec"]["containers"][0]


@pytest.fixture
def started(tmp_path):
    """The words after `encode-once`, of each command that a script starts."""
    # ASCII's unit separator ends a word, and its record separator a command.
    program = tmp_path / "bin" / "encode-once"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\037" "$@"; printf "\\036"\n')
    program.chmod(0o755)

    def started(script, **variables):
        environment = {"PATH": f"{program.parent}:/usr/bin:/bin"} | variables
        script = script.replace(" 2> ", " 2>/dev/null #")  # a log
        result = subprocess.run(
            ["bash", "-c", script], env=environment, capture_output=True, check=True, text=True
        )
        return [command.split("\037")[:-1] for command in result.stdout.split("\036")[:-1]]

    return started


def shard_of(words):
    assert parse([word for word in words if word not in ("--log-format", "json")]) == "extract"
    return Shard.parse(words[words.index("--shard") + 1])


def all_shards(count):
    return {Shard(number, count) for number in range(count)}


def test_gpus_of_a_machine_take_a_shard_each(started):
    (script,) = [text for text in SHELL if "cuda" in text]
    commands = started(script)
    assert {shard_of(words) for words in commands} == all_shards(4)
    assert len({words[words.index("--device") + 1] for words in commands}) == 4


def test_tasks_of_slurm_are_all_shards(started):
    first, last = (int(number) for number in SLURM.split("--array=")[1].split()[0].split("-"))
    tasks = {"SLURM_ARRAY_TASK_COUNT": str(last - first + 1)}
    shards = {shard_of(*started(SLURM, SLURM_ARRAY_TASK_ID=str(task), **tasks)) for task in (first, 7, last)}
    assert shards <= all_shards(64)
    assert len(shards) == 3
    assert (first, last) == (1, 64)
    (words,) = started(LAST)
    assert parse(words) == "extract"
    assert "--shard" not in words


def test_ray_has_one_command_for_all_nodes(started):
    (script,) = [text for text in SHELL if "--engine ray" in text]
    (words,) = started(script)
    assert parse(words) == "extract"


def test_nodes_of_sky_pilot_are_all_shards(started):
    nodes, script = SKYPILOT["num_nodes"], SKYPILOT["run"].partition("mkdir")[0]
    shards = {
        shard_of(*started(script, SKYPILOT_NODE_RANK=str(rank), SKYPILOT_NUM_NODES=str(nodes)))
        for rank in range(nodes)
    }
    assert shards == all_shards(nodes)


@pytest.mark.slow
def test_pods_of_kubernetes_fill_stores_that_are_merged_to_the_whole(started, folder, tmp_path, run):
    assert KUBERNETES["spec"]["completionMode"] == "Indexed"
    folder(20, "photos")
    count = KUBERNETES["spec"]["completions"]
    encoder = f"--encoder glove-100 --weights glove-100={vectors_file(tmp_path / 'vectors.txt')}"

    def here(text):
        text = text.replace("/shared/", f"{tmp_path}/").replace("--encoder clip-vit-l", encoder)
        return text.replace(f"/{count}", "/3").replace("--log-format json ", "")

    shards = set()
    for pod in range(3):
        (words,) = started(here(POD["args"][0]), JOB_COMPLETION_INDEX=str(pod))
        run(*words)
        shards.add(shard_of(words))
    assert shards == all_shards(3)
    (merging,) = [text for text in SHELL if "store merge" in text]
    (words,) = started(here(merging))
    run(*words)
    report = json.loads(run(*started(here(LAST))[0], "--json").stdout)["features"]["glove-100/mean"]
    assert report == {"encoded": 0, "present": 20, "failed": 0}


@pytest.mark.slow
def test_partitions_of_spark_fill_stores_that_are_merged_to_the_whole(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STORES", str(tmp_path / "stores"))
    (source,) = [text for language, text in BLOCKS if language == "python"]
    names = {}
    exec(source, names)  # the code of the page
    root = folder(9)
    images = sorted(map(str, (root / "data").iterdir()))
    (root / "data" / "broken.png").write_bytes(b"no image")
    rows = pd.DataFrame({"id": range(10), "image": [*images, str(root / "data" / "broken.png")]})
    for _ in range(2):  # a task that runs again
        results = pd.concat(
            [*names["encode_rows"](iter([rows[:4], rows[4:6]])), *names["encode_rows"](iter([rows[6:]]))]
        )
    assert results["rows"].tolist() == [4, 2, 4]
    assert [Path(name).name for name in results["failed"]] == ["", "", "broken.png"]
    store = Store(tmp_path / "store")
    for path in sorted((tmp_path / "stores").iterdir()):
        merge(store, Store(path))
    report = encode(root, ["efficientnet-lite0"], store, progress=False)
    assert report.features["efficientnet-lite0/pooled"].encoded == 0
