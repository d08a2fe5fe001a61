"""The end of a service: whoever was connected is answered, also who still waited to be accepted."""

import signal
import socket
import threading
import time

import pytest

from tests.serving.bundles import make_bundle
from tests.serving.service import serving

BODY = b'{"features": [12.5, -0.5, 4, true]}'
REQUEST = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def _call_until_refused(port, answered, lost):
    """Ask over one new connection after the other until none is taken any more."""
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port), 30)
        except OSError:
            return
        with connection:
            try:
                connection.sendall(REQUEST)
                answer = connection.recv(65_536)
                (answered if answer.startswith(b"HTTP/1.1 200") else lost).append(answer)
            except OSError as error:
                lost.append(repr(error))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_connection_is_lost_when_the_service_ends(tmp_path, workers):
    """SIGTERM while callers open new connections all the time: each that was let in is answered, the others are refused."""
    answered, lost = [], []
    with serving(make_bundle("binary", tmp_path / "bundle"), "--workers", workers, SLIPWAY_RATE_LIMIT="0") as service:
        port = int(service.url.rsplit(":", 1)[1])
        callers = [threading.Thread(target=_call_until_refused, args=(port, answered, lost)) for _ in range(16)]
        for caller in callers:
            caller.start()
        end = time.monotonic() + 60
        while len(answered) < 200 and time.monotonic() < end:
            time.sleep(0.02)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(60) == 0
        for caller in callers:
            caller.join(60)
    assert len(answered) >= 200 and lost == []
