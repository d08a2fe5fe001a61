"""An experiment that has stopped itself is kept in the log: written by the service that stopped it, heard by every other one."""

import asyncio
import socket
import threading
import time
from contextlib import closing, contextmanager

import psycopg

from serving.config import read_config
from serving.log import prediction_log, stops
from serving.log.blocks import Source
from serving.log.prediction_log import PredictionLog, Writer
from serving.log.store import Store
from serving.telemetry.metrics import STOPPED

SOURCES = [
    Source("visitors", "3"),
    Source("visitors", "3", "new-trees", "A"),
    Source("visitors", "4", "new-trees", "B"),
]


def until(true, seconds=20):
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        time.sleep(0.02)


@contextmanager
def writing(url, sources=SOURCES):
    """A writer in a thread, the channel of a worker, and its counters; it ends when the channel is closed."""
    ours, theirs = socket.socketpair()
    control, handed = socket.socketpair()
    socket.send_fds(control, [prediction_log.OF_WORKER], [theirs.fileno()])
    theirs.close()
    numbers = memoryview(bytearray(8 * 16)).cast("d")
    writer = Writer(read_config({"SLIPWAY_DATABASE_URL": url}, open=True), sources, handed, numbers)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        yield ours, numbers
    finally:
        ours.close()
        control.close()
        thread.join(30)


def test_stop_of_another_replica_is_heard(tmp_path, monkeypatch):
    """A writer looks for it now and then; that of another experiment, or of another model, is none of its business."""
    monkeypatch.setattr(prediction_log, "STOPS", 0.02)
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store, writing(url) as (_, numbers):
        stops.keep(store, "visitors", "other-trees", stops.Stop(1.0, "too slow"))
        stops.keep(store, "cars", "new-trees", stops.Stop(1.0, "too slow"))
        time.sleep(0.3)
        assert not numbers[STOPPED]
        stops.keep(store, "visitors", "new-trees", stops.Stop(1.0, "too slow"))
        until(lambda: numbers[STOPPED])


def test_stop_waits_for_its_database(tmp_path):
    """A stop that cannot be written at once is written later, and the first one of two counts."""
    (tmp_path / "log.db").mkdir()
    url = f"sqlite:///{tmp_path}/log.db"
    with writing(url) as (channel, _):

        async def send():
            log = PredictionLog(channel, memoryview(bytearray(8 * 16)).cast("d"))
            log.stopped("too slow")
            await asyncio.sleep(0.3)
            (tmp_path / "log.db").rmdir()
            log.close()

        asyncio.run(send())
    with closing(Store(url)) as store:
        stops.keep(store, "visitors", "new-trees", stops.Stop(1.0, "later"))
        assert stops.read(store, "visitors", "new-trees").reason == "too slow"


def test_stop_is_heard_after_the_database_ended_the_connection(postgres_url, monkeypatch):
    """A writer that has nothing to write connects again as well."""
    monkeypatch.setattr(prediction_log, "STOPS", 0.02)
    looked = []
    read = stops.read
    monkeypatch.setattr(stops, "read", lambda *given: (read(*given), looked.append(1))[0])
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with writing(postgres_url) as (_, numbers), psycopg.connect(postgres_url, autocommit=True) as connection:
        until(lambda: looked)
        until(lambda: connection.execute(ended).fetchall())
        with closing(Store(postgres_url)) as store:
            stops.keep(store, "visitors", "new-trees", stops.Stop(1.0, "too slow"))
        until(lambda: numbers[STOPPED])


def test_stop_is_written_into_a_log_that_was_begun_anew(tmp_path, monkeypatch):
    """The file was deleted while the service went on: the challenger must not answer again after the next start."""
    monkeypatch.setattr(prediction_log, "STOPS", 0.02)
    url = f"sqlite:///{tmp_path}/log.db"
    with closing(Store(url)) as store:
        stops.keep(store, "visitors", "new-trees", stops.Stop(1.0, "too slow"))
    with writing(url) as (_, numbers):
        until(lambda: numbers[STOPPED])
        for file in tmp_path.glob("log.db*"):
            file.unlink()
        with_stop = []

        def kept() -> bool:
            if (tmp_path / "log.db").exists():
                with closing(Store(url)) as store:
                    with_stop[:] = [stops.read(store, "visitors", "new-trees")]
            return any(with_stop)

        until(kept)
    assert with_stop == [(1.0, "too slow")]


def test_stops_are_kept_in_each_database(url):
    """The first one of an experiment, by model."""
    with closing(Store(url)) as store:
        assert stops.read(store, "cars", "new-trees") is None
        stops.keep(store, "cars", "new-trees", stops.Stop(5.0, "too slow"))
        stops.keep(store, "cars", "new-trees", stops.Stop(6.0, "no answers"))
        stops.keep(store, "vans", "new-trees", stops.Stop(7.0, "no answers"))
        assert stops.read(store, "cars", "new-trees") == (5.0, "too slow")
