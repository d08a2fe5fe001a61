"""The table of older services, one row per request, moves into blocks by itself."""

import json
import math
import threading
from collections import Counter
from contextlib import closing

import pytest

from serving.log import store as store_module
from serving.log.blocks import Source
from serving.log.reader import read_blocks
from serving.log.store import Store
from tests.serving.log.old_log import connected, write_old

DAY = 86_400


def _ids(url):
    with closing(Store(url)) as store:
        return Counter(name for block in read_blocks(store, 0, math.inf) for name in block.request_ids)


def _left(url):
    with closing(connected(url)) as connection:
        return connection.execute("SELECT COUNT(*) FROM predictions").fetchone()[0]


def test_old_records_are_read_as_blocks(url):
    """Each keeps its fields, by version and day, with the role served; the empty table stays for older services, which may write on."""
    write_old(url, [("a", 1.0, "me", "1"), ("b", 2.0, None, "2"), ("c", DAY + 1.0, None, "1"), ("d", 3.0, None, "1")])
    with closing(Store(url)) as store:
        blocks = list(read_blocks(store, 0, math.inf))
        found = [(*one.source, one.request_ids, one.times, one.subjects) for one in blocks]
        assert sorted(found, key=lambda one: (one[1], one[5])) == [
            ("cars", "1", "", "", ["a", "d"], [1.0, 3.0], ["me", None]),
            ("cars", "1", "", "", ["c"], [DAY + 1.0], [None]),
            ("cars", "2", "", "", ["b"], [2.0], [None]),
        ]
        first = blocks[0]
        assert (first.features[0], first.answers[0], first.roles[0]) == (b"[[1.50]]", b"[2]", "served")
        assert (first.rows[0], first.latencies[0], first.callers[0]) == (1, 0.5, "c")
    assert _left(url) == 0
    write_old(url, [("e", 4.0, None, "1")])
    assert _ids(url) == {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1}


def test_move_that_fails_in_the_middle_moves_nothing(url, monkeypatch):
    """A chunk is one transaction: nothing is lost, and nothing is there twice."""
    write_old(url, [(f"r{number}", float(number), None, "1") for number in range(2500)])
    with closing(Store(url)) as store:
        assert store.move()
        assert 0 < _left(url) < 2500
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(store_module, "pack", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
            store.move()
    assert _ids(url) == {f"r{number}": 1 for number in range(2500)}
    assert _left(url) == 0


def test_several_processes_move_at_once(url):
    """Each record is moved once, and a reader waits for those that another process is moving."""
    write_old(url, [(f"r{number}", float(number), None, "1") for number in range(5000)])
    counts = []
    threads = [threading.Thread(target=lambda: counts.append(_ids(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counts) == 4 and all(one == {f"r{number}": 1 for number in range(5000)} for one in counts)


def test_subject_that_is_being_moved_is_deleted_too(postgres_url):
    """Where another pod has locked the subject's old records to move them, deleting waits, and finds them in their block."""
    write_old(postgres_url, [("mine", 1.0, store_module.identity("me"), "1")])
    done = []
    with closing(Store(postgres_url)) as pod, closing(Store(postgres_url)) as other:
        with pod._transaction() as cursor:
            records = pod._take_old(cursor)
            deleting = threading.Thread(target=lambda: done.append(other.delete_subject("me")))
            deleting.start()
            deleting.join(0.5)
            assert deleting.is_alive()
            pod._insert_block(
                cursor, [store_module.frame_of([store_module._moved(one) for one in records])], Source("cars", "1")
            )
        deleting.join(30)
    assert done == [1] and not _ids(postgres_url)


def test_outcomes_of_older_services_get_how_often_they_were_sent(url):
    """The column that their table lacks is added once, and outcomes go on as before."""
    kind = "TEXT" if url.startswith("sqlite") else "JSON"
    with closing(connected(url)) as connection:
        connection.execute(
            f"CREATE TABLE outcomes (request_id TEXT NOT NULL, row_index INTEGER NOT NULL, outcome {kind} NOT NULL,"
            " time DOUBLE PRECISION NOT NULL, caller TEXT NOT NULL, PRIMARY KEY (request_id, row_index))"
        )
        connection.execute("INSERT INTO outcomes VALUES ('a', 0, '1', 1.0, 'c')")
        connection.commit()
    for _ in range(2):
        Store(url).close()
    with closing(Store(url)) as store:
        store.insert([], [("a", 0, json.dumps(0), 2.0, "c")])
        assert store.query("SELECT request_id, time, sent FROM outcomes") == [("a", 2.0, 2)]
