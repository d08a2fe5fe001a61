"""Serve a bundle:

python -m serving --bundle build/bundle --port 8000
"""

import argparse
import contextlib
import signal
import socket
import sys
from pathlib import Path

GRACE = 10  # seconds that requests under way get to end after SIGTERM


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C and return 0; when it cannot start, say why in one line and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a bundle over HTTP.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder made by register_model.py")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any free port (default: 8000)")
    args = parser.parse_args(argv)
    # uvicorn raises the signal again when it is done; without this the exit status would say "killed".
    signal.signal(signal.SIGTERM, _leave)

    from serving.app import create_app  # after the arguments, so that a mistyped one is told at once
    from serving.bundle import BundleError

    try:
        listener = _listen(args.host, args.port)
        app = create_app(args.bundle)
    except BundleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot listen on {args.host}:{args.port}: {error.strerror}", file=sys.stderr)
        return 1
    _serve(app, listener, args.host)
    return 0


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _leave(*_) -> None:
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _serve(app, listener: socket.socket, host: str) -> None:
    import uvicorn

    from serving.drain import DrainingServer

    shown = f"[{host}]" if ":" in host else host
    print(
        f"serving {app.release.name} version {app.release.version} on http://{shown}:{listener.getsockname()[1]}",
        flush=True,
    )
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ws="none",
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    with contextlib.suppress(KeyboardInterrupt):
        DrainingServer(config).run(sockets=[listener])


if __name__ == "__main__":
    sys.exit(main())
