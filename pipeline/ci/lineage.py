"""Where a build comes from: commit, lock file, and who links to it."""

import os
import subprocess

from pipeline.artifacts import ROOT, sha256


def commit() -> tuple[str, bool]:
    """The git commit of the working tree, and whether tracked files differ from it; ("none", True) outside a checkout."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return "none", True


def lock_hash() -> str:
    """SHA-256 of the locked requirements of the pipeline."""
    return sha256(ROOT / "requirements" / "pipeline.txt")


def link() -> str:
    """The page of the workflow run, when in one, else an empty string."""
    server, repository, run = (os.environ.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY", "RUN_ID"))
    return f"{server}/{repository}/actions/runs/{run}" if run else ""
