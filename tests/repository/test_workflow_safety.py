"""What keeps the workflows safe: least rights, pinned actions, nothing of a stranger's that is run or believed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.repository.workflow_files import NAMES, ROOT, Loader, all_steps, called, jobs, load, steps, text, triggers

RANK = {"none": 0, "read": 1, "write": 2}
DEFAULT_BRANCH = "github.event_name != 'push' || github.ref_name == github.event.repository.default_branch"
DEPLOYS = ("make deploy", "make rollback", "make reconcile", "make save-mlflow", "make promote")


@pytest.mark.parametrize("name", NAMES)
def test_rights_begin_with_none(name):
    """Every workflow starts without any right, every job names its own, and each right says why it is there."""
    assert load(name)["permissions"] == {}
    for job_id, job in jobs(name).items():
        assert job["permissions"], job_id
    grants = re.findall(r"^ {6}[a-z-]+: (?:read|write)\b.*$", text(name), re.M)
    assert len(grants) == sum(len(job["permissions"]) for job in jobs(name).values())
    assert not [line for line in grants if not re.search(r" # to [a-z]", line)]


@pytest.mark.parametrize("name", NAMES)
def test_a_caller_grants_what_the_called_workflow_asks_for(name):
    """GitHub refuses a whole workflow whose called one asks for more than its caller grants."""
    for job_id, job in jobs(name).items():
        if callee := called(job):
            asked = [(key, right) for inner in jobs(callee).values() for key, right in inner["permissions"].items()]
            short = [(key, right) for key, right in asked if RANK[job["permissions"].get(key, "none")] < RANK[right]]
            assert not short, job_id


def test_every_action_is_pinned_by_commit():
    """Each action of others is named by a full commit, with its version in a comment; one action has one commit everywhere."""
    files = [*(ROOT / ".github").rglob("*.yml")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    used = [line.split("uses:")[1].strip() for line in lines if "uses:" in line and "uses: ./" not in line]
    assert len(used) > 30
    assert not [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", one)]
    pins = {one.split("@")[0]: set() for one in used}
    for one in used:
        pins[one.split("@")[0]].add(one.split("@")[1])
    assert not {action: commits for action, commits in pins.items() if len(commits) > 1}


def test_no_checkout_leaves_its_token():
    """Every checkout is told to keep no credentials, and takes what the event is about, never a ref that somebody names."""
    checkouts = [(where, step) for where, step in all_steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(checkouts) > 10
    assert not [where for where, step in checkouts if step.get("with") != {"persist-credentials": False}]


@pytest.mark.parametrize("name", NAMES)
def test_every_job_has_an_end(name):
    """Each job that runs steps has a time limit of at most an hour."""
    assert not [
        job_id for job_id, job in jobs(name).items() if "steps" in job and not 0 < job.get("timeout-minutes", 0) <= 60
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if set(triggers(name)) != {"workflow_call"}])
def test_what_deploys_is_never_cancelled(name):
    """Every workflow that starts by an event has a concurrency group; where it deploys or writes to MLflow, nothing is cut off."""
    group = load(name)["concurrency"]
    if deploys(name):
        assert group["cancel-in-progress"] is False
        # A push to another branch deploys nothing, and must not take the place of a delivery that waits.
        own = f"${{{{ ({DEFAULT_BRANCH}) && 'delivery' || github.run_id }}}}"
        assert group["group"] == own if "push" in triggers(name) else "${{" not in group["group"]


def deploys(name: str) -> bool:
    """Whether a workflow, or one that it calls, changes an environment or the carried MLflow."""
    own = any(step.get("run", "").startswith(DEPLOYS) for _, step in steps(name))
    return own or any(deploys(callee) for job in jobs(name).values() if (callee := called(job)))


def test_no_expression_inside_a_command():
    """Values reach commands by the environment: an expression in a script would be run as part of it."""
    assert not [
        where
        for where, step in all_steps()
        if "${{" in str(step.get("run", "")) + str(step.get("with", {}).get("script", ""))
    ]


def test_strangers_get_no_secret():
    """No workflow runs a pull request's code with the rights of the base, and the one that comments for forks has no secret."""
    assert not [name for name in NAMES if "pull_request_target" in triggers(name)]
    assert "secrets." not in text("report.yml")
    assert not [step for _, step in steps("report.yml") if step.get("run") not in (None, "make pr-comment")]


def test_a_strangers_code_does_not_reach_the_teams_mlflow():
    """In ci the address of a team's MLflow is given only where the pull request is of this repository."""
    (address,) = re.findall(r"MLFLOW_TRACKING_URI: (.*)", text("ci.yml"))
    assert address.startswith(
        "${{ (github.event_name == 'merge_group' || (github.event.pull_request.head.repo.full_name == github.repository"
        " && github.event.pull_request.user.login != 'dependabot[bot]')) &&"
    )


def test_a_user_without_a_password_is_not_given():
    """GitHub keeps the secrets from a pull request of Dependabot or of a fork: there the name alone would fail every job."""
    (user,) = re.findall(r"IMAGE_REPOSITORY_USERNAME: (.*)", text("ci.yml"))
    assert user.startswith("${{ (secrets.IMAGE_REPOSITORY_PASSWORD != '' && vars.IMAGE_REPOSITORY_USERNAME) ||")


@pytest.mark.parametrize("name", ["deliver.yml", "security.yml"])
def test_a_push_counts_on_the_default_branch_whatever_its_name(name):
    """The trigger names no branch; on any other than the default one every job is skipped, by itself or by what it needs."""
    assert triggers(name)["push"]["branches"] == ["**"]
    for job_id, job in jobs(name).items():
        condition = job.get("if", "")
        waits = {job["needs"]} if isinstance(job.get("needs"), str) else set(job.get("needs", []))
        skipped = DEFAULT_BRANCH in condition or re.search(r"event_name == '(pull_request|schedule)'", condition)
        follows = "plan" in waits and ("always()" not in condition or "needs.plan.result != 'skipped'" in condition)
        assert skipped or follows, job_id


@pytest.mark.parametrize("name", ["deliver.yml", "experiment.yml", "promote.yml", "rollback.yml"])
def test_what_deploys_begins_with_the_plan(name):
    """The plan refuses a branch that nobody merged, and says whether images are attested: nothing is deployed before it."""
    first = next(iter(jobs(name).values()))
    run = [step["run"] for step in first["steps"] if "run" in step]
    assert run[0] == "make plan"
    assert all("needs" in job for job in list(jobs(name).values())[1:])


def test_production_must_be_asked_for():
    """Production is deployed to only as the plan allows, after staging and after the checks, in the environment of that name."""
    production = jobs("deliver.yml")["production"]
    assert production["if"] == "${{ needs.plan.outputs.production == 'true' }}"
    assert {"plan", "checks", "staging"} <= set(production["needs"])
    assert jobs("deploy.yml")["deploy"]["environment"] == "${{ inputs.environment }}"
    assert jobs("rollback.yml")["rollback"]["environment"] == "production"
    promoted = jobs("promote.yml")["production"]
    assert promoted["if"] == "${{ needs.compare.outputs.production == 'true' }}"
    assert promoted["with"]["environment"] == "production"
    assert jobs("reconcile.yml")["reconcile"]["environment"] == "${{ inputs.environment }}"


def test_a_retraining_begins_where_there_are_new_data_and_waits_for_its_reviewers():
    """`fresh` decides first, then the reviewers of the environment `retraining` where they are asked, and only then is trained."""
    found = jobs("retrain.yml")
    assert list(found) == ["fresh", "approve", "deliver"]
    assert found["approve"]["environment"] == "retraining" and "inputs.approve" in found["approve"]["if"]
    assert found["deliver"]["needs"] == ["fresh", "approve"]
    assert "needs.fresh.outputs.fresh == 'true'" in found["deliver"]["if"]
    assert "(needs.approve.result == 'success' || needs.approve.result == 'skipped')" in found["deliver"]["if"]


def test_the_monitor_waits_for_nobody():
    """It is in no environment, whose reviewers would be asked every day, and tells people before it starts anything."""
    (job,) = jobs("monitor.yml").values()
    assert "environment" not in job
    run = [step["run"] for step in job["steps"] if "run" in step]
    assert run == ["make restore-mlflow", "make monitor", "make alert", "make retrain-if-needed", "make save-mlflow"]
    assert {"schedule", "workflow_dispatch", "repository_dispatch"} == set(triggers("monitor.yml"))


def test_retraining_can_be_started_when_its_schedule_is_off():
    """GitHub switches off a whole file with a schedule: what others start stands in a file without one."""
    assert set(triggers("weekly.yml")) == {"schedule"} and called(jobs("weekly.yml")["retrain"]) == "retrain.yml"
    assert set(triggers("retrain.yml")) == {"workflow_dispatch", "workflow_call"}


def test_an_image_is_verified_before_it_is_deployed():
    """In every deployment the image is verified first, and attested where the plan of the repository allows it."""
    run = [step.get("run", "") for _, step in steps("deploy.yml")]
    verified = next(number for number, one in enumerate(run) if one.startswith("make verify-image"))
    assert verified < next(number for number, one in enumerate(run) if one.startswith("make deploy"))
    attested = [step for _, step in steps("image.yml") if step.get("uses", "").startswith("actions/attest@")]
    assert len(attested) == 2 and all(step["if"] == "${{ inputs.attest == 'true' }}" for step in attested)


@pytest.mark.parametrize(
    ("name", "verb"), [("deploy.yml", "rollback"), ("rollback.yml", "rollback"), ("reconcile.yml", "reconcile")]
)
def test_what_brings_a_version_back_verifies_it_too(name, verb):
    """A rollback and a promotion in MLflow are told whether images are attested, and may ask GitHub."""
    (job,) = jobs(name).values()
    (step,) = [step for step in job["steps"] if step.get("run", "").startswith(f"make {verb} ")]
    told = "${{ steps.plan.outputs.attest }}" if name == "rollback.yml" else "${{ inputs.attested }}"
    assert step["env"]["SLIPWAY_ATTESTED"] == told and step["env"]["GH_TOKEN"] == "${{ github.token }}"
    assert job["permissions"]["attestations"] == "read"


def test_updates_come_in_groups_and_not_at_once():
    """Dependabot looks after actions, Python packages, those of npm and images, each in one group and after a cool-down of a week."""
    updates = yaml.load((ROOT / ".github/dependabot.yml").read_text(encoding="utf-8"), Loader)["updates"]
    assert {one["package-ecosystem"] for one in updates} == {"github-actions", "pip", "docker", "npm"}
    for one in updates:
        assert one["groups"] and one["cooldown"]["default-days"] >= 7
        for folder in one.get("directories", [one.get("directory")]):
            assert (ROOT / folder.strip("/")).is_dir()


def test_the_auditor_finds_nothing():
    """zizmor, offline, strict and pedantic, has no finding in .github; what it is told to ignore has a reason beside it."""
    zizmor = str(Path(sys.executable).with_name("zizmor"))
    command = [zizmor, "--offline", "--strict-collection", "--persona", "pedantic", "--no-progress", ".github"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    ignored = [line for name in NAMES for line in text(name).splitlines() if "zizmor: ignore" in line]
    assert not [line for line in ignored if not re.search(r"zizmor: ignore\[[a-z-]+\] \w+", line)]


def test_no_placeholder_is_left_to_hunt_down():
    """Nothing under .github must be filled in before it works."""
    found = {}
    for file in (ROOT / ".github").rglob("*"):
        if file.is_file():
            words = re.findall(
                r"(?i)\b(todo|fixme|changeme|your-org|your-team|owner/repo|example\.com)\b", file.read_text("utf-8")
            )
            found |= {file.name: words} if words else {}
    assert not found


@pytest.mark.parametrize("name", ["VERSION", "ENVIRONMENT", "ARGS", "COLUMNS", "CHALLENGER", "SHARE", "NAME", "REASON"])
def test_a_value_that_is_typed_in_is_never_run(name, tmp_path):
    """What somebody types into a workflow's form is refused when make would run it."""
    mark = tmp_path / "run"
    done = subprocess.run(
        ["make", "--dry-run", "rollback", f"{name}=$(shell touch '{mark}')"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and f"{name} may hold no dollar sign" in done.stderr
    assert not mark.exists()


def test_only_words_of_the_command_line_reach_a_verb():
    """A variable of the environment that is called like a word of ours changes no verb."""
    environment = os.environ | {"VERSION": "7", "ARGS": "--help", "FIRST": "yes", "COLUMNS": "80"}
    for verb in ("deploy", "ship", "reconcile"):
        said = [
            subprocess.run(["make", "--dry-run", verb], cwd=ROOT, env=env, capture_output=True, text=True).stdout
            for env in (os.environ, environment)
        ]
        assert said[0] == said[1]


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["rollback", "VERSION=3"], '--environment "${ENVIRONMENT:-production}" "--version=$VERSION"'),
        (["rollback", "VERSION="], '--environment "${ENVIRONMENT:-production}"'),
        (["ship", "FIRST=yes", "COLUMNS=changed"], '--first "--columns=$COLUMNS"'),
        (["ship", "FIRST=no"], "scripts.ship"),
        (["reconcile", "ARGS=--compare"], "scripts.reconcile --compare"),
    ],
)
def test_words_of_the_command_line_reach_the_program(words, command):
    """A value goes through the shell's quoted variable, an empty one not at all; `yes` alone sets a flag, ARGS is a text."""
    said = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.split() and " ".join(said.split()).endswith(command)


def test_production_that_fails_its_tests_is_left_at_once():
    """When the integration tests of production fail, the next step brings the version before back."""
    steps_there = [step for _, step in steps("deploy.yml")]
    tested = next(number for number, step in enumerate(steps_there) if step.get("id") == "integration")
    after = steps_there[tested + 1]
    assert after["run"] == "make rollback ENVIRONMENT=production"
    assert "failure()" in after["if"] and "steps.integration.outcome == 'failure'" in after["if"]


@pytest.mark.parametrize("name", NAMES)
def test_githubs_token_goes_to_githubs_registry_only(name):
    """Where another registry is named, the token of the job is not what logs in to it."""
    lines = [line for line in text(name).splitlines() if "IMAGE_REPOSITORY_PASSWORD ||" in line]
    assert all("(vars.IMAGE_REPOSITORY == '' && github.token) || ''" in line for line in lines)
