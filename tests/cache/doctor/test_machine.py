"""What is read of the system's files, and what is written to measure a disk."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from encode_once.cache import process
from encode_once.cache.doctor import machine
from tests.conftest import files_of

CPU_INFO = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu {}\n\nprocessor\t: 1\nmodel name\t: Xeon\n"


@pytest.mark.parametrize(
    ("flags", "state", "finding"),
    [
        ("avx avx2 avx512f avx512_bf16 amx_tile", "PASS", "Xeon: AVX2, AVX-512, AVX512-BF16, AMX"),
        ("avx avx2", "PASS", "Xeon: AVX2, no AVX-512, no AVX512-BF16, no AMX"),
        ("avx", "WARN", "Xeon: no AVX2"),
    ],
)
def test_the_instructions_of_the_processor(flags, state, finding):
    check = machine.processor(CPU_INFO.format(flags))
    assert (check.state, check.finding) == (state, finding)


def test_a_processor_without_known_flags_is_named():
    assert machine.processor("").state == "PASS"


def test_fewer_cores_than_there_are(monkeypatch, tmp_path):
    assert machine.cores(8, 8).state == "PASS"
    check = machine.cores(8, 1.5)
    assert (check.state, check.finding) == ("WARN", "1.5 of 8 may be used")
    assert "--workers 1" in check.remedy
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(machine, "CORE_QUOTA", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4), raising=False)
    for content, limit in (("max 100000\n", 4), ("50000 100000\n", 0.5), ("900000 100000\n", 4)):
        quota.write_text(content)
        assert machine._core_limit() == limit


@pytest.mark.parametrize(
    ("available", "limit", "current", "files", "finding"),
    [
        (8e6, "max", 7e9, 0, "8.2 GB"),
        (8e5, "max", 0, 0, "0.8 GB"),
        (8e6, "6000000000", 4e9, 0, "2.0 GB"),
        (8e6, "6000000000", 5e9, 3e9, "4.0 GB"),
        (8e6, "6000000000", 7e9, 0, "0.0 GB"),
    ],
)
def test_memory_is_what_the_system_and_the_container_leave(
    monkeypatch, tmp_path, available, limit, current, files, finding
):
    for name, text in (
        ("meminfo", f"MemTotal: 9 kB\nMemAvailable:  {available:.0f} kB\n"),
        ("memory.max", limit),
        ("memory.current", f"{current:.0f}\n"),
        ("memory.stat", f"anon 5\ninactive_file {files:.0f}\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(process, "MEMORY_INFO", tmp_path / "meminfo")
    monkeypatch.setattr(process, "CONTAINER", tmp_path)
    check = machine.memory()
    assert check.finding == f"{finding} available"
    assert check.state == ("WARN" if float(finding.split()[0]) < 2 else "PASS")


def test_memory_of_a_system_without_these_files(monkeypatch, tmp_path):
    for name in ("MEMORY_INFO", "CONTAINER"):
        monkeypatch.setattr(process, name, tmp_path / "absent")
    assert "not known" in machine.memory().finding


def test_the_disk_is_measured_and_left_as_it_was(tmp_path):
    space, folder = machine.disk(tmp_path / "not" / "there" / "yet")
    assert space.finding.endswith(f"free in {tmp_path}")
    assert folder.state in ("PASS", "WARN")
    assert files_of(tmp_path) == {}


def test_a_full_or_slow_disk_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
    monkeypatch.setattr(machine, "write_speed", lambda path: 5e6)
    assert [check.state for check in machine.disk(tmp_path)] == ["WARN", "WARN"]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder that root cannot write either")
def test_a_folder_that_cannot_be_written_fails():
    _, folder = machine.disk(Path("/proc/store"))
    assert (folder.state, folder.finding.partition(":")[0]) == ("FAIL", "/proc cannot be written")
