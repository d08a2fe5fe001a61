"""What people were told of, where there are no issues to remember it: tags of the experiment NAME-monitoring in MLflow."""

from pipeline.ci import issues
from pipeline.ci.issues import Kept, Matter
from pipeline.registry import versions

MOST = 250  # parts that a tag holds; MLflow takes 5,000 characters


def experiment_name(name: str) -> str:
    """The experiment of a model's monitoring."""
    return f"{name}-monitoring"


def compare(client, matter: Matter) -> Kept:
    """What happened to a matter since people were last told of it."""
    found = versions.find_experiment(client, experiment_name(matter.mark[0]))
    text = found.tags.get(_tag(matter)) if found else None
    known = None if text is None else text.split()
    if known is not None and len(known) >= MOST:  # a full memory knows all: better one message too few than one a day
        known = sorted({*known, *matter.ids}) if matter.ids else known
    new = tuple(one for one in matter.ids if one not in (known or ()))
    happened = issues.change(known, matter.ids)
    return Kept(happened, "", new)


def remember(client, matter: Matter) -> None:
    """Keep what people have been told of."""
    experiment = versions.experiment(client, experiment_name(matter.mark[0]))
    client.set_experiment_tag(experiment, _tag(matter), " ".join(sorted(matter.ids)[:MOST]))


def _tag(matter: Matter) -> str:
    return ".".join(("told", *matter.mark[1:]))
