"""A small stand-in for GitHub's runners: the jobs of a workflow, each in a separate clone, connected only by the registry.

It runs the `run:` steps from the repository's files. Of the actions it supports only those for artifacts and comments.
The verbs that check the code itself are left out, because they do not affect a delivery.
"""

import itertools
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.expressions import Expressions
from tests.e2e.machine import REPOSITORY, Machine, Result, Run
from tests.repository.workflow_files import Loader, called


class Runner:
    """Runs workflows of the repository in `origin`, with these repository variables and secrets."""

    def __init__(self, origin: Path, folder: Path, variables: dict[str, str], engine, **environment: str):
        self.origin, self.folder, self.variables, self.engine = origin, folder, variables, engine
        self.secrets: dict[str, str] = {}
        self.environment, self.count = environment, itertools.count(1)

    def run(self, name: str, event_name: str, event: dict | None = None, inputs: dict | None = None, **more) -> Run:
        """Run a workflow for an event. `given` replaces jobs that would start; `artifacts` are from another run."""
        about = {"repository": {"private": True, "is_template": False, "default_branch": "main"}} | (event or {})
        given = {"checks": Result()} | more.get("given", {})
        run = Run(event_name, about, given, artifacts=more.get("artifacts", {}))
        self._jobs(run, name, inputs or {}, self.secrets, run.jobs)
        return run

    def _jobs(self, run: Run, name: str, inputs: dict, secrets: dict, done: dict[str, Result]) -> None:
        """Run a workflow's jobs one by one, each after the jobs it needs."""
        jobs = self.workflow(name)["jobs"]
        while waiting := {job_id: job for job_id, job in jobs.items() if job_id not in done}:
            job_id = next(one for one, job in waiting.items() if set(_needed(job)) <= set(done))
            job = jobs[job_id]
            needs = {other: {"result": done[other].result, "outputs": done[other].outputs} for other in _needed(job)}
            contexts = self._contexts(run) | {"inputs": inputs, "secrets": secrets, "needs": needs}
            fine = all(other["result"] == "success" for other in needs.values())
            if not Expressions(contexts, fine).hold(job.get("if")):
                done[job_id] = Result("skipped")
            elif job_id in run.given:
                done[job_id] = run.given[job_id]
            else:
                done[job_id] = (self._call if called(job) else self._job)(run, job_id, job, contexts)

    def machine(self, run: Run, job_id: str) -> Machine:
        """A machine for a job."""
        return Machine(self.origin, self.folder / f"{next(self.count):02d} {job_id}", run, job_id, self.environment)

    def workflow(self, name: str) -> dict[str, Any]:
        """A workflow of the repository, parsed."""
        return yaml.load((self.origin / ".github/workflows" / name).read_text(encoding="utf-8"), Loader)

    def _contexts(self, run: Run) -> dict[str, dict[str, Any]]:
        github = {"repository": REPOSITORY, "actor": "octo", "token": "a token", "ref_name": "main"}
        return {"github": github | {"event": run.event, "event_name": run.event_name}, "vars": self.variables}

    def _call(self, run: Run, job_id: str, job: dict, contexts: dict) -> Result:
        """A job that calls another workflow."""
        name, fill = called(job), Expressions(contexts).fill
        declared = self.workflow(name)["on"]["workflow_call"] or {}
        inputs = {key: fill(value) for key, value in job.get("with", {}).items()}
        secrets = {key: fill(value) for key, value in job.get("secrets", {}).items()}
        inner: dict[str, Result] = {}
        self._jobs(run, name, inputs, secrets, inner)
        result = Result()
        for one in inner.values():
            result.add(one)
        fill = Expressions({"jobs": {key: {"outputs": one.outputs} for key, one in inner.items()}}).fill
        result.outputs = {key: fill(output["value"]) for key, output in declared.get("outputs", {}).items()}
        return result

    def _job(self, run: Run, job_id: str, job: dict, contexts: dict) -> Result:
        """A job on a new machine, which is removed at the end."""
        machine = self.machine(run, job_id)
        steps = {step["id"]: {"outputs": {}, "outcome": "skipped"} for step in job["steps"] if "id" in step}
        contexts = contexts | {"steps": steps}
        try:
            for step in job["steps"]:
                expressions = Expressions(contexts, fine=machine.result.result == "success")
                settings = {key: expressions.fill(value) for key, value in job.get("env", {}).items()}
                expressions.contexts = contexts | {"env": settings}
                if not expressions.hold(step.get("if")):
                    continue
                settings |= {key: expressions.fill(value) for key, value in step.get("env", {}).items()}
                outcome = "success" if machine.step(step, settings, expressions) else "failure"
                if outcome == "failure":
                    machine.result.result = outcome
                if "id" in step:
                    steps[step["id"]] = {"outputs": machine.outputs(), "outcome": outcome}
        finally:
            machine.end(self.engine, self.variables["IMAGE_REPOSITORY"].lower())
        fill = Expressions(contexts).fill
        machine.result.outputs = {key: fill(value) for key, value in job.get("outputs", {}).items()}
        return machine.result


def _needed(job: dict) -> list[str]:
    needs = job.get("needs", [])
    return [needs] if isinstance(needs, str) else needs
