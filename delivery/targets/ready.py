"""Readiness of a service, as seen from this machine."""

import urllib.error
import urllib.request

DIRECT = urllib.request.ProxyHandler({})  # a proxy from the environment cannot reach this machine's loopback


def answers(url: str) -> bool:
    """Whether /readyz of the service at `url` returns 200 within two seconds."""
    try:
        with urllib.request.build_opener(DIRECT).open(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
