"""Settings from encode-once.toml and from the environment, and which of several counts."""

import json

import click
import pytest
from click.testing import CliRunner

from encode_once.cache import own_code, settings
from encode_once.cache.settings import commands, options
from encode_once.cli import main


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A function that runs a command with settings in a file; returns the values that the command gets."""
    monkeypatch.chdir(tmp_path)

    def run(words, toml="", status=0, name="encode-once.toml", **variables):
        (tmp_path / name).write_text(toml)
        passed = {}
        command = main
        for word in words:
            if not isinstance(command, click.Group):
                break
            command = command.commands.get(word, command)

        def callback(**values):
            passed.update(values)

        with monkeypatch.context() as patch:
            patch.setattr(command, "callback", callback)
            result = CliRunner().invoke(main, words, env=variables)
        assert result.exit_code == status, result.output
        return result if status else (passed, result.stderr)

    return run


def test_the_command_line_comes_before_the_environment_the_file_and_the_default(program):
    toml, variable = "[fit]\nseed = 2\n", {"ENCODE_ONCE_FIT_SEED": "3"}
    assert program(["fit"])[0]["seed"] == 0
    values, stderr = program(["fit"], toml)
    assert (values["seed"], stderr) == (2, "--seed 2 (from encode-once.toml)\n")
    values, stderr = program(["fit"], toml, **variable)
    assert (values["seed"], stderr) == (3, "--seed 3 (from ENCODE_ONCE_FIT_SEED)\n")
    values, stderr = program(["fit", "--seed", "4"], toml, **variable)
    assert (values["seed"], stderr) == (4, "")


def test_every_option_can_be_set_by_its_own_name(program):
    """As words of an option and of its variable; the command that takes it converts the value."""
    toml = """
        [fit]
        features = ["a/b", "c/d"]
        set = "l2=3"
        overwrite = true
        shrink = false
        tune-on = "eval"
        [store.verify]
        quick = true
        [extract]
        captions = ["table", "table+coca-b32"]
        label-column = "tags"
    """
    values, _ = program(["fit"], toml)
    assert values["features"] == ["a/b", "c/d"]
    assert values["settings"] == (("l2", 3),)
    assert (values["overwrite"], values["tune_on"]) == (True, "eval")
    assert values["shrink"] is False
    assert program(["store", "verify"], toml)[0]["quick"] is True
    values, _ = program(["extract"], toml, ENCODE_ONCE_EXTRACT_WORKERS="3", ENCODE_ONCE_EXTRACT_ENCODER="a b")
    assert values["captions"] == ("table", "table+coca-b32")
    assert (values["label_columns"], values["workers"], values["encoders"]) == (("tags",), 3, ("a", "b"))


def test_options_that_mean_the_same_are_set_for_all_commands(program):
    toml = '[all]\nstore = "vectors"\nquiet = true\n[fit]\nstore = "other"\n'
    assert program(["extract"], toml)[0]["store"] == "vectors"
    assert program(["fit"], toml)[0]["store"] == "other"
    assert program(["extract"], toml, ENCODE_ONCE_STORE="third")[0]["store"] == "third"
    assert program(["predict", "runs/a"], toml)[0]["store"] is None  # there it means another store
    assert program(["extract"], toml)[1] == ""  # quiet


def test_variables_of_all_options_differ():
    names = {}
    for path, command in commands(main):
        for option in dict.fromkeys(options(command).values()):
            for variable in option.envvar:
                names.setdefault(variable, set()).add((*path, option.name))
    own = {variable: users for variable, users in names.items() if len(users) > 1}
    assert own.keys() <= {f"ENCODE_ONCE_{name}" for name in ("STORE", "DEVICE", "BACKEND", "EXCEL_SAFE")}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("[fti]\n", "unknown command or table 'fti': did you mean 'fit'?"),
        ("[fit]\nhaed = 1\n", "unknown option in [fit] 'haed': did you mean 'head'?"),
        ("[store.verfy]\n", "unknown command in [store] 'verfy': did you mean 'verify'?"),
        ("[all]\nstor = 1\n", "unknown option in [all] 'stor': did you mean 'store'?"),
        ("[all]\ndata = 'x'\n", "unknown option in [all] 'data'"),
        ("seed = 3\n", "unknown command or table 'seed'"),
        ("fit = 3\n", "fit is a table of options, [fit]"),
        ("all = 3\n", "all is a table of options"),
        ("[fit]\nseed = {a = 1}\n", "seed in [fit] is a text, a number"),
        ("[fit\n", "is not a TOML file"),
        ("a = " + "[" * 5000, "is not a TOML file"),
        ("a = '\udcff'", "is not a TOML file"),
        ("[fit]\nsettings = 'x'\n", "unknown option in [fit] 'settings'"),
        ("[fit]\nseed = 'three'\n", "'three' is not a valid integer. (from encode-once.toml)"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path, monkeypatch, toml, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encode-once.toml").write_bytes(toml.encode("utf-8", "surrogateescape"))
    result = CliRunner().invoke(main, ["fit"])
    assert result.exit_code == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error")]
    assert message in line
    assert "encode-once.toml" in line


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("monitor", "trust = true"),
        ("extract", 'weights = "vit.pt"'),
        ("fit", 'head = "own.py:Head"'),
        ("fit", "set = ['loss=own.py:Loss']"),
        ("fit", """set = ['heads=["linear", "own.py:Head"]']"""),
        ("extract", 'encoder = "own.py:Encoder"'),
        ("extract", 'encoder = "onnx:net.onnx"'),
        ("extract", 'encoder = ["clip-vit-l", "timm:hf-hub:stranger/net"]'),
        ("extract", 'captions = "table+captioner:folder"'),
        ("predict", 'output = "/etc/passwd"'),
        ("predict", 'output = "../labels.csv"'),
        ("predict", 'output = "out/labels.csv"'),  # through a link
        ("fit", 'split = "lists:/etc/hosts,b.txt"'),
        ("extract", "images = 'train=/home'"),
        ("fit", 'run = "~/run"'),
        ("all", 'store = "/data/store"'),
        ("all", 'store = "s3://bucket/store"'),
        ("fit", r"""set = ['prompts="\u002ftmp/x.json"']"""),
        ("sweep", r"""set = ['mlp.loss=["own\u002epy:Loss"]']"""),
        ("fit", 'run = "a=link/run"'),  # through a link with a separator in its name
        ("fit", r'split = "a\u0000b"'),
        ("fit", 'hierarchy = "../hierarchy.csv"'),
        ("fit", 'classes = "/etc/hosts"'),
        ("update", 'corrections = "/etc/hosts"'),
        ("rerun", 'run = "../run"'),
        ("fit", 'track = "mlflow"'),
        ("extract", 'data = "s3://bucket/photos.csv"'),
        ("extract", 'images = "train=https://example.com/photos"'),
        ("predict", 'allow-urls = "http://127.0.0.1"'),
    ],
)
def test_a_found_file_names_no_code_and_leads_nowhere_else(program, tmp_path, command, setting):
    for name in ("out", "a=link"):
        (tmp_path / name).symlink_to(tmp_path.parent)
    (tmp_path / "own.py").write_text("raise SystemExit('code ran')")
    toml = f"[{command}]\n{setting}\n"
    result = program(["fit"], toml, 2)
    assert "a file that is only found" in result.stderr
    assert "code ran" not in result.output
    words = [
        command if command != "all" else "extract",
        *(["runs/x"] if command in ("monitor", "predict", "update", "rerun") else []),
    ]
    for named in (["--settings", "mine.toml", *words], words):
        variables = {} if "--settings" in named else {"ENCODE_ONCE_SETTINGS": "mine.toml"}
        (tmp_path / "encode-once.toml").unlink(missing_ok=True)
        values, stderr = program(named, toml, name="mine.toml", **variables)
        assert values
        assert "(from mine.toml)" in stderr


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('head = "own.py:Head"', "head in [fit]: 'own.py:Head' names code or a model, which"),
        ('run = "../run"', "run in [fit]: '../run' leads out of this folder, which"),
        (r"set = ['a=\n']", r"set in [fit]: 'a=\\n' has a backslash, which"),
        (f'classes = "{"a," * 101}"', "has more than 100 parts, which"),
        ('track = "mlflow"', "track in [fit] may not be set by a file that is only found: use the option"),
    ],
)
def test_a_refused_setting_says_which_value_and_why(program, setting, message):
    assert message in program(["fit"], f"[fit]\n{setting}\n", 2).stderr


def test_code_that_only_a_found_file_names_is_not_trusted(program, tmp_path, monkeypatch):
    """Also if the look at its text misses a name, as in a spelling that is decoded later."""
    (tmp_path / "own.py").write_text("")
    monkeypatch.setattr(settings, "_refused_for", lambda name, text: "")
    toml = r"""
        [fit]
        head = "own.py:Head"
        set = ['loss="own\u002epy:Loss"']
    """
    monkeypatch.setattr(own_code, "_meant", {})
    program(["fit"], toml)
    assert own_code.meant("own.py:Loss") is None
    program(["fit", "--set", "loss=own.py:Loss"], toml)
    assert own_code.meant("own.py:Loss")


def test_a_found_file_may_set_no_option_of_text_that_is_not_listed(program):
    """So nobody adds an option with a path without deciding about it."""
    harmless = settings.FOUND | settings.SHARED.keys()
    refused = {
        name
        for _, command in commands(main)
        for name, option in options(command).items()
        if name not in harmless and not settings._is_harmless(name, option)
    }
    assert refused == {"weights", "trust", "track", "file", "size", "results", "results-table", "allow-urls"}


def test_a_file_is_looked_for_in_the_working_folder_only(program, tmp_path, monkeypatch):
    (tmp_path / "encode-once.toml").write_text("[fit]\nseed = 2\n")
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    assert json.loads(CliRunner().invoke(main, ["settings", "--json"]).stdout) == []
    missing = CliRunner().invoke(main, ["--settings", "none.toml", "settings"])
    assert (missing.exit_code, missing.stderr) == (2, "Error: none.toml: there is no such file of settings\n")
    assert CliRunner().invoke(main, ["--settings", "/dev/null", "settings"]).exit_code == 2
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.toml").write_text("")
    result = CliRunner().invoke(main, ["--settings", "empty.toml", "settings", "--json"])
    assert json.loads(result.stdout) == []


def test_settings_are_listed_with_their_source_and_unknown_variables_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encode-once.toml").write_text('[all]\nstore = "vectors"\n[fit]\nseed = 2\nset = ["l2=3"]\n')
    env = {"ENCODE_ONCE_FIT_SEED": "7", "ENCODE_ONCE_FIT_SED": "8", "ENCODE_ONCE_MAX_TEXT_MB": "64"}
    result = CliRunner().invoke(main, ["settings", "--json"], env=env)
    rows = {row["option"]: row for row in json.loads(result.stdout)}
    assert rows["--seed 7"] == {"option": "--seed 7", "source": "ENCODE_ONCE_FIT_SEED", "commands": ["fit"]}
    assert rows["--set l2=3"]["source"] == "encode-once.toml"
    assert {"extract", "fit", "store verify"} <= {*rows["--store vectors"]["commands"]}
    warnings = [line for line in result.stderr.splitlines() if line.startswith("warning")]
    assert warnings == [
        "warning: unknown variable 'ENCODE_ONCE_FIT_SED': did you mean 'ENCODE_ONCE_FIT_SEED'?; it is ignored"
    ]
    assert "--store vectors" in CliRunner().invoke(main, ["settings"], env=env).stdout
