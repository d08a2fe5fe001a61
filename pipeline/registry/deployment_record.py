"""The record of a deployment: a run of the experiment NAME-deployments. What is known of it is in the run's tags.

No other file knows these tags by name. Records of older releases lack some, and anybody may change one: each attribute has a
value for that case.
"""

import socket
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.ci import lineage
from pipeline.evaluation.github_markdown import code, line_of, prose
from pipeline.evaluation.wording import clean
from pipeline.registry import versions
from pipeline.registry.model_version import NOTHING, ModelVersion

BEGUN, DEPLOYED, FAILED = "begun", "deployed", "failed"  # `result`
DUE, DONE = "due", "done"  # `bookkeeping`, of a deployment that moves its alias itself
MARKS = "marks"  # of a deployment that follows an alias: only the marks on versions are to be set
OVERTAKEN = "overtaken"  # somebody moved the alias to another version meanwhile
REHEARSAL = "rehearsal"  # `action` of a deployment that was meant to fail
LONGEST = 4000  # characters of a detail


class Identified(Protocol):
    """What names a release to the byte, as what serves does and as the record of a deployment does."""

    @property
    def version(self) -> str:
        """The version's number."""

    @property
    def digest(self) -> str:
        """The digest of its build."""

    @property
    def experiment(self) -> str:
        """The experiment that it carries, with its share, or ""."""


@dataclass(frozen=True)
class Deployment:
    """Who put which version where, in place of what, how it ended and why; and what is left to do in MLflow."""

    environment: str
    version: str
    digest: str
    action: str
    target: str
    before: str | None = None  # the version that served before
    image: str | None = None
    link: str = ""  # the workflow run that deployed
    actor: str = ""
    host: str = ""
    result: str = BEGUN
    detail: str = ""
    experiment: str = ""  # that it carries, with its share

    # What a deployment that has succeeded leaves to do.
    bookkeeping: str = ""
    alias_from: str | None = None  # the version that the alias was on, where the deployment moves it
    left: str = ""  # the version to be marked as rolled back

    # Of the run.
    run_id: str = ""
    experiment_id: str = ""
    began: float = 0.0  # seconds since 1970, as the next
    since: float = 0.0  # when it ended: with a canary that may be an hour later

    @classmethod
    def of(
        cls, version: ModelVersion, environment: str, action: str, target: str, before: Identified | None
    ) -> "Deployment":
        """A deployment that is about to start here, of a version with the image that MLflow has."""
        return cls(
            environment,
            version.number,
            version.digest,
            action,
            target,
            before=before.version if before else None,
            image=version.image or None,
            link=lineage.link(),
            actor=versions.actor(),
            host=socket.gethostname(),
        )

    @classmethod
    def from_mlflow(cls, run: Any) -> "Deployment":
        """The record that MLflow's client gave."""
        tags, info = run.data.tags, run.info
        names = (
            "environment",
            "version",
            "digest",
            "action",
            "target",
            "link",
            "actor",
            "host",
            "result",
            "detail",
            "experiment",
        )
        return cls(
            **{name: tags.get(name, "") for name in names},
            before=_or_none(tags.get("before")),
            image=_or_none(tags.get("image")),
            bookkeeping=tags.get("bookkeeping", ""),
            alias_from=_or_none(tags.get("alias_from")),
            left=tags.get("left", ""),
            run_id=info.run_id,
            experiment_id=info.experiment_id,
            began=info.start_time / 1000,
            since=(info.end_time or info.start_time) / 1000,
        )

    def tags(self) -> dict[str, str]:
        """The tags of its run, among them the text for people."""
        tags = {
            "environment": self.environment,
            "version": self.version,
            "before": self.before or NOTHING,
            "digest": self.digest,
            "image": self.image or NOTHING,
            "action": self.action,
            "target": self.target,
            "link": self.link,
            "actor": self.actor,
            "host": self.host,
            "result": self.result,
            "detail": self.detail[:LONGEST],
        }
        if self.experiment:
            tags |= {"experiment": self.experiment}
        if self.bookkeeping:
            tags |= {"bookkeeping": self.bookkeeping, "left": self.left}
        if self.bookkeeping == DUE:
            tags |= {"alias_from": self.alias_from or NOTHING}
        return tags | {"mlflow.note.content": self.markdown()}

    @property
    def title(self) -> str:
        """The name of its run."""
        return f"{self.environment}: version {self.version} {self.result}"

    def markdown(self) -> str:
        """The record as Markdown, for the page of its run."""
        before = f"version {prose(self.before)}" if self.before else "nothing"
        who, host, target = code(self.actor), code(self.host), code(self.target)
        lines = [
            f"**{self.environment}: {before} → version {prose(self.version)}, {self.result}**",
            f"{code(self.action)} by {who} on {host}, to target {target}",
            f"with experiment {code(self.experiment)}" if self.experiment else "",
            f"image {code(self.image)}" if self.image else "",
            line_of(clean(self.detail, 1000)),
            code(self.link) if self.link else "",
        ]
        return "\n\n".join(line for line in lines if line)


def _or_none(text: str | None) -> str | None:
    return None if text in (NOTHING, "") else text


def last_deployment(client, name: str, environment: str) -> Deployment | None:
    """The newest deployment to an environment that succeeded; raises RegistryError when the experiment was deleted."""
    return _newest(client, name, environment, f"tags.result = '{DEPLOYED}'")


def last_unsettled(client, name: str, environment: str) -> Deployment | None:
    """The newest deployment to an environment for which something may be left to do; raises as `last_deployment` does."""
    return _newest(client, name, environment, f"tags.result != '{FAILED}' and tags.action != '{REHEARSAL}'")


def _newest(client, name: str, environment: str, condition: str) -> Deployment | None:
    experiment = versions.find_experiment(client, f"{name}-deployments")
    if experiment is None:
        return None
    runs = client.search_runs(
        [experiment.experiment_id],
        f"tags.environment = '{environment}' and {condition}",
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return Deployment.from_mlflow(runs[0]) if runs else None
