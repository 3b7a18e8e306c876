"""What the commands of all rooms share."""

import json

import click
from click.testing import CliRunner

from encode_once.cache.options import Setting, grouped, print_result, refuse, verb


def test_grouped_options_reach_the_command_as_one_argument_and_keep_their_order():
    @click.command()
    @click.option("--first")
    @grouped("pair", dict, click.option("--left", default="l"), click.option("--right", type=int))
    @click.option("--last")
    def command(first, pair, last):
        click.echo(repr((first, pair, last)))

    assert [param.name for param in command.params] == ["first", "left", "right", "last"]
    result = CliRunner().invoke(command, ["--right", "3", "--last", "z"])
    assert result.output == "(None, {'left': 'l', 'right': 3}, 'z')\n"


def test_a_setting_is_split_at_its_first_equals_sign_and_its_value_read_as_json():
    convert = Setting().convert
    assert convert("a=1", None, None) == ("a", 1)
    assert convert("a=b=c", None, None) == ("a", "b=c")
    assert convert("hidden=[2, 3]", None, None) == ("hidden", [2, 3])


def test_results_are_valid_json_whatever_numbers_they_hold(capsys):
    content = {"nan": float("nan"), "lists": [[float("inf")], [-float("inf"), 1.5]], "text": "NaN"}
    print_result(content, True, str)
    printed = json.loads(capsys.readouterr().out, parse_constant=lambda constant: constant)
    assert printed == {"nan": None, "lists": [[None], [None, 1.5]], "text": "NaN"}


def test_an_option_without_effect_is_refused_if_passed_and_reported_if_a_setting():
    table_option = click.option("--table", envvar=["OWN_TABLE"])

    @verb()
    @table_option
    def command(table):
        refuse(table_option, why="for --data")

    passed = CliRunner().invoke(command, ["--table", "test"])
    assert (passed.exit_code, "--table: for --data" in passed.stderr) == (2, True)
    result = CliRunner().invoke(command, [], env={"OWN_TABLE": "test"})
    assert result.stderr == "--table test (from OWN_TABLE)\n--table has no effect here: for --data\n"
    assert CliRunner().invoke(command, []).stderr == ""
