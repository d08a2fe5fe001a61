"""docs/benchmarks.md: each part of the benchmark writes its own section and leaves the others alone."""

import re

HEAD = """# Benchmarks

How fast the prediction service is beside other ways of serving the same model and beside an earlier release, what explanations
cost, how long the pipeline takes, and how fast the monitor reads the log. Measure it yourself with

```
make bench                           # all parts but the one with an earlier release, into this page
make bench ARGS="--only monitor"     # one part: serving, families, explanations, before, pipeline or monitor
make bench ARGS="--only before --before ../earlier"  # beside an earlier checkout: git worktree add ../earlier COMMIT
make bench ARGS="--quick"            # a trial run of a few minutes that changes nothing here
```

Each section is from the last run that measured it. Ratios carry over to other machines; seconds and rates do not. The service
needs Linux with two free cores, and wrk, which is installed with apt-get where that is possible (`--wrk` names another).
"""
PARTS = ("serving", "families", "explanations", "before", "pipeline", "monitor")


def merge(page: str, sections: dict[str, str]) -> str:
    """The page with these sections replaced, and the others as they were."""
    kept = dict(re.findall(r"<!-- part: (\w+) -->\n(.*?)<!-- end -->\n", page, re.S))
    kept |= {name: f"{text.rstrip()}\n" for name, text in sections.items()}
    parts = [f"<!-- part: {name} -->\n{kept[name]}<!-- end -->\n" for name in PARTS if name in kept]
    return "\n".join([HEAD, *parts])
