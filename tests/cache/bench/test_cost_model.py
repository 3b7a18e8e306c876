from dataclasses import fields, replace

import pytest

from encode_once.cache.bench.cost_model import (
    COMMIT_SECONDS,
    MOST_MACHINES,
    Fleet,
    RowCost,
    machines_for,
    planned,
    predict,
    text,
)
from encode_once.extract import workers

# Of 3,600 rows, each second per row is an hour.
ROWS = 3600
NOTHING = RowCost(**{field.name: 0 for field in fields(RowCost)})
COST = replace(
    NOTHING, read=1, encode=8, write=0.5, seal=0.1, commit=0.05, table=0.25, merge=0.5, load=0.125, fit=2
)


def test_a_machine_takes_the_sum_of_the_parts():
    alone = predict(COST, ROWS, Fleet(1, price=3))
    disk = 0.5 + 0.1 + 8 * 0.05  # a commit in each of the 8 hours' seconds
    assert alone.hours == pytest.approx(
        {"read": 1, "encode": 8, "disk": disk, "table": 0.25, "merge": 0, "fit": 2}
    )
    assert alone.store_hours == pytest.approx(10.25)
    assert alone.machine_hours == pytest.approx(12.25)
    assert alone.cost == pytest.approx(3 * 12.25)
    assert alone.bottleneck == "networks"


def test_machines_divide_the_rows_but_each_reads_the_table_and_one_merges():
    ten = predict(COST, ROWS, Fleet(10, price=3))
    assert ten.hours == pytest.approx(
        {"read": 0.1, "encode": 0.8, "disk": 0.1, "table": 0.25, "merge": 0.5 + 10 * 0.125, "fit": 2}
    )
    assert ten.store_hours == pytest.approx(1 + 0.25 + 1.75)
    assert ten.machine_hours == pytest.approx(10 * 1.25 + 1.75 + 2)
    assert ten.bottleneck == "fit on one machine"
    shared = predict(COST, ROWS, Fleet(10, shared_store=True))
    assert (shared.hours["merge"], shared.store_hours) == (0, pytest.approx(1.25))
    assert shared.cost is None


def test_hours_grow_with_the_rows_and_so_do_bytes_and_requests():
    cost = replace(
        COST, image_bytes=100_000, vector_bytes=2**20, table_bytes=200, table_memory=400, index_memory=60
    )
    few, many = predict(cost, 10_000, Fleet(4)), predict(cost, 20_000, Fleet(4))
    assert many.store_hours == pytest.approx(2 * few.store_hours)
    assert few.image_bytes == 1e9
    assert few.storage_bytes == 10_000 * (2**20 + 200)
    assert few.working_bytes == 10_000 * 460
    assert few.gets == 20_000  # each image twice
    assert predict(replace(cost, image_bytes=0), 10, Fleet()).gets == 0


def test_parts_are_sent_each_minute_then_each_tenth_of_the_time_then_each_ten_minutes():
    def puts(seconds, features=1, machines=1, vector_bytes=1.0):
        cost = replace(NOTHING, read=seconds / 100, features=features, vector_bytes=vector_bytes)
        return predict(cost, 100, Fleet(machines)).puts

    # A claim each 5 seconds; a part and its note at each minute.
    assert puts(300) == 60 + 2 * 5
    assert puts(600) == 120 + 2 * 10
    # From 600 s on after 660, 726, 798.6, 878.5, 966.3, 1062.9 s …
    assert puts(1000) == 200 + 2 * 16
    assert puts(1000, features=2) == 2 * puts(1000)
    assert puts(1000, machines=10) == 10 * (20 + 2 * 2)
    assert puts(10**6) - puts(10**6 - 60_000) == 12_000 + 2 * 100
    # A part is full with 1 GiB.
    assert puts(300, vector_bytes=2**30 / 5) == 60 + 2 * 20


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("read", "reading images"),
        ("encode", "networks"),
        ("write", "disk: commits and seals"),
        ("table", "table, which each machine reads"),
        ("merge", "merge by one machine"),
        ("fit", "fit on one machine"),
    ],
)
def test_the_bottleneck_is_the_part_of_the_most_hours(part, name):
    assert predict(replace(NOTHING, **{part: 1.0}), 10, Fleet(2)).bottleneck == name


def test_what_does_not_fit_into_memory_is_named_beside_the_bottleneck():
    cost = replace(COST, table_memory=300, index_memory=60)
    assert predict(cost, 100, Fleet(memory=36_000)).bottleneck == "networks"
    assert predict(cost, 100, Fleet(memory=35_999)).bottleneck == "networks; table beyond memory"
    cost = replace(COST, table_memory=0, index_memory=60)
    assert predict(cost, 100, Fleet(memory=5_999)).bottleneck == "networks; index of keys beyond memory"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("hours", [20, 10.25, 6, 3.1, 1.3])
def test_the_number_of_machines_for_some_hours_is_the_least(hours, shared):
    machines = machines_for(COST, ROWS, hours, shared_store=shared)
    enough = [
        count
        for count in range(1, 400)
        if predict(COST, ROWS, Fleet(count, shared_store=shared)).store_hours <= hours
    ]
    assert machines == (enough[0] if enough else None)


def test_hours_that_the_undivided_parts_take_cannot_be_had():
    assert machines_for(COST, ROWS, 0.25, shared_store=True) is None
    assert machines_for(COST, ROWS, 0.26, shared_store=True) == 1000


def test_machines_are_useful_until_the_undivided_parts_take_longer():
    # 10 / N is no more than .25 + .5 + .125 N from N = 7 on, and no more than .25 from N = 40 on.
    assert predict(COST, ROWS, Fleet()).useful_machines == 7
    assert predict(COST, ROWS, Fleet(shared_store=True)).useful_machines == 40
    assert predict(replace(NOTHING, encode=1), ROWS, Fleet()).useful_machines == MOST_MACHINES


def test_a_plan_has_each_number_of_rows_and_machines_or_the_number_that_is_needed():
    pairs = [(p.rows, p.machines) for p in planned(COST, [ROWS, 10 * ROWS], [1, 5], None, Fleet())]
    assert pairs == [(ROWS, 1), (ROWS, 5), (10 * ROWS, 1), (10 * ROWS, 5)]
    enough, too_many = planned(COST, [ROWS, 100 * ROWS], [1, 5], 6.0, Fleet())
    assert enough.machines == machines_for(COST, ROWS, 6.0)
    assert too_many.machines == too_many.useful_machines
    assert too_many.store_hours > 6


def test_the_text_has_the_parts_the_predictions_and_what_is_assumed():
    cost = replace(COST, image_bytes=1e5, vector_bytes=2584)
    fleet = Fleet(memory=8e9, price=0.5)
    shown = text(cost, planned(cost, [10**9], [20], None, fleet), fleet)
    assert "decode and encode" in shown
    assert "1,000,000,000" in shown
    assert "100 TB" in shown
    assert "2.58 TB" in shown
    assert "a machine costs 0.5 an hour" in shown
    assert "no price is known" in text(cost, planned(cost, [1], [1], None, Fleet()), Fleet())


def test_commits_are_as_frequent_as_those_of_extract():
    assert COMMIT_SECONDS == workers.COMMIT_SECONDS
