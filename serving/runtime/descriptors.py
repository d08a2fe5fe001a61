"""The limit on open files. Each connection uses one, and the default of a shell or a container is low."""

import resource

MOST = 65_536


def raise_limit() -> None:
    """Raise the soft limit on open files as far as the hard limit allows, for this process and those forked from it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
