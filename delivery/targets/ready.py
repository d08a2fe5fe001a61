"""Whether a service is ready, asked from this machine."""

import urllib.error
import urllib.request

DIRECT = urllib.request.ProxyHandler({})  # a proxy named in the environment cannot reach the loopback of this machine


def answers(url: str) -> bool:
    """True when /readyz of the service at `url` answers 200 within two seconds."""
    try:
        with urllib.request.build_opener(DIRECT).open(f"{url}/readyz", timeout=2) as answer:
            return answer.status == 200
    except (OSError, urllib.error.URLError):
        return False
