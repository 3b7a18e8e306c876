"""Who may import whom: extract → cache ← classify, deploy → all; inside a room, only what comes before."""

import ast
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from tests import import_graph

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "cache": {"cache"},
    "extract": {"extract", "cache"},
    "classify": {"classify", "cache"},
    "deploy": {"deploy", "classify", "extract", "cache"},
}
ROOMS = {*MAY_IMPORT, "cli"}
BENCHMARKS = {path.name for room in MAY_IMPORT for path in (ROOT / room / "bench").glob("*.py")}


@cache
def edges():
    """(file, file it imports from) of the whole program."""
    return [*import_graph.edges()]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which room a name is from"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms(path):
    """The rooms a module imports from."""
    names = [name.split(".") for name in imported(path)]
    assert not any(name[0] in ROOMS for name in names), f"{path}: rooms are imported from encode_once"
    return {name[1] for name in names if name[0] == "encode_once"}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_the_arrows_between_the_rooms_hold(room):
    files = list((ROOT / room).rglob("*.py"))
    assert files
    for path in files:
        assert rooms(path) <= MAY_IMPORT[room], path


# Inside a room a folder, or a module next to the folders, imports only what stands before it.
ORDER = {
    "extract": [
        "remote", "images", "readers", "encoders", "compute", "batches", "contents", "workers",
        "distribution",
        "recorded", "ray_engine", "engines", "precisions", "shards", "report", "jobs", "pipeline", "trust",
        "provider", "in_memory", "reencode", "image_files", "transformer", "options", "imports", "doctor",
        "demo", "bench", "commands",
    ],
    "classify": [
        "arrays", "partial", "device", "platt", "data", "heads", "options", "decisions", "spec", "evaluation",
        "runs", "experiments", "pages", "systems", "audit", "report", "migration", "tuning", "monitoring",
        "doctor",
        "bench", "commands",
    ],
    "deploy": [
        "encoding", "options", "inputs", "predictions", "other_data", "predictor", "predict_script",
        "decision_graph", "onnx_file", "run_graph", "onnx_export", "image_policy", "caption_tokens",
        "encoder_graph", "whole_graph", "graph_check", "folder", "run_forgetting", "forget",
        "forget_command", "monitor_command", "service_versions", "service_commands", "update",
        "update_command", "recipe_commands", "check_commands",
        "bench", "commands",
    ],
}  # fmt: skip


@pytest.mark.parametrize("room", ORDER)
def test_inside_a_room_imports_point_to_what_comes_before(room):
    order = ORDER[room]

    def position(path):
        parts = path.relative_to(ROOT).with_suffix("").parts
        return order.index(parts[1]) if parts[0] == room and parts[1] in order else None

    between = [(a, b, position(a), position(b)) for a, b in edges()]
    inside = [edge for edge in between if None not in edge]
    assert len(inside) >= len(order) - 1
    assert [f"{a} imports {b}" for a, b, place, imported in inside if place < imported] == []


def test_no_module_imports_itself_through_others():
    imports = {}
    for path, imported in edges():
        imports.setdefault(path, set()).add(imported)
    order = list(TopologicalSorter(imports).static_order())  # CycleError names the circle
    assert set(order) >= imports.keys()


def test_nothing_imports_the_benchmarks_and_commands_but_the_command_line():
    leaves = {(a.name, b) for a, b in edges() if {"bench", "commands.py"} & {*b.relative_to(ROOT).parts}}
    assert {importer for importer, _ in leaves} <= {"commands.py", "cli.py", *BENCHMARKS}


# What reads, reports and tunes kept runs, and the store, starts without the libraries that fit and encode.
LIGHT = [
    "encode_once",
    "encode_once.cache",
    "encode_once.cache.describe",
    "encode_once.cache.maintenance",
    "encode_once.classify.data.dataset_store",
    "encode_once.classify.evaluation.compare",
    "encode_once.classify.evaluation.tables",
    "encode_once.classify.experiments.recipes.run",
    "encode_once.classify.experiments.recipes.tables",
    "encode_once.classify.runs.predict",
    "encode_once.classify.runs.retune",
    "encode_once.classify.systems.compare",
    "encode_once.classify.tuning",
    "encode_once.cli",
    "encode_once.deploy.other_data",
    "encode_once.extract.encoders",
    "encode_once.heads",
]


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (LIGHT, {"torch", "sklearn", "pandas"}),
        (["encode_once.cli"], {"torch", "sklearn", "numpy", "h5py", "pandas"}),
        (["encode_once"], {"numpy", "click", "h5py", "json"}),
    ],
    ids=["reading runs and stores", "the help texts", "the package"],
)
def test_what_need_not_compute_starts_without_the_libraries_that_do(modules, absent):
    code = f"import sys, {', '.join(modules)}; sys.exit(' '.join({absent} & {{*sys.modules}}) or 0)"
    process = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")


def test_the_wheel_has_every_package_and_no_other():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py")}
    assert set(listed) == {"encode_once", *(".".join(["encode_once", *folder.parts]) for folder in folders)}


@pytest.mark.parametrize("package", ["", ".cache", ".classify", ".deploy", ".extract", ".heads"])
def test_every_public_name_is_imported_when_it_is_used(package):
    module = import_module(f"encode_once{package}")
    assert {*module.__all__} <= {*dir(module)}
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.__getattr__("nothing")
