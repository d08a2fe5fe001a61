"""The kubeconfig that an environment carries: read, checked, and written for the steps that follow."""

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
FLAT = "`kubectl config view --raw --flatten --minify` prints one that is whole and stands alone"
Config = dict[str, Any]


def asked_for() -> None:
    """Refuse production in a cluster that nobody has asked for."""
    if repository_settings.switch(os.environ, "SLIPWAY_DEPLOY_PRODUCTION") != "true":
        raise SettingsError(
            "production in a cluster is deployed to only when it is asked for",
            "give the environment `production` required reviewers, then set the repository variable "
            "SLIPWAY_DEPLOY_PRODUCTION to true",
        )


def parsed(text: str) -> Config:
    """The kubeconfig; raises SettingsError, which repeats nothing of it, when it is none."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise refused(f"is not YAML{f' (line {mark.line + 1})' if mark else ''}: is it whole?") from None
    if isinstance(config, str) and _is_base64(config):
        raise refused("is base64", "decode it first: the secret holds the file as it is")
    if not isinstance(config, dict):
        raise refused("is not a kubeconfig: it is no YAML mapping")
    for kind in ("clusters", "contexts"):
        if not entries(config, kind):
            raise refused(f"has no {kind}: is it whole?")
    return config


def refused(what: str, then: str = FLAT) -> SettingsError:
    """The kubeconfig cannot be used."""
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
        raise refused(f"has {kind} that are no list of names: is it whole?")
    bodies = {str(one["name"]): one.get(KINDS[kind]) or {} for one in found}
    if not all(isinstance(body, dict) for body in bodies.values()):
        raise refused(f"has {kind} that say nothing: is it whole?")
    return bodies


def choose(config: Config, environment: str) -> str:
    """The context of an environment: the one its variable names, else the one called so, else the only one."""
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
    """See that a context leads to a cluster and a user; one without credentials gets GitHub's OIDC token."""
    about = entries(config, "contexts")[context]
    where = entries(config, "clusters").get(str(about.get("cluster")))
    if where is None or not where.get("server"):
        raise refused(f"has a context {context} whose cluster has no address: is it whole?")
    check(where)
    users = entries(config, "users") | ({} if about.get("user") else {GITHUB: {}})
    user = users.get(str(about.get("user") or GITHUB))
    if user is None:
        raise refused(f"has a context {context} whose user is not in it: is it whole?")
    check(user)
    if not any(user.get(name) for name in CREDENTIALS):
        use_token(config, context)


def check(body: Config) -> None:
    """Refuse what a cluster or a user needs and this machine does not have: files, a program; or half a certificate."""
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
    """How kubectl starts the credential plugin, from wherever it runs."""
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": sys.executable,
        "args": ["-m", "delivery.targets.kubernetes.oidc_token"],
        "env": [{"name": "PYTHONPATH", "value": str(ROOT)}],
        "interactiveMode": "Never",
    }


def written(text: str) -> Path:
    """Write the kubeconfig where this user alone can read it; GitHub empties RUNNER_TEMP after each job."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-cluster-", dir=os.environ.get("RUNNER_TEMP") or None))
    write_text(folder / "kubeconfig", text, mode=0o600)
    return folder / "kubeconfig"


def hand_on(variables: dict[str, str]) -> None:
    """Set variables for the steps that follow; outside of a workflow, print how."""
    outputs.variables(**variables)
    if not outputs.is_workflow():
        for name, value in variables.items():
            print(f"export {name}={shlex.quote(value)}")
