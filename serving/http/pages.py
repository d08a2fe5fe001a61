"""Pages for people: the model with a form at /, its interface at /docs and /redoc. Nothing on them comes from elsewhere."""

import hashlib
import importlib.util
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI, Request, Response

# A package whose files are used and whose code is not: Swagger UI and ReDoc, which FastAPI would load from a CDN.
VENDOR = "fastapi_standalone_docs"

OURS = {
    "/": "page.html",
    "/page.css": "page.css",
    "/page.js": "page.js",
    "/docs": "docs.html",
    "/docs/bounds.js": "bounds.js",
    "/docs/docs.js": "docs.js",
    "/redoc": "redoc.html",
    "/redoc/redoc.js": "redoc.js",
}
THEIRS = {
    "/docs/swagger-ui.css": "swagger/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger/swagger-ui-bundle.js",
    "/redoc/redoc.standalone.js": "redoc/redoc.standalone.js",
    "/redoc/logo-mini.svg": "redoc/logo-mini.svg",
}
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# ReDoc writes its styles into the page as it runs; a style can neither run nor send anything under this policy.
POLICY_OF_REDOC = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'")


def install(app: FastAPI) -> None:
    """Serve the pages and what they are made of."""
    for path, name in OURS.items():
        app.add_route(path, _file(lambda: Path(__file__).parent / "static", name), include_in_schema=False)
    for path, name in THEIRS.items():
        app.add_route(path, _file(_vendored, name), include_in_schema=False)


def _vendored() -> Path:
    """Where the package keeps its files; it is found, not imported."""
    found = importlib.util.find_spec(VENDOR)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {VENDOR} is not installed")
    return Path(found.submodule_search_locations[0]) / "static"


def _file(folder: Callable[[], Path], name: str) -> Callable[[Request], Response]:
    """An endpoint that answers one file, read when it is asked for; not a coroutine, so it is run in a thread."""

    def endpoint(request: Request) -> Response:
        if request.scope["raw_path"].endswith(b"/") and request.url.path != "/":  # its links would lead elsewhere
            return Response(status_code=308, headers={"location": f"..{request.url.path}"})
        content = (folder() / name).read_bytes()
        # By content: in an image every file has the same time, and two versions of one may have the same size.
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {
            "etag": tag,
            "cache-control": "no-cache",
            "content-security-policy": POLICY_OF_REDOC if request.url.path == "/redoc" else POLICY,
        }
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=KINDS[Path(name).suffix])

    return endpoint
