"""Claims: one writer at a time, whatever the clocks of the machines say."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from encode_once.cache import StoreBusyError
from encode_once.cache.remote import claims
from encode_once.cache.remote.claims import claimed
from encode_once.cache.remote.folder import RemoteFolder

DEAD = 0.2  # where a claim is to be taken for dead


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.02)
    monkeypatch.setattr(claims, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(claims, "DEAD_SECONDS", 60)


@pytest.fixture
def folder(memory):
    return RemoteFolder(memory)


def latest(folder, name="shard"):
    return json.loads(folder.read(max(folder.list(f"claims/{name}"))))


def dies(folder, monkeypatch):
    """Take a claim that is never renewed or released, as a process that is killed leaves it."""
    with monkeypatch.context() as patch:
        patch.setattr(claims, "RENEW_SECONDS", 1e9)
        patch.setattr(claims.Claim, "release", lambda self: None)
        with claimed(folder, "shard", "other copy", "it"):
            pass


def test_a_claim_of_a_live_process_is_refused_and_its_owner_named(folder):
    with claimed(folder, "shard", "first copy", "clip/image"):
        owner = latest(folder)
        words = rf"is writing clip/image \(process {owner['pid']} on {owner['host']} since .*--shard"
        with (
            pytest.raises(StoreBusyError, match=words),
            claimed(folder, "shard", "second copy", "clip/image"),
        ):
            pass
        with claimed(folder, "other shard", "second copy", "clip/image"):
            pass
    with claimed(folder, "shard", "second copy", "clip/image") as claim:  # it was released
        claim.check()
    assert len(folder.list("claims/shard")) == 1


@pytest.mark.parametrize("since", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"])
def test_a_dead_claim_is_taken_once_it_has_not_changed_for_long_enough_whatever_its_clock(
    folder, monkeypatch, since
):
    dies(folder, monkeypatch)
    folder.write(max(folder.list("claims/shard")), json.dumps(latest(folder) | {"since": since}).encode())
    monkeypatch.setattr(claims, "DEAD_SECONDS", DEAD)
    started = time.monotonic()
    with claimed(folder, "shard", "second copy", "it"):
        assert time.monotonic() - started >= DEAD


def test_a_dead_claim_of_the_same_local_copy_is_taken_at_once(folder, monkeypatch):
    dies(folder, monkeypatch)
    dead = latest(folder)
    monkeypatch.setattr(claims, "_watched", lambda *arguments: pytest.fail("the dead claim is watched"))
    with claimed(folder, "shard", "other copy", "it"):
        assert latest(folder)["copy"] == dead["copy"]
        assert latest(folder)["claimant"] != dead["claimant"]


def test_who_was_paused_learns_that_the_claim_is_lost(folder, monkeypatch):
    resumed = Event()
    keep = claims.Claim._keep
    monkeypatch.setattr(claims.Claim, "_keep", lambda self: resumed.wait() and keep(self))
    with claimed(folder, "shard", "first copy", "it") as paused:
        with monkeypatch.context() as patch:
            patch.setattr(claims, "DEAD_SECONDS", DEAD)
            claims._take(folder, "shard", "second copy", "it", False)
        paused.check()
        resumed.set()
        paused._thread.join(10)
        with pytest.raises(StoreBusyError, match="was taken over by process"):
            paused.check()
    assert latest(folder)["copy"] == "second copy"


def test_who_may_wait_gets_the_claim_when_it_is_released(folder):
    def change(number):
        with claimed(folder, "tables", f"copy {number}", "the tables", wait=True):
            inside.append(number)
            assert len(inside) == 1
            inside.remove(number)

    inside = []
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))


def test_who_waits_says_so_and_ends_if_it_takes_too_long(folder, monkeypatch, capsys):
    monkeypatch.setattr(claims, "WAIT_SECONDS", 0.1)
    with (
        claimed(folder, "tables", "first copy", "the tables"),
        pytest.raises(StoreBusyError, match="another process is writing the tables"),
        claimed(folder, "tables", "second copy", "the tables", wait=True),
    ):
        pass
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("waiting for process ")
    assert line.endswith("which is or was writing the tables")


def test_a_claim_that_could_not_be_renewed_is_renewed_or_given_up_when_it_is_used(folder, monkeypatch):
    monkeypatch.setattr(claims, "DEAD_SECONDS", DEAD)
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.02)
    reachable = RemoteFolder.write

    def fails(self, name, content):
        raise FileNotFoundError("no such bucket, for a moment")

    with claimed(folder, "shard", "first copy", "it") as claim:
        monkeypatch.setattr(RemoteFolder, "write", fails)
        time.sleep(2 * DEAD)
        with pytest.raises(FileNotFoundError):
            claim.check()
        beat = latest(folder)["beat"]
        monkeypatch.setattr(RemoteFolder, "write", reachable)
        claim.check()
        time.sleep(0.1)
        assert latest(folder)["beat"] > beat + 1  # its thread is still there


def test_a_damaged_claim_counts_until_it_has_not_changed_for_long_enough(folder, monkeypatch):
    monkeypatch.setattr(claims, "DEAD_SECONDS", DEAD)
    folder.write("claims/shard/0000000007.json", b"{")
    folder.write("claims/shard/notes.txt", b"of somebody")
    with claimed(folder, "shard", "copy", "it"):
        assert max(folder.list("claims/shard")) == "claims/shard/notes.txt"
        assert "claims/shard/0000000008.json" in folder.list("claims/shard")


@pytest.mark.slow
def test_of_sixteen_who_claim_at_once_one_wins(bucket, monkeypatch):
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.5)

    def claim(number):
        try:
            with claimed(RemoteFolder(bucket), "shard", f"copy {number}", "clip/image"):
                time.sleep(3)
        except StoreBusyError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(claim, range(16)))
    assert answers.count("") == 1
    assert all("another process is writing clip/image (process" in answer for answer in answers if answer)
