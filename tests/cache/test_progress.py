"""Progress is a bar on a terminal, and a line now and then elsewhere."""

import io
import sys
import threading
import time

import pytest

from encode_once.cache import progress
from encode_once.cache.progress import ProgressBar, hidden_bars
from encode_once.extract import encode


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def stderr(monkeypatch):
    """A function that replaces stderr; lines are due every hundredth of a second."""

    def replaced(stream):
        monkeypatch.setattr(sys, "stderr", stream)
        return stream

    monkeypatch.setattr(progress, "SECONDS", 0.01)
    return replaced


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("nothing was printed in ten seconds")


def test_without_a_terminal_lines_are_printed_until_the_bar_is_closed(stderr):
    stream, before = stderr(io.StringIO()), threading.active_count()
    with ProgressBar(total=10, unit="row", desc="encoding") as bar:
        bar.update(3)
        bar.set_description("encoding\x1b[2Jx")
        wait_for(lambda: stream.getvalue().count("\n") > 2)
    wait_for(lambda: threading.active_count() == before)
    lines = stream.getvalue().splitlines()
    assert all("3/10" in line and "\r" not in line for line in lines)
    assert "\x1b" not in stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue().splitlines() == lines


def test_a_short_task_prints_nothing_without_a_terminal(stderr, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS", 60)
    stream = stderr(io.StringIO())
    with ProgressBar(total=2) as bar:
        bar.update(2)
        bar.set_postfix(failed=1)
    assert stream.getvalue() == ""


def test_a_terminal_has_a_bar(stderr):
    stream, before = stderr(Terminal()), threading.active_count()
    with ProgressBar(total=2, file=stream) as bar:
        bar.update(2)
        assert threading.active_count() == before
    assert "2/2" in stream.getvalue()
    assert "\r" in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_hidden_bars_print_nothing_and_start_no_thread(stderr, stream):
    shown, before = stderr(stream()), threading.active_count()
    with hidden_bars():
        bars = [ProgressBar(total=2, file=shown)]
    bars.append(ProgressBar(total=2, file=shown, disable=True))
    for bar in bars:
        bar.update(1)
        assert threading.active_count() == before
        bar.close()
    assert shown.getvalue() == ""
    assert not ProgressBar.hidden


def test_extract_shows_that_it_reads_images_and_encodes_them(folder, tmp_path, stderr, monkeypatch):
    shown, close = {}, ProgressBar.close

    def closing(bar):
        shown[str(bar).partition(":")[0]] = str(bar)
        close(bar)

    monkeypatch.setattr(ProgressBar, "close", closing)
    stderr(Terminal())
    encode(folder(5), ["efficientnet-lite0"], tmp_path / "store")
    assert [*shown] == ["reading", "loading efficientnet-lite0/pooled", "encoding"]
    assert "5/5" in shown["reading"]
    assert "5/5" in shown["encoding"]
