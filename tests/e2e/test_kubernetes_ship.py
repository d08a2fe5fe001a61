"""The main job on a cluster, from data to production: images are built, pushed, pulled by digest, canaried and rolled back.

The cluster is the double, whose pods serve what it pulls from the real registry, or the real one of
SLIPWAY_TEST_CONTEXT.
"""

import json
import uuid

import pytest

from tests.delivery.kubernetes.cluster_handle import open_cluster


class OnCluster:
    """A fork that ships to a cluster."""

    def __init__(self, fork, cluster, registry):
        self.fork, self.cluster = fork, cluster
        self.environment = cluster.environment() | {"IMAGE_REPOSITORY": f"{registry}/slipway-test/{uuid.uuid4().hex}"}

    def ok(self, *arguments):
        """Run a command that must succeed."""
        done = self.fork.run(*arguments, timeout=600, **self.environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self):
        """The status by environment, from `make status`."""
        return {
            row["environment"]: row for row in json.loads(self.ok("-m", "scripts.status", "--json"))["environments"]
        }

    def image(self, environment):
        """The image of an environment's stable pods, as reported by the cluster."""
        context = {"staging": self.cluster.staging, "production": self.cluster.production}[environment]
        pods = self.cluster.json(
            "-n", self.namespace(environment), "get", "pods", "-l", "slipway/track=stable", context=context
        )
        (image,) = {pod["spec"]["containers"][0]["image"] for pod in pods["items"]}
        return image

    def namespace(self, environment):
        """The namespace of the fork's environment."""
        return f"{self.fork.namespace}-{environment}"


@pytest.fixture(scope="module")
def two(fork, engine, registry):
    """A fork on a cluster in which version 2 has replaced version 1 through the canary."""
    name = f"e2e-{uuid.uuid4().hex[:6]}"
    for old, new in (
        ('name = "breast-cancer" ', f'name = "{name}" '),
        ('target = "process" ', 'target = "kubernetes" '),
        ('policy = "better" ', 'policy = "not_worse" '),
        ("\nmargin = 0.01 ", "\nmargin = 0.5 "),
    ):
        fork.edit("pipeline.toml", old, new)
    object.__setattr__(fork, "namespace", name)
    with open_cluster() as cluster:
        made = OnCluster(fork, cluster, registry)
        made.first = made.ok("-m", "scripts.ship")
        made.images = [made.image("production")]
        fork.edit("pipeline.toml", "C = 0.5 ", "C = 0.6 ")
        made.second = made.ok("-m", "scripts.ship")
        made.images.append(made.image("production"))
        yield made
        for environment, context in (("staging", cluster.staging), ("production", cluster.production)):
            cluster.kubectl("delete", "namespace", made.namespace(environment), "--wait=false", context=context)


def test_staging_and_production_have_one_image(two):
    """Both environments run the image that was pushed once, by its digest; the second version has another one."""
    assert two.image("staging") == two.image("production") == two.fork.json("build/image.json")["image"]
    assert len(set(two.images)) == 2 and all("@sha256:" in image for image in two.images)


def test_second_version_goes_through_the_canary(two):
    """The second deployment's log has the steps with their real shares, and the verdict of each; the first had none."""
    log = (two.fork.root / "build/logs/deploy-production.log").read_text(encoding="utf-8")
    assert log.count(" of ") >= 2 and "go" in log and "model-canary" in log
    assert two.status()["production"] | {"since": ""} == {
        **two.status()["production"],
        "version": "2",
        "alias": "2",
        "agree": True,
        "since": "",
    }


def test_smoke_and_integration_tests_pass_through_the_api_server(two):
    """Both verbs find the environment in the cluster; integration tests also run inside every ship."""
    assert "median" in two.ok("-m", "scripts.smoke_test", "--environment", "production")
    assert "passed" in two.ok("-m", "scripts.integration_test", "--environment", "production")


def test_rehearsal_on_a_cluster(two):
    """The rehearsal shows a broken release undone on the cluster as well."""
    before = two.image("staging")
    assert "undone: a broken release does no harm" in two.ok("-m", "scripts.rehearse")
    assert two.image("staging") == before and two.status()["staging"]["agree"]


def test_rollback_restores_the_first_digest_in_one_step(two):
    """`make rollback` puts version 1's own image into production, without a canary, and the alias agrees."""
    said = two.ok("-m", "scripts.rollback")
    assert two.image("production") == two.images[0]
    assert two.status()["production"]["version"] == "1" and two.status()["production"]["agree"]
    assert "building" not in said and "canary" not in said.lower()


def test_doctor_names_the_cluster(two):
    """It says that releases go to the cluster, and which are running there."""
    findings = {row["what"]: row for row in json.loads(two.ok("-m", "scripts.doctor", "--json"))}
    assert findings["target"]["says"].startswith("kubernetes: ")
    assert "serves version" in findings["production"]["says"]
