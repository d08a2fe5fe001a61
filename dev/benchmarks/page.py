"""docs/benchmarks.md: a page of which each part of the benchmark owns a section, and leaves the others alone."""

import re

HEAD = """# Benchmarks

Made by `make bench`, which measures the pipeline and the service; `make bench ARGS="--only serving"` measures one of them.
Each section is of the last run that measured it. The service is measured on Linux with two free cores, by wrk, which is fetched
where apt-get can fetch it; `--wrk` names another, `--quick` tries everything out in a few minutes and claims nothing.
"""
PARTS = ("pipeline", "serving")


def merge(page: str, sections: dict[str, str]) -> str:
    """The page with these sections in place of older ones of the same part, the others as they were."""
    kept = dict(re.findall(r"<!-- part: (\w+) -->\n(.*?)<!-- end -->\n", page, re.S))
    kept |= {name: f"{text.rstrip()}\n" for name, text in sections.items()}
    parts = [f"<!-- part: {name} -->\n{kept[name]}<!-- end -->\n" for name in PARTS if name in kept]
    return "\n".join([HEAD, *parts])
