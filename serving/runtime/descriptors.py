"""Open files: each connection is one, and the usual limit of a shell or a container is low."""

import resource

MOST = 65_536


def raise_limit() -> None:
    """Let this process, and those forked from it, open as many files as it may without being root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
