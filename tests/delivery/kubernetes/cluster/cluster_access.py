"""Authentication and authorization."""

from dataclasses import dataclass

from cluster_status import ApiError, full_name

READ = ("get", "list", "watch")


@dataclass(frozen=True)
class User:
    """A user with a token: the permissions inside namespaces, and on the cluster itself."""

    name: str
    token: str
    inside: tuple[str, ...]
    cluster: tuple[str, ...]


ALL = ("*",)
USERS = (
    User("staging-deployer", "token-of-staging", ALL, ALL),
    User("production-deployer", "token-of-production", ALL, ALL),
    User("outsider", "token-of-outsider", (), ()),
    User("reader", "token-of-reader", READ, READ),
    User("tenant", "token-of-tenant", ALL, ()),
)
ACCESS_REVIEWS = ("selfsubjectaccessreviews", "selfsubjectreviews")  # everybody may ask about themselves


@dataclass(frozen=True)
class Action:
    """An action that needs a permission."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def user_of(authorization: str) -> User:
    """The user with this bearer token; raises ApiError 401."""
    token = authorization.removeprefix("Bearer ").strip()
    found = next((user for user in USERS if token == user.token), None)
    if not authorization.startswith("Bearer ") or found is None:
        raise ApiError(401, "Unauthorized", "Unauthorized")
    return found


def may(user: User, action: Action) -> bool:
    """Whether a user may perform an action."""
    allowed = user.inside if action.namespace else user.cluster
    return action.resource in ACCESS_REVIEWS or "*" in allowed or action.verb in allowed


def check(user: User, action: Action) -> None:
    """Raise ApiError 403 with Kubernetes' message unless a user may perform an action."""
    if may(user, action):
        return
    what = f"{action.resource}/{action.subresource}" if action.subresource else action.resource
    where = f'in the namespace "{action.namespace}"' if action.namespace else "at the cluster scope"
    plural = full_name(action.resource, action.group)
    said = f'{plural} "{action.name}"' if action.name else plural
    message = (
        f'{said} is forbidden: User "{user.name}" cannot {action.verb} resource "{what}" '
        f'in API group "{action.group}" {where}'
    )
    details = {"name": action.name, "group": action.group, "kind": action.resource}
    raise ApiError(403, "Forbidden", message, {key: value for key, value in details.items() if value})
