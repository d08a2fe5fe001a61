"""Serve a bundle:

python -m serving --bundle build/bundle --port 8000
"""

import argparse
import ipaddress
import os
import socket
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C and return 0; when it cannot start, say why in one line and return 1."""
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a bundle over HTTP.")
    parser.add_argument("--bundle", type=Path, required=True, help="folder made by register_model.py")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=_port, default=8000, help="0 takes any free port (default: 8000)")
    parser.add_argument("--workers", type=_workers, default=1, help="processes that answer (default: 1)")
    parser.add_argument("--open", action="store_true", help="answer anybody, without a key, on any address")
    args = parser.parse_args(argv)

    from serving.access.keys import KeysError
    from serving.app import create_app  # after the arguments, so that a mistyped one is told at once
    from serving.config import ConfigError, read_config
    from serving.log.memory import return_freed
    from serving.model.bundle import BundleError
    from serving.runtime.descriptors import raise_limit
    from serving.runtime.workers import processes, serve
    from serving.telemetry.logs import set_up

    set_up()
    return_freed()
    raise_limit()
    try:
        config = read_config(os.environ, args.open, _is_loopback(args.host))
        listener = _listen(args.host, args.port)
        app = create_app(args.bundle, config, processes(args.workers))
    except (BundleError, ConfigError, KeysError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot listen on {args.host}:{args.port}: {error.strerror}", file=sys.stderr)
        return 1
    shown = f"[{args.host}]" if ":" in args.host else args.host
    words = f"serving {app.release.name} version {app.release.version} on http://{shown}:{listener.getsockname()[1]}"
    return serve(app, listener, config, args.workers, ready=lambda: print(words, flush=True))


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _workers(text: str) -> int:
    workers = int(text)
    if not 1 <= workers <= 256:
        raise ValueError(text)
    return workers


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


if __name__ == "__main__":
    sys.exit(main())
