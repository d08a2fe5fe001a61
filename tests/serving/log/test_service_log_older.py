"""The log of services that knew no experiments gets what it lacks by itself, and such services may write on."""

import math
import threading
from contextlib import closing

import pytest

from serving.log import store as store_module
from serving.log.blocks import Source
from serving.log.reader import outcomes_of, read_blocks
from serving.log.store import Store, StoreError
from tests.serving.log.old_log import connected, make_older, write_old, write_older

NEW = {"experiment", "variant", "value", "value_time"}


@pytest.fixture
def older(url):
    """A log of such a service with rows, and with rows of the oldest form."""
    make_older(url)
    write_older(url, "block", '"yes"')
    write_old(url, [("row", 1.0, None, "1")])
    return url


def columns(url):
    """The columns of both tables that were not always there."""
    if url.startswith("sqlite"):
        query = "SELECT name FROM pragma_table_info('outcomes') UNION ALL SELECT name FROM pragma_table_info('prediction_blocks')"
    else:
        query = (
            "SELECT column_name FROM information_schema.columns WHERE table_name IN ('outcomes', 'prediction_blocks')"
        )
    with closing(connected(url)) as connection:
        return NEW & {name for (name,) in connection.execute(query).fetchall()}


def requests(store):
    """The source of every logged request."""
    return {name: block.source for block in read_blocks(store, 0, math.inf) for name in block.request_ids}


def test_older_log_is_migrated_with_its_rows(older):
    """What was there is outside of any experiment, and outcomes have no value; what comes now has both."""
    assert not columns(older)
    with closing(Store(older, "cars", "2")) as store:
        assert columns(older) == NEW
        assert requests(store) == dict.fromkeys(("block", "row"), Source("cars", "1"))
        assert outcomes_of(store, ["block"]) == {("block", 0): ('"yes"', 2.0, 1, None, None)}
        frame = store_module.frame_of([("new", 3.0, "c", None, "served", 1, 0.5, b"[[1.5]]", b"[2]")])
        store.insert_block([frame], Source("cars", "3", "new-trees", "B"))
        store.insert([], [("block", 0, "null", 4.0, "c", 2.5)])
        assert requests(store)["new"] == ("cars", "3", "new-trees", "B")
        assert outcomes_of(store, ["block"]) == {("block", 0): ('"yes"', 2.0, 1, 2.5, 4.0)}


def test_older_service_writes_on(older):
    """In a rollout a replica of an older release writes beside new ones: outside of any experiment, and a value stays."""
    with closing(Store(older, "cars", "2")) as store:
        store.insert([], [("block", 0, "null", 4.0, "c", 2.5), ("later", 0, "null", 4.0, "c", 7.0)])
        write_older(older, "block-2", '"no"')
        write_older(older, "later", '"no"')
        write_old(older, [("row-2", 1.0, None, "1")])
        names = ("block", "row", "block-2", "later", "row-2")
        assert requests(store) == dict.fromkeys(names, Source("cars", "1"))
        assert outcomes_of(store, ["block-2", "later"]) == {
            ("block-2", 0): ('"no"', 2.0, 1, None, None),
            ("later", 0): ('"no"', 2.0, 1, 7.0, 4.0),
        }
        assert store.query("SELECT SUM(requests) FROM refusals")[0][0] == 3


def test_connection_of_an_older_service_outlives_the_migration(older):
    """It was open before, and writes afterwards by the statements that it knows."""
    insert = "INSERT INTO outcomes (request_id, row_index, outcome, time, caller) VALUES ('{}', 0, '1', 1.0, 'c')"
    with closing(connected(older)) as connection:
        connection.execute(insert.format("before"))
        connection.commit()
        Store(older).close()
        connection.execute(insert.format("after"))
        connection.commit()
    with closing(Store(older)) as store:
        assert len(outcomes_of(store, ["before", "after"])) == 2


def test_several_processes_migrate_at_once(older):
    """One of them adds the columns, and the others wait for it."""
    failed, barrier = [], threading.Barrier(6)

    def begin():
        barrier.wait(30)
        try:
            with closing(Store(older)) as store:
                assert set(requests(store)) == {"block", "row"}
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and columns(older) == NEW


def test_migration_that_ends_in_the_middle_adds_nothing(older, monkeypatch):
    """All columns come in one transaction; the next start adds them."""
    with monkeypatch.context() as patch:
        patch.setattr(store_module, "_ADDED", (*store_module._ADDED[:3], ("outcomes", "odd", "NOT A TYPE (")))
        with pytest.raises(StoreError):
            Store(older)
    assert not columns(older)
    with closing(Store(older)) as store:
        assert columns(older) == NEW and set(requests(store)) == {"block", "row"}
