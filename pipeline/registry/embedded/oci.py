"""Blobs and tags of one repository in an image registry, for things other than images: a thin layer over oras.

Every failure becomes one of our errors: Refused when the registry denies access, Lost when a retry may help. Plain HTTP
is used for this machine only.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import msgspec
import requests
from oras.auth import get_auth_backend
from oras.container import Container
from oras.provider import Registry
from requests.adapters import HTTPAdapter

from pipeline import container_registry
from pipeline.errors import RegistryError

WAITS = (1, 4)  # seconds before the second and the third try
HUB = "registry-1.docker.io"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFESTS = (  # accept every type, or an existing manifest would seem to be absent
    MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
AGAIN = 0.3  # seconds: a 404 counts only when seen twice, because a tag being written may seem absent
EMPTY = {
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": f"sha256:{hashlib.sha256(b'{}').hexdigest()}",
    "size": 2,
}
ADVICE = (
    "check IMAGE_REPOSITORY_USERNAME and IMAGE_REPOSITORY_PASSWORD; a workflow needs the permission packages: write"
)
Answer = TypeVar("Answer")


class Layer(TypedDict):
    """One blob's entry in a manifest."""

    digest: str
    size: int
    annotations: NotRequired[dict[str, str]]


class Refused(RegistryError):
    """The registry does not allow this user to read, or write, here."""


class Lost(RegistryError):
    """The registry did not respond, or not sensibly: a retry may help."""


def beside(repository: str, name: str) -> str:
    """The repository NAME beside that of the images; Docker Hub has no nested repositories."""
    first, _, rest = repository.partition("/")
    if container_registry.host(repository) == "Docker Hub":
        return f"{HUB}/{repository}-{name}"
    return f"{HUB}/{rest}-{name}" if first in ("docker.io", "index.docker.io") else f"{repository}/{name}"


class Repository:
    """One repository: `get` and `put` of manifests by tag, `download` and `upload` of blobs by digest."""

    def __init__(self, name: str, timeout: float = 60, waits: tuple[float, ...] = WAITS):
        """`timeout` in seconds for a silent registry; `waits` in seconds, one for each retry."""
        self.name, self.waits = name, waits
        self.container = Container(name)
        self.client = _Client(self.container.registry, timeout)

    def get(self, tag: str) -> tuple[str, dict[str, Any]] | None:
        """The digest and content of the manifest under a tag, or None when there is none; raises Refused or Lost."""
        answer = self._patiently(lambda: self._manifest("GET", tag, headers={"Accept": ", ".join(MANIFESTS)}))
        if answer.status_code == 404:
            time.sleep(AGAIN)
            answer = self._patiently(lambda: self._manifest("GET", tag, headers={"Accept": ", ".join(MANIFESTS)}))
        if answer.status_code == 404:
            return None
        try:
            manifest = json.loads(answer.content)
            assert manifest["config"] == EMPTY
            msgspec.convert(manifest["layers"], list[Layer])
            msgspec.convert(manifest.get("annotations", {}), dict[str, str])
        except (ValueError, KeyError, TypeError, AssertionError, RecursionError, msgspec.ValidationError):
            raise RegistryError(
                f"{self.name}:{tag} holds something that was not put there by the pipeline",
                "delete that tag, or set IMAGE_REPOSITORY to a repository of your own",
            ) from None
        return digest(answer.content), manifest

    def put(self, tag: str, content: bytes) -> None:
        """Store a manifest, given as bytes, under a tag; raises Refused or Lost."""
        self._patiently(lambda: self._manifest("PUT", tag, headers={"Content-Type": MANIFEST}, data=content))

    def _manifest(self, method: str, tag: str, **arguments) -> requests.Response:
        return self.client.ask(f"{self.client.prefix}://{self.container.manifest_url(tag)}", method, **arguments)

    def prepare(self) -> None:
        """Store the empty blob that every manifest refers to; raises Refused without write access."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"{}")
            file.flush()
            self._patiently(lambda: self.client.put_upload(file.name, self.container, EMPTY))

    def upload(self, path: Path, layer: dict[str, Any]) -> None:
        """Store a file as the blob that `layer` (digest, size in bytes) describes, unless it exists."""
        self._patiently(lambda: self.client.upload_blob(str(path), self.container, layer))

    def download(self, layer: dict[str, Any], path: Path) -> None:
        """Fetch a blob into a file; wrong bytes for its digest count as Lost."""
        self._patiently(lambda: self._download(layer["digest"], path))

    def _download(self, wanted: str, path: Path) -> None:
        hashed = hashlib.sha256()
        with self.client.get_blob(self.container, wanted, stream=True) as answer, path.open("wb") as file:
            if answer.status_code == 404:
                raise RegistryError(f"{self.name} no longer holds {wanted}", "was it deleted there? See docs/mlflow.md")
            try:
                for chunk in answer.iter_content(1 << 20):
                    hashed.update(chunk)
                    file.write(chunk)
            except requests.RequestException as error:
                raise self.client.lost(error) from None
        if f"sha256:{hashed.hexdigest()}" != wanted:
            raise Lost(f"{self.name} sent other bytes than those of {wanted}", "see docs/mlflow.md when it stays so")

    def _patiently(self, once: Callable[[], Answer]) -> Answer:
        """Send a request, and retry after each of the waits while the registry is unreachable."""
        for wait in (*self.waits, None):
            try:
                return once()
            except Lost as error:
                if wait is None:
                    raise
                if wait >= 1:
                    print(f"  {error.what}; trying again in {wait} s", flush=True)
                time.sleep(wait)
        raise AssertionError  # unreachable: the last try returns or raises


def manifest(layers: list[dict[str, Any]], annotations: dict[str, str]) -> bytes:
    """The bytes of a manifest; equal layers and annotations give equal bytes. A registry requires at least one layer."""
    server, path = (os.environ.get(f"GITHUB_{key}", "") for key in ("SERVER_URL", "REPOSITORY"))
    source = {"org.opencontainers.image.source": f"{server}/{path}"} if server and path else {}
    value = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": EMPTY,
        "layers": layers or [EMPTY],
        "annotations": annotations | source,  # GitHub links a package to the repository in this annotation
    }
    return json.dumps(value, indent=1).encode()


def digest(content: bytes) -> str:
    """The digest of these bytes, as a registry names them."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Timely(HTTPAdapter):
    """Requests with a timeout; a requests session has no such setting."""

    def __init__(self, timeout: float):
        self.timeout = timeout
        super().__init__(pool_maxsize=16)

    def send(self, request, stream=False, timeout=None, verify=True, cert=None, proxies=None):
        return super().send(request, stream, timeout or (min(10, self.timeout), self.timeout), verify, cert, proxies)


class _Client(Registry):
    """oras' client with timeouts, our errors, retries, and a new token when the old one is refused."""

    auth: Any  # the library's class lacks methods that all its login classes have

    def __init__(self, host: str, timeout: float):
        here = host.partition(":")[0] in ("localhost", "127.0.0.1")
        super().__init__(hostname=host, insecure=here)
        self.host = host
        for prefix in ("http://", "https://"):
            self.session.mount(prefix, _Timely(timeout))

    def do_request(self, url: str, method: str = "GET", **arguments) -> requests.Response:
        return self.ask(url, method, **arguments)

    def ask(self, url: str, method: str = "GET", **arguments) -> requests.Response:
        """One request, logged in if needed; returns 2xx, or 404 for reads; raises for anything else."""
        try:
            answer = self._logged_in(url, method, arguments)
        except (requests.RequestException, OSError) as error:
            raise self.lost(error) from None
        except (ValueError, AttributeError, KeyError):  # raised by the library when it gets no token
            raise Refused(f"{self.host} refuses the log-in", ADVICE) from None
        if answer.status_code < 400 or (answer.status_code == 404 and method in ("GET", "HEAD")):
            return answer
        raise self._error(answer)

    def _logged_in(self, url: str, method: str, arguments: dict[str, Any]) -> requests.Response:
        """Send the request as we are; if refused, log in for this very request and send it again."""
        headers = dict(arguments.pop("headers", None) or {})
        answer = self.session.request(method, url, headers=headers | self.auth.get_auth_header(), **arguments)
        if answer.status_code not in (401, 403) or "Www-Authenticate" not in answer.headers:
            return answer
        # The old token may have expired, or be for reading only.
        auth = self._log_in(answer.headers["Www-Authenticate"])
        headers, _ = auth.authenticate_request(answer, headers)
        self.auth = auth
        return self.session.request(method, url, headers=headers, **arguments)

    def _log_in(self, challenge: str) -> Any:
        """Log in with the environment's credentials, else those of `docker login`, by the registry's own method."""
        way = "basic" if challenge.lower().startswith("basic") else "token"
        auth = get_auth_backend(way, self.session, self.prefix == "http")
        login = container_registry.login()
        if login:
            auth.set_basic_auth(**login)
        else:
            auth.load_configs(Container(f"{self.host}/any"))
        return auth

    def lost(self, error: Exception) -> Lost:
        """The error for a connection that failed or broke."""
        reason = str(getattr(error, "args", [""])[0] if error.args else error)
        return Lost(
            f"{self.host} was lost or does not answer ({type(error).__name__}: {reason[:200]})",
            "run this again when it is back; IMAGE_REPOSITORY says which registry is meant",
        )

    def _error(self, answer: requests.Response) -> RegistryError:
        words = f"{answer.status_code} {answer.reason} {' '.join(answer.text.split())[:200]}".strip()
        if answer.status_code in (401, 403):
            return Refused(f"{self.host} refuses: {words}", ADVICE)
        # A blob that another run uploads at this moment may be unknown for an instant.
        if answer.status_code == 429 or answer.status_code >= 500 or "MANIFEST_BLOB_UNKNOWN" in words:
            return Lost(f"{self.host} answers {words}", "run this again later")
        return RegistryError(f"{self.host} answers {words}", "check IMAGE_REPOSITORY")
