"""The API's certificate, and the kubeconfig that trusts it."""

import base64
from pathlib import Path
from typing import Any

import trustme
import yaml
from cluster_access import User

CONTEXTS = {"staging": "staging-deployer", "production": "production-deployer"}


def certificate(folder: Path) -> tuple[bytes, Path]:
    """(the authority's certificate, a file with the server's certificate and key)."""
    authority = trustme.CA()
    file = folder / "server.pem"
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(str(file))
    return authority.cert_pem.bytes(), file


def kubeconfig(folder: Path, url: str, authority: bytes, users: tuple[User, ...]) -> Path:
    """Write a kubeconfig: contexts staging and production, one named after each other user, `expired` and `unreachable`."""
    data = base64.b64encode(authority).decode()
    clusters = {"double": url, "nowhere": "https://127.0.0.1:9"}
    names = {user.name: user.token for user in users} | {"expired": "token-of-yesterday"}
    contexts = CONTEXTS | {name: name for name in names if name not in CONTEXTS.values()}
    value: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": name, "cluster": {"server": server, "certificate-authority-data": data}}
            for name, server in clusters.items()
        ],
        "users": [{"name": name, "user": {"token": token}} for name, token in names.items()],
        "contexts": [{"name": name, "context": {"cluster": "double", "user": user}} for name, user in contexts.items()],
    }
    nowhere = {"cluster": "nowhere", "user": "staging-deployer"}
    value["contexts"].append({"name": "unreachable", "context": nowhere})
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(value), encoding="utf-8")
    file.chmod(0o600)
    return file
