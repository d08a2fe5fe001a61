"""Starting and stopping the service as a process."""

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from serving.requests.body import LARGEST_BATCH
from tests.serving.bundles import change, make_bundle, read
from tests.serving.service import HEADERS, ROOT, serving, with_keys


def _start(*options):
    """Run the service until it exits."""
    command = [sys.executable, "-m", "serving", *map(str, options)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


def _is_one_line(ended, words):
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert words in ended.stderr
    assert ended.stdout == ""


def test_flipped_byte_stops_the_start(bundle):
    """A bundle with one changed byte is never served: one line names the file, exit status 1."""
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    _is_one_line(_start("--bundle", bundle, "--port", 0), "model.onnx was altered")


def test_inconsistent_bundle_stops_the_start(bundle):
    """A graph that does not match its contract ends the start with one line."""
    onnx = read(bundle, "contract.json")["onnx"] | {"layout": "columns"}
    _is_one_line(_start("--bundle", change(bundle, "contract.json", onnx=onnx), "--port", 0), "model.onnx takes")


def test_port_in_use_stops_the_start(bundle):
    """One line names a port that another program holds."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _is_one_line(_start("--bundle", bundle, "--port", port), f"cannot listen on 127.0.0.1:{port}: Address")


def test_unknown_host_stops_the_start(bundle):
    """One line names an address that does not exist."""
    _is_one_line(_start("--bundle", bundle, "--host", "no.such.host.invalid", "--open"), "no.such.host.invalid:8000")


@pytest.mark.parametrize("options", [[], ["--bundle", "x", "--port", "70000"], ["--bundle", "x", "--port", "http"]])
def test_wrong_options_are_usage_errors(options):
    """A missing bundle or an impossible port is a usage error."""
    ended = _start(*options)
    assert ended.returncode == 2
    assert "usage: python -m serving" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_path_with_spaces_and_unicode_is_served(tmp_path):
    """The folder's name does not matter."""
    with serving(make_bundle("binary", tmp_path / "mein Bündel 模型" / "v 3")) as service:
        assert service.get("/readyz").status_code == 200


def test_ipv6_is_supported(bundle):
    """The service listens on an IPv6 address and prints it as a URL with brackets."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serving(bundle, "--host", "::1") as service:
        assert service.url.startswith("http://[::1]:")
        assert service.get("/healthz").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_it_cleanly(bundle, number):
    """SIGTERM and Ctrl-C end the service within seconds with exit status 0."""
    with serving(bundle) as service:
        service.get("/healthz")
        service.process.send_signal(number)
        assert service.process.wait(10) == 0
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", int(service.url.rsplit(":", 1)[1])), 1).close()


def test_request_in_progress_is_answered_before_the_exit(bundle):
    """After SIGTERM in the middle of a request, its response still comes, then the service exits."""
    body = b'{"features": [12.5, -0.5, 4, true]}'
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with serving(bundle) as service:
        host, port = service.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 10) as connection:
            connection.sendall(head + body[:5])
            service.get("/healthz")  # answered after the half request was read
            service.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                service.process.wait(0.5)
            connection.sendall(body[5:])
            assert connection.recv(100).startswith(b"HTTP/1.1 200")
        assert service.process.wait(10) == 0


def test_memory_of_large_batches_is_returned(tmp_path):
    """After answering and logging batches of the maximum size, the processes use little more memory than before."""
    with serving(make_bundle("columns", tmp_path / "bundle"), **with_keys(tmp_path)) as service:
        service.session.headers.update(HEADERS)
        row = service.golden["inputs"][0]

        def ask(rows, times):
            for _ in range(times):
                assert service.post("/predict/batch", {"features": [row] * rows}).status_code == 200
            time.sleep(0.5)  # until the log is written
            parent = psutil.Process(service.process.pid)
            return sum(one.memory_full_info().uss for one in (parent, *parent.children())) / 1e6

        before, after = ask(10, 20), ask(LARGEST_BATCH, 40)
        assert after < before + 20, f"{before:.0f} MB before, {after:.0f} MB after"
