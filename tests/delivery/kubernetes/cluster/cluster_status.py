"""The API server's errors: a Status object with Kubernetes' own messages."""

from typing import Any


class ApiError(Exception):
    """A request that fails with a Status: `code` is the HTTP status, `reason` Kubernetes' name for it ("" when it has none)."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details

    def body(self) -> dict[str, Any]:
        """The Status object."""
        status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self)}
        status |= {"reason": self.reason} if self.reason else {}
        return status | ({"details": self.details} if self.details else {}) | {"code": self.code}


def full_name(plural: str, group: str) -> str:
    """A resource's name in messages: pods, deployments.apps."""
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> ApiError:
    """404: there is no such object."""
    details = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(404, "NotFound", f'{full_name(plural, group)} "{name}" not found', details)


def no_such_resource() -> ApiError:
    """404: there is no such path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def already_exists(plural: str, group: str, name: str) -> ApiError:
    """409: the object exists already."""
    details = {"name": name, "kind": plural} | ({"group": group} if group else {})
    return ApiError(409, "AlreadyExists", f'{full_name(plural, group)} "{name}" already exists', details)


def conflict(plural: str, group: str, name: str) -> ApiError:
    """409: written with the resourceVersion of an older state."""
    message = (
        f'Operation cannot be fulfilled on {full_name(plural, group)} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return ApiError(409, "Conflict", message, {"name": name, "kind": plural})


def invalid(kind: str, group: str, name: str, causes: list[tuple[str, str]]) -> ApiError:
    """422: well-formed, but invalid; each cause is (field, message)."""
    said = [f"{field}: {what}" for field, what in causes]
    told = said[0] if len(said) == 1 else f"[{', '.join(said)}]"
    found = [{"reason": "FieldValueInvalid", "message": what, "field": field} for field, what in causes]
    message = f'{full_name(kind, group)} "{name}" is invalid: {told}'
    return ApiError(422, "Invalid", message, {"name": name, "group": group, "kind": kind, "causes": found})


def bad_request(message: str) -> ApiError:
    """400: malformed."""
    return ApiError(400, "BadRequest", message)


def unavailable(message: str) -> ApiError:
    """503: nothing can respond."""
    return ApiError(503, "ServiceUnavailable", message)
