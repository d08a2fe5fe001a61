"""An environment's kubeconfig: read, checked, and written for the workflow's next steps."""

import base64
import binascii
import os
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from delivery.targets.kubernetes import oidc_token
from delivery.targets.kubernetes.target import CONTEXTS
from pipeline.artifacts import ROOT, write_text
from pipeline.ci import outputs, repository_settings
from pipeline.errors import SettingsError

GIVEN = "SLIPWAY_KUBECONFIG"
KINDS = {"clusters": "cluster", "contexts": "context", "users": "user"}
FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
DATA = ("certificate-authority-data", "client-certificate-data", "client-key-data")
CREDENTIALS = (
    "token",
    "tokenFile",
    "client-certificate",
    "client-certificate-data",
    "exec",
    "auth-provider",
    "username",
)
GITHUB = "github-oidc"  # the user of a context that names none
FLAT = "`kubectl config view --raw --flatten --minify` prints one that is complete"
Config = dict[str, Any]


def asked_for() -> None:
    """Raise SettingsError unless production in a cluster was requested."""
    if repository_settings.switch(os.environ, "SLIPWAY_DEPLOY_PRODUCTION") != "true":
        raise SettingsError(
            "production in a cluster must be requested",
            "give the environment `production` required reviewers, then set the repository variable "
            "SLIPWAY_DEPLOY_PRODUCTION to true",
        )


def parsed(text: str) -> Config:
    """The parsed kubeconfig; raises SettingsError, which quotes nothing of it, when it is invalid."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise refused(f"is not YAML{f' (line {mark.line + 1})' if mark else ''}: is it complete?") from None
    if isinstance(config, str) and _is_base64(config):
        raise refused("is base64", "decode it first: the secret holds the file as it is")
    if not isinstance(config, dict):
        raise refused("is not a kubeconfig: it is no YAML mapping")
    for kind in ("clusters", "contexts"):
        if not entries(config, kind):
            raise refused(f"has no {kind}: is it complete?")
    return config


def refused(what: str, then: str = FLAT) -> SettingsError:
    """The error for an unusable kubeconfig."""
    return SettingsError(f"the kubeconfig in {GIVEN} {what}", then)


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def entries(config: Config, kind: str) -> dict[str, Config]:
    """Clusters, contexts or users by name."""
    found = config.get(kind) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) and "name" in one for one in found):
        raise refused(f"has {kind} that are no list of names: is it complete?")
    bodies = {str(one["name"]): one.get(KINDS[kind]) or {} for one in found}
    if not all(isinstance(body, dict) for body in bodies.values()):
        raise refused(f"has {kind} that say nothing: is it complete?")
    return bodies


def choose(config: Config, environment: str) -> str:
    """The environment's context: the one from its variable, else the one of its name, else the only one."""
    there, variable = entries(config, "contexts"), CONTEXTS[environment]
    named = os.environ.get(variable)
    if named and named not in there:
        raise SettingsError(
            f"{variable}={named} is not a context of the kubeconfig in {GIVEN}", f"it has: {', '.join(there)}"
        )
    if found := named or (environment if environment in there else ""):
        return found
    if len(there) > 1:
        raise refused(
            f"has the contexts {', '.join(there)}, and none is called {environment}",
            f"set the variable {variable} to one of them, or leave only one",
        )
    return next(iter(there))


def log_in(config: Config, context: str) -> None:
    """Check that a context has a cluster and a user; a user without credentials gets GitHub's OIDC token."""
    about = entries(config, "contexts")[context]
    where = entries(config, "clusters").get(str(about.get("cluster")))
    if where is None or not where.get("server"):
        raise refused(f"has a context {context} whose cluster has no address: is it complete?")
    check(where)
    users = entries(config, "users") | ({} if about.get("user") else {GITHUB: {}})
    user = users.get(str(about.get("user") or GITHUB))
    if user is None:
        raise refused(f"has a context {context} whose user is not in it: is it complete?")
    check(user)
    if not any(user.get(name) for name in CREDENTIALS):
        use_token(config, context)


def check(body: Config) -> None:
    """Raise SettingsError when a cluster or user needs files or a program that are missing here, or has half a certificate."""
    for name in FILES:
        if name in body and not Path(str(body[name])).is_file():
            raise refused(f"names a file that is not on this machine ({name})")
    for name in DATA:
        if name in body and not _is_base64(str(body[name])):
            raise refused(f"has a {name} that is cut or damaged")
    program = body.get("exec")
    command = program.get("command") if isinstance(program, dict) else None
    if command and not shutil.which(str(command)):
        raise refused(
            f"logs in with the program {command}, which is not on this machine",
            "install it in a step before, or use a user without credentials and GitHub's OIDC token",
        )


def use_token(config: Config, context: str) -> None:
    """Let the user of a context log in with GitHub's OIDC token."""
    if not oidc_token.available():
        raise refused(
            f"has no credentials for the context {context}, and this job may not ask for GitHub's OIDC token",
            oidc_token.PERMISSION,
        )
    about = next(one for one in config["contexts"] if str(one["name"]) == context)["context"]
    about["user"] = about.get("user") or GITHUB
    others = [one for one in config.get("users") or [] if str(one["name"]) != str(about["user"])]
    user = entries(config, "users").get(str(about["user"]), {})
    config["users"] = [*others, {"name": about["user"], "user": user | {"exec": plugin()}}]


def plugin() -> Config:
    """kubectl's configuration of the credential plugin, independent of the working directory."""
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "delivery.targets.kubernetes.oidc_token"],
        "env": [{"name": "PYTHONPATH", "value": str(ROOT)}],
        "interactiveMode": "Never",
    }


def written(text: str) -> Path:
    """Write the kubeconfig readable by this user only; GitHub empties RUNNER_TEMP after each job."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-cluster-", dir=os.environ.get("RUNNER_TEMP") or None))
    write_text(folder / "kubeconfig", text, mode=0o600)
    return folder / "kubeconfig"


def hand_on(variables: dict[str, str]) -> None:
    """Set variables for the workflow's next steps; outside a workflow, print how to set them."""
    outputs.variables(**variables)
    if not outputs.is_workflow():
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
