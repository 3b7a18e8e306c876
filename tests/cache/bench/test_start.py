import pytest

from encode_once.cache import EncodeOnceError
from encode_once.cache.bench import start as module
from encode_once.cache.bench.start import start


@pytest.mark.slow
def test_every_command_is_measured_in_its_own_process(tmp_path, monkeypatch):
    program = tmp_path / "cli.py"
    program.write_text("import sys; print(sys.argv[1:]); block = b'x' * (80 << 20)\n")
    monkeypatch.setattr(module, "CLI", str(program))
    rows = {row["command"]: row for row in start("run", "store", repeats=1)}
    assert list(rows)[:3] == ["python -c pass", 'python -c "import torch"', "--help"]
    assert rows["tune RUN"]["MB"] - rows["python -c pass"]["MB"] == pytest.approx(84, abs=20)
    assert rows['python -c "import torch"']["seconds"] > rows["python -c pass"]["seconds"] > 0


@pytest.mark.slow
def test_a_command_that_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CLI", str(tmp_path / "missing.py"))
    with pytest.raises(EncodeOnceError, match=r"missing\.py"):
        start("run", "store", repeats=1)
