"""The workflows' form: every step is a verb of the Makefile, and what one file says of another is true."""

import re

import pytest

from tests.repository.test_links import verbs
from tests.repository.workflow_files import NAMES, ROOT, all_steps, called, commands, jobs, load, text, triggers


def test_every_run_is_one_verb():
    """Each `run:` is one line that calls one verb of the Makefile: there is no logic that a laptop could not run."""
    runs = [(where, step["run"]) for where, step in all_steps() if "run" in step]
    wrong = [
        (where, run)
        for where, run in runs
        if not (match := re.fullmatch(r'make ([a-z0-9-]+)( [A-Z_]+=("\$[A-Z_]+"|[\w-]+))*', run))
        or match[1] not in verbs()
    ]
    assert len(runs) > 40 and not wrong


def test_what_is_given_to_a_verb_reaches_its_command():
    """Each variable on the command line of a `make` is one that the verb's rule hands on; an ignored one changes the verb."""
    rules = dict(re.findall(r"^([a-z0-9-]+):(.*\n(?:\t.*\n)*)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    given = [
        (step["run"], verb, variable)
        for _, step in all_steps()
        for verb in re.findall(r"^make ([a-z0-9-]+)", step.get("run", ""))
        for variable in re.findall(r" ([A-Z_]+)=", step["run"])
    ]
    ignored = [run for run, verb, variable in given if not re.search(rf"[${{,]{variable}\b", rules[verb])]
    assert len(given) > 8 and not ignored


@pytest.mark.parametrize("name", NAMES)
def test_every_workflow_says_what_it_is(name):
    """A workflow is named as its file is, and a comment or two on top say what it is for."""
    assert load(name)["name"] == name.removesuffix(".yml")
    assert text(name).startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_jobs_and_workflows_named_exist(name):
    """What `needs:` and `uses: ./` name is there, and every output that is read is one that is set."""
    for job_id, job in jobs(name).items():
        needed = [job.get("needs", [])] if isinstance(job.get("needs", []), str) else job.get("needs", [])
        assert set(needed) <= set(jobs(name)), job_id
        if called(job):
            assert called(job) in NAMES, job_id
        for other, output in re.findall(r"needs\.(\w+)\.outputs\.(\w+)", str(job)):
            assert other in needed, f"{job_id} reads {other}, and does not need it"
            assert output in outputs(jobs(name)[other]), f"{job_id} reads {other}.{output}"
    for _, step in all_steps():
        if step.get("uses", "").startswith("./"):
            assert (ROOT / step["uses"] / "action.yml").is_file()


def outputs(job: dict) -> set[str]:
    """What a job gives to others."""
    if callee := called(job):
        return set(triggers(callee)["workflow_call"].get("outputs", {}))
    return set(job.get("outputs", {}))


@pytest.mark.parametrize("name", NAMES)
def test_callers_give_what_is_declared(name):
    """A job that calls a workflow gives all required inputs, none that is unknown, and every secret that is used there."""
    for job_id, job in jobs(name).items():
        if not (callee := called(job)):
            continue
        declared = triggers(callee)["workflow_call"] or {}
        inputs, secrets = declared.get("inputs", {}), declared.get("secrets", {})
        assert set(job.get("with", {})) <= set(inputs), job_id
        assert {key for key, one in inputs.items() if one.get("required")} <= set(job.get("with", {})), job_id
        assert set(job.get("secrets", {})) == set(secrets), job_id


@pytest.mark.parametrize("name", [name for name in NAMES if "workflow_call" in triggers(name)])
def test_called_workflows_declare_what_they_use(name):
    """Each secret and input that a called workflow uses is one that it declares."""
    declared = triggers(name)["workflow_call"] or {}
    used = set(re.findall(r"secrets\.(\w+)", text(name)))
    assert used == set(declared.get("secrets", {}))
    assert set(re.findall(r"inputs\.(\w+)", text(name))) == set(declared.get("inputs", {}))


@pytest.mark.parametrize("name", NAMES)
def test_who_takes_the_carried_mlflow_puts_it_back(name):
    """A job that holds the carried MLflow saves it in the end, whatever happened; one that may only read never does."""
    for job_id, job in jobs(name).items():
        run = commands(name, job_id)
        held = "make restore-mlflow" in run
        assert held == ("make save-mlflow" in run), job_id
        if held:
            saving = next(step for step in job["steps"] if step.get("run") == "make save-mlflow")
            assert saving["if"] == "${{ always() }}"
            assert job["permissions"]["packages"] == "write"
            assert run.index("make restore-mlflow") < min(map(run.index, writing(run)), default=99), job_id
        assert not (set(writing(run)) and not held) or name == "ci.yml", job_id


def writing(run: list[str]) -> list[str]:
    """The commands that write to MLflow."""
    verbs = ("train", "register", "image", "deploy", "promote", "rehearse", "rollback", "alert", "retrain-if-needed")
    return [one for one in run if one.split()[1] in verbs]


def test_the_required_check_needs_every_other_job():
    """`pass` of ci waits for all jobs that judge, and runs even when they failed."""
    judged = {job_id for job_id in jobs("ci.yml") if job_id not in ("pass", "comment")}
    assert set(jobs("ci.yml")["pass"]["needs"]) == judged
    assert jobs("ci.yml")["pass"]["if"] == "${{ always() }}"


def test_the_report_is_out_before_the_gate_is_red():
    """In every job with a gate the summary and the report come before it, and are made also when a step failed."""
    for name, job_id in (("ci.yml", "model"), ("train.yml", "train")):
        steps = jobs(name)[job_id]["steps"]
        gate = next(number for number, step in enumerate(steps) if step.get("run") == "make gate")
        uploads = [n for n, step in enumerate(steps) if "upload-artifact" in step.get("uses", "")]
        summary = next(n for n, step in enumerate(steps) if step.get("run") == "make summary")
        assert max(*uploads, summary) < gate
        assert all(steps[number]["if"] == "${{ !cancelled() }}" for number in (*uploads, summary))


def test_the_second_workflow_waits_for_the_first():
    """report follows the workflow that makes the report, by the name that it has."""
    assert triggers("report.yml")["workflow_run"]["workflows"] == [load("ci.yml")["name"]]


def test_nothing_waits_for_an_event_that_the_token_does_not_raise():
    """Workflows chain by calls; the only one that follows another follows a person's pull request."""
    assert [name for name in NAMES if "workflow_run" in triggers(name)] == ["report.yml"]
    assert not [name for name in NAMES if {"release", "registry_package"} & set(triggers(name))]
    # What outside of GitHub asks for comes with a token of its own.
    assert [name for name in NAMES if "repository_dispatch" in triggers(name)] == ["monitor.yml"]
