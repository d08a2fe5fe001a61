"""Probes: one real HTTP request to the process."""

import asyncio
from typing import Any

import urllib3


async def probe(address: str | None, settings: dict[str, Any]) -> str | None:
    """None when the probe succeeds, else the node's message."""
    if "httpGet" not in settings:
        return None
    if address is None:
        return "dial tcp: connect: connection refused"
    url = f"http://{address}{settings['httpGet'].get('path', '/')}"
    return await asyncio.to_thread(_ask, url, settings["timeoutSeconds"])


def _ask(url: str, seconds: float) -> str | None:
    try:
        answer = urllib3.PoolManager(retries=False, timeout=seconds).request(
            "GET", url, headers={"Connection": "close"}
        )
    except urllib3.exceptions.ReadTimeoutError:
        return f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'
    except urllib3.exceptions.HTTPError:
        return f'Get "{url}": dial tcp {url.split("/")[2]}: connect: connection refused'
    return None if answer.status < 400 else f"HTTP probe failed with statuscode: {answer.status}"
