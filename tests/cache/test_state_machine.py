"""After any sequence of operations, a store holds the same rows as a dict."""

import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from encode_once.cache import Failure, Shard, Store, StoreBusyError, Table, content_key
from encode_once.cache.format import feature_writer
from encode_once.cache.keys import pack
from encode_once.cache.maintenance import (
    compact,
    drop_feature,
    drop_unreferenced,
    forget_table,
    repair,
    verify,
)
from encode_once.cache.merge import merge
from tests.conftest import MEMORY_DISK, examples

NAMES = range(12)
CONTENTS = st.lists(st.sampled_from(NAMES), unique=True, min_size=1, max_size=6)
STORES = st.sampled_from(["a", "b"])
FEATURES = {"e/dense": False, "e/ragged": True}


def key(name):
    return content_key(str(name).encode())


def vectors(name, ragged):
    """The encoder's output for a content, (length, 3)."""
    rng = np.random.default_rng(name)
    return rng.normal(size=(rng.integers(0, 4) if ragged else 1, 3)).astype(np.float16)


class Stores(RuleBasedStateMachine):
    """Two stores with the same two features, and their expected contents."""

    @initialize()
    def start(self):
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY_DISK))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(feature_writer, "PART_BYTES", 30)  # five dense rows
        self.rows = {(store, feature): {} for store in "ab" for feature in FEATURES}
        self.failed = {(store, feature): set() for store in "ab" for feature in FEATURES}
        self.tables = {"a": {}, "b": {}}
        for store in "ab":
            for feature in FEATURES:
                self.feature(store, feature)

    def teardown(self):
        self.patch.undo()
        shutil.rmtree(self.folder)

    def store(self, name):
        return Store(self.folder / name)  # opened each time, as by another process

    def feature(self, store, name):
        return self.store(store).declare(name, {"modality": "caption", "output": name})

    def write(self, feature, names, shard=None, batch=2):
        with feature.writer(len(names), shard) as writer:
            for start in range(0, len(names), batch):
                part = names[start : start + batch]
                pieces = [vectors(name, FEATURES[feature.name]) for name in part]
                lengths = np.array([len(piece) for piece in pieces]) if FEATURES[feature.name] else None
                writer.append(pack(map(key, part)), np.concatenate(pieces), lengths)

    def expect(self, store, feature, names):
        self.rows[store, feature].update({name: vectors(name, FEATURES[feature]) for name in names})
        self.failed[store, feature] -= set(names)

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]), names=CONTENTS)
    def encode(self, store, feature, names):
        self.write(self.feature(store, feature), names)
        self.expect(store, feature, names)

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]), names=CONTENTS, number=st.integers(0, 2))
    def encode_a_shard(self, store, feature, names, number):
        shard = Shard(number, 3)
        own = [name for name, has in zip(names, shard.has(pack(map(key, names))), strict=True) if has]
        self.write(self.feature(store, feature), own, shard)
        self.expect(store, feature, own)

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]), names=CONTENTS, whole=st.booleans())
    def encode_and_be_killed(self, store, feature, names, whole):
        """By SIGKILL, between two batches or while a batch is written."""
        pid = os.fork()
        if pid == 0:
            try:
                with self.feature(store, feature).writer(len(names) + 1) as writer:
                    pieces = [vectors(name, FEATURES[feature]) for name in names]
                    lengths = np.array([len(piece) for piece in pieces]) if FEATURES[feature] else None
                    if not whole:
                        feature_writer.PartWriter._stamp = lambda _: os.kill(os.getpid(), signal.SIGKILL)
                    writer.append(pack(map(key, names)), np.concatenate(pieces), lengths)
                    os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status) and whole:
            with suppress(StoreBusyError), self.feature(store, feature).writer(0):
                pass  # the next writer seals what it committed
            self.expect(store, feature, names)

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]), names=CONTENTS)
    def fail(self, store, feature, names):
        failures = [Failure(key(name).hex(), "truncated", "", str(name)) for name in names]
        self.feature(store, feature).record_failures(failures)
        self.failed[store, feature] |= set(names) - self.rows[store, feature].keys()

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]))
    def retry(self, store, feature):
        names = sorted(self.failed[store, feature])
        self.write(self.feature(store, feature), names)
        self.expect(store, feature, names)

    @rule(store=STORES, source=st.sampled_from("st"), names=CONTENTS)
    def save_a_table(self, store, source, names):
        """A new table, or one with renamed, changed, added or removed rows."""
        keys = pack(map(key, names))
        ids = [str(name) for name in names]
        table = Table(
            f"/{source}/train.csv", ids, [""] * len(ids), ids, None, image_keys=keys * 0, caption_keys=keys
        )
        self.store(store).save(table)
        self.tables[store][source] = names

    @rule()
    def merge_b_into_a(self):
        merge(self.store("a"), self.store("b"))
        for feature in FEATURES:
            self.rows["a", feature] |= self.rows["b", feature]
            self.failed["a", feature] |= self.failed["b", feature]
            self.failed["a", feature] -= self.rows["a", feature].keys()
        self.tables["a"] = self.tables["b"] | self.tables["a"]

    @rule(store=STORES)
    def compact(self, store):
        compact(self.store(store))
        for feature in FEATURES:
            assert len(self.feature(store, feature).parts) == bool(self.rows[store, feature])
        names = next(iter(dict(sorted(self.tables[store].items())).values()), [])
        if names and set(names) <= self.rows[store, "e/dense"].keys():
            assert not self.feature(store, "e/dense").read(pack(map(key, names))).flags.owndata

    @rule(store=STORES, delete=st.booleans())
    def gc(self, store, delete):
        needed = {name for names in self.tables[store].values() for name in names}
        changes = drop_unreferenced(self.store(store), delete=delete)
        for change in changes:
            if delete:
                rows = self.rows[store, change.feature]
                self.rows[store, change.feature] = {name: rows[name] for name in rows if name in needed}

    @rule(store=STORES, feature=st.sampled_from([*FEATURES]))
    def drop(self, store, feature):
        rows = self.rows[store, feature]
        assert drop_feature(self.store(store), feature).rows == len(rows)
        self.rows[store, feature], self.failed[store, feature] = {}, set()

    @rule(store=STORES, source=st.sampled_from("st"))
    def forget(self, store, source):
        header = next((h for h in self.store(store).headers() if h.source == f"/{source}/train.csv"), None)
        assert (header is None) == (source not in self.tables[store])
        if header:
            assert forget_table(self.store(store), header.name).rows == len(self.tables[store].pop(source))

    @rule(store=STORES)
    def repair_an_intact_store(self, store):
        assert repair(self.store(store)) == []

    @precondition(lambda self: hasattr(self, "rows"))
    @invariant()
    def stores_are_dicts(self):
        for (store, name), rows in self.rows.items():
            feature = self.feature(store, name)
            assert len(feature) == len(rows)
            assert feature.has(pack(map(key, NAMES))).tolist() == [name in rows for name in NAMES]
            assert set(feature.failures()) == set(map(key, self.failed[store, name]))
            if rows:
                keys, expected = pack(map(key, rows)), np.concatenate(list(rows.values()))
                if FEATURES[name]:
                    values, offsets = feature.read_ragged(keys)
                    assert np.diff(offsets).tolist() == [len(sequence) for sequence in rows.values()]
                else:
                    values = feature.read(keys)
                np.testing.assert_array_equal(values, expected)

    @precondition(lambda self: hasattr(self, "rows"))
    @invariant()
    def stores_are_intact(self):
        assert verify(self.store("a")) == verify(self.store("b")) == []


TestStores = Stores.TestCase
TestStores.settings = settings(examples(15), stateful_step_count=20)
