"""The Docker network in which releases, their proxies and Prometheus meet: found by its name once, and then used by its id.

An engine makes two networks of one name when two commands ask for it at the same moment, and from then on starts nothing on
either. So whoever makes one looks again a moment later: the oldest counts, of two of one age the one with the lower id, and the
others are removed. An engine that has two already is put right in the same way.
"""

import re
import time
from contextlib import suppress
from typing import Any

from pipeline.errors import DeployError

SETTLE = 1.0  # seconds in which a network that another command is making becomes visible
TRIES = 5  # of a container's start, while other commands make networks of the same name
OURS = "slipway.network"  # the label of a network that we made; those of earlier releases carry none


def ensure(engine, name: str):
    """The one network of this name, made when there is none; raises docker's errors, and DeployError for a second one in use."""
    from docker.errors import APIError

    found = named(engine, name)
    if not found:
        refusal = None
        try:
            engine.networks.create(name, driver="bridge", check_duplicate=True, labels={OURS: name})
        except APIError as error:  # another command has made it in between
            refusal = error
        time.sleep(SETTLE)
        found = named(engine, name)
        if not found and refusal:
            raise refusal
    for surplus in found[1:]:
        _remove(surplus, found[0])
    return found[0]


def start(engine, container, name: str) -> None:
    """Start a container that is to be on the network of this name, also where another command just made a second one."""
    from docker.errors import APIError

    for _ in range(TRIES - 1):
        try:
            return container.start()
        except APIError as error:
            if "ambiguous" not in str(error):
                raise
        ensure(engine, name)
    return container.start()


def named(engine, name: str) -> list[Any]:
    """All networks of this very name, the oldest first."""
    found = engine.networks.list(names=[f"^{re.escape(name)}$"])
    return sorted((network for network in found if network.name == name), key=_age)


def _age(network) -> tuple[str, str, str]:
    """What networks are ordered by: when they were made, to the nanosecond, then the id."""
    second, fraction = re.match(r"(.{19})(?:\.(\d+))?", network.attrs["Created"]).groups("")  # type: ignore[union-attr]
    return second, fraction.ljust(9, "0"), network.id


def _remove(surplus, kept) -> None:
    """Remove a second network of a name, unless another command just did; raises DeployError when something is on it."""
    from docker.errors import APIError, NotFound

    print(f"the engine has two networks {kept.name}: the newer one, {surplus.id[:12]}, is removed", flush=True)
    with suppress(NotFound):
        try:
            surplus.remove()
        except NotFound:
            raise
        except APIError as error:
            raise DeployError(
                f"the Docker engine has two networks {kept.name}, and the newer one is in use: {error.explanation}",
                f"`docker network inspect {surplus.id[:12]}` names its containers; end them, then `docker network rm {surplus.id[:12]}`",
            ) from error


def holds(container, network) -> bool:
    """Whether a container is on a network."""
    return any(end["NetworkID"] == network.id for end in container.attrs["NetworkSettings"]["Networks"].values())


def of(engine, container) -> list[str]:
    """The names of a container's networks; an engine may list one by the id by which it was asked for it."""
    from docker.errors import NotFound

    names = []
    for listed, end in container.attrs["NetworkSettings"]["Networks"].items():
        try:
            names.append(engine.networks.get(end["NetworkID"] or listed).name)
        except NotFound:
            names.append(listed)
    return names
