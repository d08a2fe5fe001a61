"""Register an accepted candidate: a new version in MLflow, and the bundle that the service eats.

    make register               # or: python register_model.py, after `make evaluate` accepted
    make register CHALLENGER=yes  # one that was not accepted but keeps its limits, for an experiment

A challenger is registered with its verdict and without the alias `candidate`: only an experiment takes it to production.

Writes build/bundle/ and build/registered.json. Registering the same build twice makes one version; a run that was killed
half-way is completed.
"""

import argparse
import shutil
import sys

from delivery.images import trial
from pipeline.artifacts import BUILD, read_json, replace_directory, write_json
from pipeline.ci import outputs
from pipeline.errors import PortabilityError, RegistryError, StageError, edge
from pipeline.evaluation import model_card, record
from pipeline.evaluation.record import Evaluation
from pipeline.evaluation.wording import setting
from pipeline.formats import bundle
from pipeline.registry import model_version, once, versions
from pipeline.registry.model_version import NOTHING, ModelVersion, Split
from pipeline.registry.training_run import run_title
from pipeline.settings import TRAINING, Settings, load_settings


@edge
def main(argv: list[str] | None = None) -> None:
    """Register what evaluate.py accepted, or a challenger."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--challenger", action="store_true", help="one that was not accepted but keeps its limits")
    challenger = parser.parse_args(argv).challenger
    settings = load_settings()
    run, data, evaluation = read_json(BUILD / "run.json"), read_json(BUILD / "data.json"), record.read(BUILD)
    digest = fit(settings, run, evaluation, challenger)
    content = BUILD / evaluation.registers[0]
    challenger = challenger and evaluation.verdict != "accept"  # an accepted one is registered as ever

    # The version: its tags come with its creation, so there is none without them.
    client = versions.connect(settings)
    compared = evaluation.production.version if evaluation.production else NOTHING
    version = versions.by_digest(client, settings.name, digest)
    if version is None:
        tried = trial.before_registration(settings, content, digest)
        if tried:
            print(tried)
        version = create(client, settings, run, evaluation, data)
    if challenger:
        model_version.set_tags(client, settings.name, version.number, limits=model_version.HELD)
    if not challenger or not version.is_accepted:  # what was accepted once stays so, as compared then
        model_version.set_tags(
            client,
            settings.name,
            version.number,
            verdict=evaluation.verdict,
            reason=evaluation.reasons[0][:1000],
            compared_with=compared,
            best_version=evaluation.best_version or (compared if challenger else version.number),
            judged_by=evaluation.judged_by,
        )

    # The bundle: with the version inside, kept beside the run, and named by a tag once it is complete.
    work = BUILD / ".bundle"
    shutil.rmtree(work, ignore_errors=True)
    release = {
        "name": settings.name,
        "version": version.number,
        "run_id": version.run_id,
        "commit": version.commit,
        "digest": digest,
        "mlflow": version.mlflow,
    }
    bundle.assemble(content, work, release)
    if not version.bundle:
        folder = f"bundle-{version.number}"
        client.log_artifacts(version.run_id, str(work), folder)
        model_version.set_tags(client, settings.name, version.number, bundle=f"runs:/{version.run_id}/{folder}")
    replace_directory(work, BUILD / "bundle")
    if not challenger:
        client.set_registered_model_alias(settings.name, "candidate", version.number)
    run_title.tell(client, version.run_id, evaluation.verdict, version.number)
    write_json(
        BUILD / "registered.json",
        {"name": settings.name, "version": version.number, "digest": digest, "run_id": version.run_id},
    )
    outputs.output(version=version.number)
    what = f"{settings.name} version {version.number} (digest {digest[:12]})"
    print(f"registered {what}" + (", for an experiment alone" if challenger else ""))


def split_of(run: dict) -> Split:
    """How the run's hold-out was drawn."""
    drawn = run["split"]
    return Split(drawn["id"], drawn["salt"], drawn["holdout"], drawn.get("by", "id"), drawn.get("cut", ""))


def fit(settings: Settings, run: dict, evaluation: Evaluation, challenger: bool) -> str:
    """The digest of the build, if the verdict in evaluation.json is about it and accepts it; a challenger must only keep all limits."""
    folder, registered = evaluation.registers
    digest = bundle.digest(BUILD / folder)
    if digest != registered or run["model_digest"] != evaluation.candidate.model_digest:
        raise StageError("build/evaluation.json is about another build than there is now", "run `make evaluate`")
    if evaluation.settings_hash != settings.fingerprint(*TRAINING, "gate"):
        raise StageError("pipeline.toml was changed since the evaluation", "run `make train` and `make evaluate`")
    failed = [check for check in evaluation.checks if not check.success]
    if failed:
        raise PortabilityError(
            f"the portable model fails: {failed[0].check} is {setting(failed[0].observed)}, at most "
            f"{setting(failed[0].limit)} is allowed",
            "change the model in project/model.py, or the limit in pipeline.toml [gate]",
        )
    if evaluation.verdict == "accept":
        return digest
    if not challenger:
        raise StageError(
            f"the verdict on this candidate is {evaluation.verdict}: {evaluation.reasons[0]}",
            "build/report.html has the reasons; `make register CHALLENGER=yes` registers it for an experiment alone",
        )
    broken = [limit for limit in evaluation.limits if not limit.success]
    if broken or evaluation.metric not in evaluation.candidate.metrics:
        raise StageError(
            f"this candidate breaks a limit of the gate: {evaluation.reasons[0]}",
            "a challenger need not be better than production, but it keeps [gate.limits] of pipeline.toml",
        )
    return digest


def create(client, settings: Settings, run: dict, evaluation: Evaluation, data: dict) -> ModelVersion:
    """A new version of the registered model, which is made if this is its first."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(settings.name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise RegistryError(f"MLflow: {error.message}") from error
    if not client.get_registered_model(settings.name).description:  # a person's words are never overwritten
        deployments = versions.experiment(client, f"{settings.name}-deployments")
        client.update_registered_model(settings.name, model_card.of_model(settings, deployments))
    tags = model_version.as_tags(
        commit=f"{run['commit']}-dirty" if run["dirty"] else run["commit"],
        data_hash=run["data_hash"],
        lock_hash=run["lock_hash"],
        digest=evaluation.registers[1],
        format=run["format"],
        model_hash=bundle.model_hash(BUILD / evaluation.registers[0]),
        verdict=evaluation.verdict,
        reason=evaluation.reasons[0][:1000],
        training_reason=run["reason"],
        run_url=run["run_url"],
        mlflow=mlflow.__version__,
        split=split_of(run),
        metrics=evaluation.candidate.metrics,
    )
    created = once.make(
        lambda: ModelVersion.from_mlflow(
            client.create_model_version(
                settings.name,
                source=run["model_uri"],
                run_id=run["run_id"],
                tags=tags,
                description=model_card.markdown(evaluation, run, data, settings),
                model_id=run["model_id"],
            )
        ),
        lambda: versions.by_digest(client, settings.name, evaluation.registers[1]),
    )
    return versions.by_number(client, settings.name, created.number)


if __name__ == "__main__":
    sys.exit(main())
