"""The documents: commands run, links lead somewhere, measured tables are those of the results files."""

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import redirect_stdout, suppress
from importlib.util import find_spec

import click
import fsspec
import pytest
from click.testing import CliRunner

from encode_once.classify.heads import HEADS
from encode_once.cli import main
from encode_once.extract.encoders import listed
from tests.conftest import WORDS, picture, shorten_fits, vectors_file
from tests.doc_pages import (
    PAGES,
    ROOT,
    anchors,
    blocks,
    commands,
    inline_commands,
    links,
    name_of,
    run_commands,
    text_of,
)
from tests.extract.readers.writers import WRITERS, Sample, captioned_images

# Not run, with the reason; their options are checked all the same.
NOT_RUN = {
    r"pip install|^make ": "sets up environments or runs the tests; targets are checked below",
    r"clip-vit|coca": "weights from a hub",
    r"--set prompts=": "vectors of a hub's text encoder",
    "bench heads --data": "published data sets",
    r"docs/notebook\.py": "tests/test_notebook.py runs it",
    r"coco19-9k|table\.toml|runs/table": "nine thousand photographs",
    r"multilabel/|published\.toml|runs/published|--features delicious": "published data sets",
    "--prevalence": "it takes 50 rows; tests/test_cli.py has them",
    "price_list|products-store": "a thousand pictures; tests/test_price_list.py has fewer",
}
# Blocks of Python that are not run, with the reason.
PYTHON_NOT_RUN = {
    r"import fiftyone": "it starts a database and a browser",
    r"upload_folder\(": "writes to a hub",
}
# Blocks of Python that import one of these are run where it is installed.
OPTIONAL = ("duckdb", "faiss", "lance", "polars", "usearch")
SLOW_PAGES = {
    "benchmarks.md",
    "deploy.md",
    "encoders.md",
    "evaluation.md",
    "experiments.md",
    "extending.md",
    "object-stores.md",
    "services.md",
    "thresholds.md",
}
# Run under the marker `real`.
SLOW = {
    r"^python cli\.py demo": "three minutes",
    "bench (memory|start)": "a process for each figure",
    "bench report": "a browser",
    "bench heads --store": "a process for each fit",
    "fit --head auto": "many fits",
    "bench intervals": "thousands of simulated samples",
}


def listed_commands(group, path=()):
    for name, command in group.commands.items():
        if command.hidden or command.deprecated:
            continue
        if isinstance(command, click.Group):
            yield from listed_commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(listed_commands(main))
ALL_TEXT = "\n".join(map(text_of, PAGES))
EXECUTED = {command for page in PAGES for command in run_commands(page)}
MENTIONED = {command for page in PAGES for command in inline_commands(page)}


def reason(command, reasons):
    return next((why for pattern, why in reasons.items() if re.search(pattern, command)), None)


def is_slow(command):
    """Whether a command is run with the real data."""
    return reason(command, SLOW) and not reason(command, NOT_RUN)


def arguments(command):
    """The words after `python cli.py` or `encode-once`; None for another program."""
    words = shlex.split(command)
    if words[:2] == ["python", "cli.py"]:
        return words[2:]
    return words[1:] if words[0] == "encode-once" else None


def parse(words):
    """Let click parse a command without running it; returns the name it goes by."""
    command, context, name = main, click.Context(main, info_name="cli.py"), []
    words = [word for word in words if word not in ("--quiet", "--log-format=json")]  # options of the group
    while isinstance(command, click.Group):
        key, command, words = command.resolve_command(context, list(words))
        name.append(key)
        context = click.Context(command, info_name=key, parent=context)
    try:
        with suppress(click.exceptions.Exit), redirect_stdout(None):  # --help and --list end here
            command.make_context(name[-1], list(words), parent=context.parent)
    except click.BadParameter as error:
        if not error.format_message().endswith("does not exist."):  # a file that the page writes before
            raise
    return " ".join(name)


# ------------------------------------------------------------------------------------ every command runs


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """A folder with what the pages suppose: data in every container, a store and two runs."""
    root = tmp_path_factory.mktemp("docs") / "place"
    root.mkdir()

    def samples(first, count, suffix="png"):
        for row in range(first, first + count):
            names = list(dict.fromkeys([WORDS[row % 6], WORDS[(row // 6) % 6]]))
            path = root / f"{row}.{suffix}"
            picture(row, (40 + row % 7, 40 + row % 5)).save(path)
            content = path.read_bytes()
            path.unlink()
            yield Sample(path.name, content, [f"a {names[0]} and a {names[-1]}, {row}"], names)

    def plain(name, **splits):
        for split, rows in splits.items():
            (root / name / "data").mkdir(parents=True, exist_ok=True)
            with (root / name / f"{split}.csv").open("w") as file:
                label = "Labels," if split == "train" else ""
                file.write(f"ImageID,{label}Photographer,Caption\n")
                for number, sample in enumerate(rows):
                    (root / name / "data" / sample.name).write_bytes(sample.content)
                    label = f"{' '.join(sample.labels)}," if split == "train" else ""
                    file.write(f'{sample.name},{label}p{number // 3},"{sample.captions[0]}"\n')

    plain("input", train=samples(0, 90), test=samples(90, 8))
    plain("more-photos", train=samples(100, 30))
    WRITERS["coco"](root / "coco2017", {"train2017": [*samples(200, 12)], "val2017": [*samples(212, 6)]})
    WRITERS["web_dataset"](root / "shards", {"train": [*samples(220, 8)]})
    WRITERS["hugging_face"](root / "saved", {"train": [*samples(230, 8)]})
    captioned_images(root / "photos", [*samples(240, 4)])
    _parquet(root / "photos.parquet", [*samples(250, 8)])
    _labelled_tables(root)
    vectors_file(root / "glove.6B.100d.txt")
    _arff(root)
    (root / "corrections.csv").write_text("split,id,label,decision\ntrain,0.png,bird,add\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        shorten_fits(patch)
        run("extract --encoder efficientnet-lite0 --encoder glove-50")
        run("fit --head mlp --set epochs=5")
        run("fit --head linear --features glove-50/mean --run runs/captions-only")
    return shutil.copytree(root, root.with_name("as-made"))


def _labelled_tables(root):
    """One column for each class, and names between commas."""
    classes = ["Edema", "Effusion", "No Finding"]
    with (root / "xrays.csv").open("w") as file:
        file.write(f"id,Age,Sex,caption,{','.join(classes)}\n")
        for row in range(24):
            flags = ",".join("1" if row % 5 == c else "-1" if row % 7 == c else "0" for c in range(3))
            file.write(f"{row},{40 + row},F,a chest {row},{flags}\n")
    with (root / "garments.csv").open("w") as file:
        file.write("id,caption,labels,Colours,Summer,Winter\n")
        for row in range(30):
            kind, colour = ("shirt", "coat")[row % 2], ("red", "blue", "red / blue")[row % 3]
            file.write(f"{row},a {colour} {kind} {row},{kind},{colour},{row % 4 != 0:d},{row % 2}\n")
    with (root / "products.csv").open("w") as file:
        file.write("id,caption,tags\n")
        for row in range(24):
            tags = ", ".join(["hand bag", "shoes", "running shoes"][: row % 3 + 1])
            file.write(f'{row},a product {row},"{tags}"\n')


def _parquet(path, samples):
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "image": [sample.content for sample in samples],
        "alt": [sample.captions[0] for sample in samples],
        "tags": ["|".join(sample.labels) for sample in samples],
    }
    parquet.write_table(pa.table(columns), path)


def _arff(root):
    head = ["@relation 'scenes: -C -2'", "@attribute red numeric", "@attribute blue numeric"]
    head += ["@attribute beach {0,1}", "@attribute forest {0,1}", "@data"]
    for split, rows in {"train": 40, "test": 10}.items():
        lines = [f"{row / 7},{-row / 3},{row % 2},{int(row % 3 > 0)}" for row in range(rows)]
        (root / f"scene-{split}.arff").write_text("\n".join([*head, *lines]) + "\n")


def run(words):
    result = CliRunner().invoke(main, shlex.split(words))
    assert result.exit_code == 0, f"{words}: {result.output}"


@pytest.fixture
def place(workspace, monkeypatch):
    """The workspace as it was made, as working folder; a store knows its tables by their paths."""
    folder = workspace.with_name("place")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(workspace, folder)
    monkeypatch.chdir(folder)
    return folder


def outcome(command):
    """The exit status of a command, and what it prints."""
    words = arguments(command)
    if words is not None:
        result = CliRunner().invoke(main, words)
        return result.exit_code, result.output
    program, *rest = shlex.split(command)
    assert program == "python", f"{command}: not a command of this project, nor in NOT_RUN"
    done = subprocess.run([sys.executable, *rest], cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stderr


def is_run(page):
    """Whether a page has commands or examples of Python."""
    return bool(run_commands(page)) or any(language == "python" for language, _ in blocks(page))


def marked(page):
    """A page as a parameter; those of many seconds are run by `make real`."""
    return pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if page.name in SLOW_PAGES else [])


@pytest.mark.parametrize("page", [marked(page) for page in PAGES if is_run(page)])
@pytest.mark.usefixtures("fit_once")
def test_the_commands_and_examples_of_a_page_run_in_order(page, place, request):
    if "s3://" in "".join(run_commands(page)):
        request.getfixturevalue("s3_server")
        fsspec.filesystem("s3").mkdir("bucket")
    names = {}
    for language, block in blocks(page):
        file = re.match(r"# (\w[\w-]*\.(?:py|toml))\n", block)
        if file:
            (place / file[1]).write_text(block)
        elif language == "python" and not (reason(block, PYTHON_NOT_RUN) or missing_library(block)):
            exec(compile(block, name_of(page), "exec"), names)
        for command in commands(language, block):
            if not (reason(command, NOT_RUN) or reason(command, SLOW) or missing_library(command)):
                status, output = outcome(command)
                assert status == status_in(block, command), f"{command}: {output}"


def status_in(block, command):
    """The exit status of a command: 0, or what a comment behind it says."""
    stated = re.search(re.escape(command) + r" +# exit status (\d+)", block)
    return int(stated[1]) if stated else 0


def missing_library(block):
    """The optional library that a block imports, or a command exports to, and that is not installed."""
    imported = re.findall(r"(?:^(?:import|from)|--to) (\w+)", block, re.M)
    return next((name for name in imported if name in OPTIONAL and not find_spec(name)), None)


@pytest.mark.parametrize("library", OPTIONAL)
def test_the_examples_of_a_library_are_run(library):
    pytest.importorskip(library)
    assert re.search(rf"^(?:import|from) {library}\b", ALL_TEXT, re.M)


@pytest.mark.real
@pytest.mark.parametrize("command", sorted(filter(is_slow, EXECUTED | MENTIONED)))
def test_slow_commands_run(command, place):
    status, output = outcome(command)
    assert status == 0, output


@pytest.mark.parametrize("command", sorted(EXECUTED | MENTIONED))
def test_click_accepts_every_command_of_every_page(command):
    words = arguments(command)
    if words is None:
        assert command.startswith("make ") or reason(command, NOT_RUN) or command in EXECUTED, command
    elif "RUN" not in words:
        parse(words)


def test_a_command_that_is_only_mentioned_has_a_verb_that_is_run():
    """Commands at full size, such as those of measured tables, are not run; smaller ones are."""
    verbs = {parse(words) for c in EXECUTED if not reason(c, NOT_RUN) and (words := arguments(c)) is not None}
    for command in MENTIONED - EXECUTED:
        words = arguments(command)
        if words is not None and not reason(command, SLOW):
            assert parse(words) in verbs, command


def test_what_is_not_run_is_still_written_somewhere():
    for pattern in [*NOT_RUN, *SLOW]:
        assert any(re.search(pattern, command) for command in EXECUTED | MENTIONED), pattern
    for pattern in PYTHON_NOT_RUN:
        assert re.search(pattern, ALL_TEXT), pattern


# ------------------------------------------------------------------------------ what is there is documented


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_documented_with_help_and_example(name):
    words = name.split()
    shown = (arguments(command) or [] for command in EXECUTED | MENTIONED)
    assert any(start[: len(words)] == words for start in shown), f"no page shows cli.py {name}"
    assert COMMANDS[name].help


def test_every_encoder_and_head_is_in_its_table():
    encoders, heads = text_of(ROOT / "docs/encoders.md"), text_of(ROOT / "docs/heads.md")
    for name, _ in listed():
        assert f"`{name.removesuffix('…')}" in encoders, name
    for name in HEADS:
        assert f"| `{name}`" in heads, name


def test_make_targets_named_in_the_pages_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"^(?:PY=\S+ )?make (\w+)|`(?:PY=\S+ )?make (\w+)`", ALL_TEXT, re.M)
    assert {name for pair in named for name in pair if name} <= set(targets)


def test_readme_fits_on_a_few_screens_and_names_the_two_commands():
    readme = text_of(ROOT / "README.md")
    assert len(readme.splitlines()) <= 200
    assert "python cli.py extract --encoder clip-vit-l\npython cli.py fit --head mlp\n" in readme


def test_the_index_leads_to_every_page():
    index = ROOT / "docs/index.md"
    targets = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert {page for page in PAGES if page != index} <= targets


# ------------------------------------------------------------------------------------------ links and tables


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_an_anchor(page):
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path), link


def tables(*options):
    return subprocess.run(
        [sys.executable, ROOT / "docs/tables.py", *options], cwd=ROOT, capture_output=True, text=True
    )


def test_the_measured_tables_are_those_of_the_results_files():
    done = tables("--check")
    assert done.returncode == 0, done.stderr


def test_every_results_file_is_shown_and_says_where_it_comes_from():
    shown = re.findall(r"^<!-- table: ([\w-]+) -->$", ALL_TEXT, re.M)
    results = ROOT / "docs/results"
    files = {path.stem: json.loads(path.read_text()) for path in results.glob("*.json")}
    with (results / "results.csv").open(newline="") as file:
        for row in csv.DictReader(file):  # the last row stands for the table
            files[row["table"]] = {"title": row["table"], **row}
    layouts = tomllib.loads((results / "tables.toml").read_text())
    files |= {name: files[name] | layout for name, layout in layouts.items()}
    assert sorted(shown) == sorted(files)
    for name, result in files.items():
        assert all(result[key] for key in ("title", "machine", "date", "commit")), name
        assert result["command"] or "script, which is not part of the program" in result["title"], name
    values = {*re.findall(r"<!-- value: ([\w/-]+) -->", ALL_TEXT)}
    assert values == {f"{name}/{key}" for name, result in files.items() for key in result.get("values", {})}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_measured_figures_in_sentences_come_from_results_files(page):
    """Such as 0.8314 or 74 s: outside tables, code and figures that are written from a results file."""
    text = page.read_text()
    written = (
        r"```.*?```",
        r"<!-- (?:table|value): .*?<!-- end -->",
        r"`[^`\n]*`",
        r"^\|.*?$",
        r"\]\([^)]*\)",
    )
    for part in written:
        text = re.sub(part, "", text, flags=re.DOTALL | re.MULTILINE)
    figures = re.findall(r"\b0?\.\d{3,}\b|\b\d[\d,.]* (?:s|ms)\b", text)
    assert {*figures} <= {"0.0001", "0.00001"}, page.name  # units of differences


def test_a_table_that_edited_by_hand_is_reported_and_written_again(tmp_path):
    root = tmp_path / "project"
    shutil.copytree(ROOT / "docs", root / "docs")
    shutil.copy(ROOT / "README.md", root)
    page = root / "docs/benchmarks.md"
    before = page.read_text()
    page.write_text(before.replace("| 15.4 |", "| 99.9 |").replace(">±0.014<", ">±0.5<"))
    script = [sys.executable, root / "docs/tables.py"]
    check = subprocess.run([*script, "--check"], capture_output=True, text=True)
    assert (check.returncode, check.stderr) == (1, "docs/benchmarks.md: differs from docs/results\n")
    assert subprocess.run(script, capture_output=True).returncode == 0
    assert page.read_text() == before


def test_the_import_graph_sees_what_packages_import(tmp_path):
    for name, code in {
        "cache/__init__.py": "from encode_once.cache.keys import f",
        "cache/keys.py": "import os",
        "extract/__init__.py": "from . import encoders\nfrom ..cache.keys import f",
        "extract/encoders/__init__.py": "from encode_once.cache import keys, f\nimport encode_once.cache",
        "classify/__init__.py": "def late():\n    from encode_once import cache",
        "cli.py": "import classify, extract.encoders",
        "tests/import_graph.py": (ROOT / "tests/import_graph.py").read_text(),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    script = [sys.executable, tmp_path / "tests/import_graph.py", "--dot"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r'"(\S+)" -> "(\S+)" \[label=(\d)\]', printed)) == {
        ("extract", "extract/encoders", "1"),
        ("extract", "cache", "1"),
        ("extract/encoders", "cache", "3"),
        ("classify", "cache", "1"),
        ("cli.py", "classify", "1"),
        ("cli.py", "extract/encoders", "1"),
    }


def test_no_text_names_the_host_of_a_registry():
    hosts = re.compile("py" + r"pi\.org|python" + "hosted")
    for path in [*ROOT.glob("*.*"), *ROOT.glob("docs/**/*.*"), ROOT / "Makefile", ROOT / ".ci" / "run"]:
        if path.is_file():
            assert not hosts.search(path.read_text(errors="replace")), path
