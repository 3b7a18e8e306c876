"""Control characters in names are printed as escape sequences."""

import click
import pytest
from click.testing import CliRunner

from encode_once.cache.errors import DataError, UsageError
from encode_once.cache.options import Verbs, print_result, say, warn
from encode_once.cache.terminal import one_line, printable
from encode_once.cache.text_table import table_text

ODD = "\x1b]0;x\a\x1b[31m\x9b1mred\u202egnp.jpg\udcff\n\t\r"
ESCAPED = r"\x1b]0;x\x07\x1b[31m\x9b1mred\u202egnp.jpg\xff\n\t\r"


def test_what_a_terminal_interprets_is_escaped_and_all_else_unchanged():
    assert one_line(ODD) == ESCAPED
    assert printable("a\nb\x1b") == "a\nb\\x1b"
    plain = "Zürich 猫 👩‍👩‍👧 \u00a0 C:\\new"
    assert one_line(plain) == plain


@pytest.mark.parametrize("error", [DataError(ODD), UsageError(ODD), OSError(ODD), MemoryError(ODD)])
def test_errors_messages_and_tables_are_escaped(error):
    @click.group(cls=Verbs)
    def group():
        pass

    @group.command()
    def verb():
        say(ODD)
        warn([ODD])
        print_result(None, False, lambda: table_text([{"name": ODD, "n": 1}, {"name": "b", "n": 2}]))
        raise error

    result = CliRunner().invoke(group, ["verb"])
    assert result.stderr.count(ESCAPED) == 3
    assert result.stdout.splitlines()[1] == f"{ESCAPED}  1"
    assert not {"\x1b", "\a", "\x9b", "\u202e", "\t"} & set(result.output)
