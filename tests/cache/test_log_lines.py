"""Messages as lines of JSON: each line is an object, whoever wrote it."""

import io
import json
import sys
import threading
from datetime import UTC, datetime, timedelta

import click

from encode_once.cache.log_lines import JsonLines, json_messages
from encode_once.cache.progress import ProgressBar


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_each_line_has_a_time_a_level_and_a_message(capsys):
    with json_messages():
        click.echo("encoded 3\nwarning: a line\n\n", err=True)
        print("Error: \x1b no file 'ä'", file=sys.stderr)
        print("alarm: x", file=sys.stderr)
        print("EO002: few rows", file=sys.stderr)
        print("failed: 3.png: truncated", file=sys.stderr, end="")
    print("plain", file=sys.stderr)
    *lines, last = capsys.readouterr().err.splitlines()
    lines = records("\n".join(lines))
    assert [(line["level"], line["message"]) for line in lines] == [
        ("info", "encoded 3"),
        ("warning", "a line"),
        ("error", "\x1b no file 'ä'"),
        ("alarm", "x"),
        ("warning", "EO002: few rows"),
        ("error", "failed: 3.png: truncated"),
    ]
    assert last == "plain"
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert all(timedelta(0) <= datetime.now(UTC) - time < timedelta(minutes=1) for time in times)


def test_pieces_of_threads_become_whole_lines():
    target = io.StringIO()
    stream = JsonLines(target)
    threads = [
        threading.Thread(target=lambda k=k: [stream.write(f"line {k}\n") for _ in range(200)])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line["message"] for line in records(target.getvalue())) == sorted(
        f"line {k}" for k in range(4) for _ in range(200)
    )


def test_no_bar_is_drawn(capsys):
    with json_messages():
        list(ProgressBar(range(3)))
    assert capsys.readouterr().err == ""


def test_every_message_of_a_command_is_an_object_and_its_result_is_as_before(folder, run):
    folder(12)
    for words, status in (
        (("extract", "--encoder", "glove-50"), 0),
        (("extract", "--dry-run", "--json"), 0),
        (("store", "list"), 0),
        (("heads", "mpl"), 2),
        (("evaluate", "nothing"), 1),
        (("fit", "--nothing"), 2),
    ):
        plain = run(*words, status=status)
        result = run("--log-format", "json", *words, status=status)
        assert bool(result.stdout) == bool(plain.stdout)
        lines = records(result.stderr)
        assert all(set(line) == {"time", "level", "message"} for line in lines)
        assert [line["level"] for line in lines if line["level"] == "error"] == ["error"] * (status > 0)
        assert len(lines) == len([line for line in plain.stderr.splitlines() if line.strip()])
