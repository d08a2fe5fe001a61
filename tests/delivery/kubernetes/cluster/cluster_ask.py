"""One request to the API, parsed from its path."""

import json
from dataclasses import dataclass
from typing import Any

import yaml
from cluster_access import Action, User
from cluster_protobuf import decode
from cluster_resources import Resource, find
from cluster_status import bad_request, no_such_resource

OWN_SUBRESOURCES = ("status", "finalize")  # of namespaces: anything else after a namespace's name is inside it
DOES = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get", "HEAD": "get"}


@dataclass(frozen=True)
class Ask:
    """What is requested of which resource."""

    method: str
    resource: Resource
    namespace: str
    name: str
    subresource: str
    rest: str
    query: dict[str, str]
    content_type: str
    body: bytes
    user: User
    agent: str
    table: bool

    @property
    def verb(self) -> str:
        """The verb in terms of permissions."""
        if self.method in ("GET", "HEAD") and not self.name:
            return "watch" if self.query.get("watch") in ("1", "true") else "list"
        return "deletecollection" if self.method == "DELETE" and not self.name else DOES[self.method]

    @property
    def action(self) -> Action:
        """The permission that the request needs."""
        place = self.name if self.resource.plural == "namespaces" else self.namespace
        return Action(self.verb, self.resource.group, self.resource.plural, self.subresource, place, self.name)

    @property
    def manager(self) -> str:
        """The owner of the fields that this request writes."""
        return self.query.get("fieldManager") or self.agent.split("/")[0] or "unknown"

    @property
    def dry(self) -> bool:
        """Whether nothing is to be stored."""
        return self.query.get("dryRun") == "All"

    def content(self) -> Any:
        """The body as JSON or YAML; raises ApiError 400."""
        try:
            if "yaml" in self.content_type:
                return yaml.safe_load(self.body)
            return decode(self.body) if "protobuf" in self.content_type else json.loads(self.body or b"{}")
        except (ValueError, yaml.YAMLError) as error:
            raise bad_request(f"the object provided is unrecognized: {error}") from error


def place(path: str) -> tuple[Resource, str, str, str, str]:
    """(resource, namespace, name, subresource, rest) of a path; raises ApiError 404."""
    steps = path.strip("/").split("/")
    group, version, steps = ("", steps[1], steps[2:]) if steps[0] == "api" else ("", "", steps)
    if steps[0] == "apis" and len(steps) > 3:
        group, version, steps = steps[1], steps[2], steps[3:]
    namespace = ""
    if len(steps) > 2 and steps[0] == "namespaces" and steps[2] not in OWN_SUBRESOURCES:
        namespace, steps = steps[1], steps[2:]
    plural, name, subresource = [*steps, "", "", ""][:3]
    resource = find(group, version, plural)
    if resource is None or (subresource and subresource not in resource.subresources):
        raise no_such_resource()
    return resource, namespace, name, subresource, "/".join(steps[3:])
