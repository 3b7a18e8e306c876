"""Mistakes that people make: each gets one clear line that says what to do, and loses nothing."""

import shlex
import shutil

import pytest
from click.testing import CliRunner

from encode_once.cli import main
from tests.conftest import files_of, picture, vectors_file

pytestmark = pytest.mark.xdist_group("mistakes")  # the folder is made once
LONGEST = 400  # characters of a line of an error: more is a wall of text
MOST_LINES = 5  # with the usage and the pointer to --help

# What was typed, the exit status, and words of the answer.
MISTAKES = [
    ("extract", 2, "name an encoder with --encoder"),
    ("extract --encoder clip", 2, "'clip-vit-l'"),
    ("extract --encoder CLIP-VIT-L", 2, "did you mean 'clip-vit-l'?"),
    ("extract --encoder nothing", 2, "clip-vit-l, "),
    ("extract --encoder glove-100", 1, "--weights glove.6B.100d.txt"),
    ("extract --encoder glove-100 --weights nothere.txt", 1, "nothere.txt: No such file"),
    ("extract --encoder glove-100 --weights photo.jpg", 1, "use another --store"),
    ("extract --encoder glove-100=v.txt", 2, "did you mean 'glove-100'?"),
    ("extract --encoder glove-100 --weights v.txt --data inptu", 1, "did you mean 'input'?"),
    ("extract --encoder glove-100 --weights v.txt --data empty", 1, "empty"),
    ("extract --encoder glove-100 --weights v.txt --data notes.txt", 1, "notes.txt"),
    ("extract --encoder glove-100 --weights v.txt --data photo.jpg", 1, "photo.jpg"),
    ("extract --encoder glove-100 --weights v.txt --data ragged.csv", 1, "ragged.csv:3"),
    (
        "extract --encoder glove-100 --weights v.txt --label-column Tgs",
        2,
        "choose from ImageID, Labels, Caption",
    ),
    ("extract --encoder glove-100 --weights v.txt --caption-column caption", 2, "did you mean 'Caption'?"),
    ("extract --encoder glove-100 --weights v.txt --images nodir", 1, "nodir: no such image folder"),
    ("extract --encoder glove-100 --weights v.txt --shard 3/2", 2, "write I/N, such as 1/4"),
    ("extract --encoder glove-100 --weights v.txt --shard x", 2, "write I/N"),
    ("extract --encoder glove-100 --weights v.txt --batch-size 0", 2, "0 is not in the range"),
    ("extract --encoder glove-100 --weights v.txt --workers -1", 2, "-1 is not in the range"),
    ("extract --encoder glove-100 --weights v.txt --device cuda", 2, "torch finds no GPUs"),
    ("extract --encoder glove-100 --weights v.txt --device gpu", 2, "choose from auto, cpu, cuda"),
    ("extract --encoder glove-100 --encoder glove-200 --weights v.txt", 2, "ENCODER=v.txt"),
    ("extract --encoder resnet18", 2, "did you mean 'resnet50'?"),
    ("extract --encoder timm:nothing", 2, "has no model nothing"),
    ("extract --encoder onnx:nothing.onnx", 1, "nothing.onnx: No such file"),
    ("extract --encoder open_clip:ViT-S-32-alt", 2, "names no weights"),
    ("extract --encodr x", 2, "'--encoder'"),
    ("extrac --encoder x", 2, "'extract'"),
    ("fit --head MLP", 2, "did you mean 'mlp'?"),
    ("fit --head mpl", 2, "did you mean 'mlp'?"),
    ("fit --head logistic", 2, "did you mean 'linear'?"),
    ("fit --head linear --features glove", 2, "'glove-100/mean'"),
    ("fit --head linear --features glove-100/meen", 2, "did you mean 'glove-100/mean'?"),
    ("fit --head linear --features clip-vit-l/image", 2, "choose from glove-100/mean"),
    ("fit --head linear --features a/b/c", 2, "a/b/c"),
    ("fit --head linear --split 0.2", 2, "did you mean 'stratified:0.2'?"),
    ("fit --head linear --split tail:3000", 1, "60 of 60 rows"),
    ("fit --head linear --split kfold:1", 1, "2 to 60 folds"),
    ("fit --head linear --split random:2", 1, "between 0 and 1"),
    ("fit --head linear --split Photographer", 2, "choose from stratified:0.1"),
    ("fit --head linear --groups nothing", 2, "choose from content, none"),
    ("fit --head linear --tune precision:2", 2, "from 0 to 1"),
    ("fit --head linear --tune makro", 2, "did you mean 'macro'?"),
    ("fit --head linear --tune by-hand", 2, "--from FILE"),
    ("fit --head mlp --set dropout=abc", 2, "option dropout of head mlp must be a number"),
    ("fit --head mlp --set dropout=1.5", 2, "not 1.5"),
    ("fit --head mlp --set hidden=512", 2, "must be a list"),
    ("fit --head mlp --set epochs=0", 2, "whole number ≥ 1"),
    ("fit --head mlp --set learning_rate=10", 2, "not 10"),
    ("fit --head mlp --set nope=1", 2, "choose from epochs"),
    ("fit --head mlp --set dropout", 2, "NAME=VALUE"),
    ("fit --head mlp --set device=cuda", 2, "torch finds no GPUs"),
    ("fit --head knn --set k=5", 2, "did you mean 'ks'?"),
    ("fit --head linear --run runs/a", 1, "--overwrite"),
    ("fit --head linear --run notes.txt", 1, "is not a run: choose another folder"),
    ("fit --head linear --run input", 1, "is not a run: choose another folder"),
    ("fit --head linear --store nostore", 1, "run extract"),
    ("fit --head linear --data nodata", 1, "run extract"),
    ("fit --head linear --seed x", 2, "not a valid integer"),
    ("fit --head linear --validation none", 2, "choose from auto, tenth, folds"),
    ("fit --head linear --scale big", 2, "choose from auto, column"),
    ("fit --head linear --budget 5", 2, "budget"),
    ("fit --head linear --at-least 5 --at-most 2", 2, "at least 5 and at most 2"),
    ("fit --head linear --ignore EO90", 2, "did you mean 'EO0"),
    ("fit --head linear --track wandb", 2, "choose from tensorboard, mlflow"),
    ("tune runs", 1, "it holds the runs runs/a"),
    ("tune runs/zzz", 1, "is not a run"),
    ("tune runs/broken", 1, "run.json"),
    ("tune runs/a --objective makro", 2, "did you mean 'macro'?"),
    ("tune runs/a --calibrate nope", 2, "did you mean 'none'?"),
    ("tune runs/a --from few.json", 1, "no threshold of: bird, boat, bus, car, cat"),
    ("tune runs/a --from notes.txt", 1, '"thresholds": {class: number}'),
    ("tune runs/a --from nothere.json", 1, "nothere.json is missing"),
    ("tune runs/a --from few.json --objective micro", 2, "are not tuned, so that objective has no effect"),
    ("evaluate runs", 1, "it holds the runs runs/a"),
    ("evaluate runs/a runs/b", 1, "--anyway"),
    ("evaluate runs/a runs/a", 2, "each once"),
    ("evaluate runs/a --data photoz --trust", 1, "photoz: no such file or folder"),
    ("evaluate runs/a --data unlabelled --trust", 1, "no labels to measure against"),
    ("evaluate runs/a --differences d.csv", 2, "two runs or more"),
    ("evaluate runs/a --keep-text", 2, "--keep-text: for --data: nothing is encoded without"),
    ("evaluate runs/a --store other --device cpu", 2, "--store, --device: for --data: nothing is encoded"),
    ("evaluate runs/a --excel-safe", 2, "--excel-safe: for the file that --differences writes"),
    ("evaluate runs/a --table test", 2, "--table: for --data: nothing is encoded without"),
    ("report runs/a --gallery 3", 2, "--gallery: for the page that -o FILE writes"),
    ("report runs/zzz", 1, "is not a run"),
    ("report runs/a --ignore EO999", 2, "did you mean 'EO0"),
    ("predict runs/a", 1, "--trust"),
    ("predict runs/a --data photoz --trust", 1, "photoz: no such file or folder"),
    ("predict runs/a photo.jpg --data input --corrections c.csv", 2, "--data, --corrections: for the rows"),
    ("predict runs/a --table tset --trust", 2, "train"),
    ("predict runs/a --scores s.xls", 2, ".csv or .jsonl or .parquet"),
    ("export runs/zzz", 1, "is not a run"),
    ("audit runs/zzz", 1, "is not a run"),
    ("audit runs/a --thumbnails 3", 2, "--thumbnails: for the page that -o FILE.html writes"),
    ("audit runs/a --near 2", 2, "not in the range"),
    ("sweep --head lineer", 2, "did you mean 'linear'?"),
    ("sweep --head linear --set mlp.dropout=0.3", 2, "mlp"),
    ("sweep --head linear --set linear.nope=1", 2, "choose from Cs"),
    ("sweep --head linear --by f1", 2, "choose from micro_f1"),
    ("ablate runs/zzz", 1, "is not a run"),
    ("recipe show glove", 2, "'glove-bilstm'"),
    ("recipe run nothing", 2, "unknown recipe 'nothing'"),
    ("store info glove-100/meen", 2, "did you mean 'glove-100/mean'?"),
    ("store export glove-100/mean --to npy --table nothing", 2, "unknown table of store 'nothing'"),
    ("store export glove-100/mean --to csv", 2, "unknown format 'csv': choose from lance, npy, parquet"),
    ("store list --store nostore", 1, "nostore is not a store: run extract first"),
    ("store merge nostore", 1, "nostore"),
    ("store verify nothing/x", 2, "choose from glove-100/mean"),
    ("store drop nothing", 2, "choose from glove-100/mean"),
    ("bench nothing", 2, "No such command 'nothing'"),
    ("heads nothing", 2, "unknown head 'nothing'"),
    ("encoders nothing", 2, "unknown encoder 'nothing'"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data, a store, runs, and files that are none of these."""
    root = tmp_path_factory.mktemp("place")
    words = ["dog", "cat", "car", "bus", "boat", "bird"]
    for name, n in (("input", 60), ("unlabelled", 12)):
        (root / name / "data").mkdir(parents=True)
        lines = ["ImageID,Caption" if name == "unlabelled" else "ImageID,Labels,Caption"]
        for row in range(n):
            picture(row, (40, 40)).save(root / name / "data" / f"{row}.png")
            first, second = words[row % 6], words[(row // 6) % 6]
            labels = [] if name == "unlabelled" else [" ".join(dict.fromkeys([first, second]))]
            lines.append(",".join([f"{row}.png", *labels, f"a {first} and a {second} {row}"]))
        (root / name / "train.csv").write_text("\n".join(lines) + "\n")
    vectors_file(root / "v.txt")
    (root / "empty").mkdir()
    (root / "notes.txt").write_text("hello")
    (root / "photo.jpg").write_bytes(b"\xff\xd8")
    (root / "ragged.csv").write_text("id,labels,caption\n1,a,x\n2,b\n3,b,y,z,w\n")
    (root / "few.json").write_text('{"thresholds": {"dog": 0.4}}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for line in (
            "extract --encoder glove-100 --weights v.txt",
            "fit --head linear --run runs/a --validation tenth",
            "fit --head linear --run runs/b --split tail:20 --validation tenth",
        ):
            assert CliRunner().invoke(main, shlex.split(line)).exit_code == 0
    (root / "runs" / "broken").mkdir()
    (root / "runs" / "broken" / "run.json").write_text("{")
    yield root
    shutil.rmtree(root)


def kept_files(place):
    """All files but those that a command may change: what was read, and the run's own vectors of new rows."""
    own = place / "runs" / "a" / "store"
    files = files_of(place).items()
    return {
        path: content for path, content in files if path.name != "files.sqlite" and own not in path.parents
    }


@pytest.mark.parametrize(("typed", "status", "answer"), MISTAKES, ids=[typed for typed, *_ in MISTAKES])
def test_a_mistake_gets_one_clear_line_and_loses_nothing(typed, status, answer, place, monkeypatch):
    monkeypatch.chdir(place)
    before = kept_files(place)
    result = CliRunner().invoke(main, shlex.split(typed), prog_name="encode-once")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.output
    error = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(error) == 1, result.stderr
    assert answer in error[0]
    assert len(error[0]) <= LONGEST
    after = kept_files(place)
    assert {path: after.get(path) for path in before} == before
    added = {path.relative_to(place).parts[0] for path in after.keys() - before.keys()}
    assert added <= {"store", "runs"}


def test_a_usage_error_points_to_the_help_of_its_own_command(place, monkeypatch):
    monkeypatch.chdir(place)
    for typed in ("fit --head mpl", "recipe show nothing", "store info nothing"):
        verb = typed.split(" --")[0].removesuffix(" nothing")
        lines = CliRunner().invoke(main, shlex.split(typed), prog_name="encode-once").stderr.splitlines()
        assert lines[0].startswith(f"Usage: encode-once {verb} ")
        assert lines[1] == f"Try 'encode-once {verb} --help' for help."
        assert len(lines) <= MOST_LINES
