"""Who am I, and may I: the reviews that `kubectl auth` requests."""

from dataclasses import replace

from cluster_access import Action, may
from cluster_ask import Ask
from cluster_store import Object


def review(ask: Ask) -> Object:
    """The response to a review."""
    asked = {"apiVersion": ask.resource.api_version, "kind": ask.resource.kind, "metadata": {}} | ask.content()
    if ask.resource.kind == "SelfSubjectReview":
        user = {"username": ask.user.name, "groups": ["system:authenticated"]}
        return asked | {"status": {"userInfo": user}}
    allowed = may(ask.user, _action(asked["spec"].get("resourceAttributes") or {}))
    return asked | {"status": {"allowed": allowed}}


def _action(wanted: dict[str, str]) -> Action:
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    action = Action(**{name: wanted.get(name, "") for name in names})
    if action.resource == "namespaces":
        return replace(action, namespace=action.name)
    return action
