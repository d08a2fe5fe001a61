"""The rehearsal of a bad day: a broken release in staging, undone while somebody keeps asking."""

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

from delivery import keys
from delivery.release import CurrentRelease, Release
from delivery.smoke import smoke_test
from pipeline.artifacts import STATE, read_json, write_json
from pipeline.errors import SlipwayError, SmokeTestError
from pipeline.formats.bundle import digest, seal
from pipeline.registry import deployments
from pipeline.registry.deployment_record import REHEARSAL, Deployment
from pipeline.registry.model_version import ModelVersion
from pipeline.settings import Settings

PAUSE = 0.05  # seconds between two requests of the caller who must not notice


@dataclass
class RehearsalCaller:
    """Somebody who asks staging all the while: how often, and what went wrong."""

    asked: int = 0
    lost: list[str] = field(default_factory=list)


def rehearse(
    client, settings: Settings, target: ModuleType, version: ModelVersion, good: Release, before
) -> str | None:
    """Deploy the broken release; what refused it, or None when nothing did."""
    with broken(good) as bad:
        try:
            target.release("staging", bad, settings)
        except SlipwayError as error:
            if not answers_differ(error):
                raise  # something else went wrong: nothing was rehearsed
            record(client, settings, target, version, before, "undone", error.what)
            with target.reach("staging", settings) as url:
                smoke_test(url, good.bundle, good.version, target.key("staging", settings))
            return error.what
    record(client, settings, target, version, before, "failed", "a broken release was not refused")
    target.release("staging", good, settings, at_once=True)
    return None


def answers_differ(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, is that of the smoke test."""
    while error is not None and not isinstance(error, SmokeTestError):
        error = error.__cause__
    return error is not None


@contextmanager
def broken(good: Release) -> Iterator[Release]:
    """The same release with golden predictions that it does not keep."""
    with tempfile.TemporaryDirectory(dir=STATE / "staging", prefix="rehearsal-") as work:
        folder = Path(work) / good.bundle.name
        shutil.copytree(good.bundle, folder)
        golden = read_json(folder / "golden.json")
        golden["expected"] = [otherwise(answer) for answer in golden["expected"]]
        write_json(folder / "golden.json", golden)
        seal(folder)
        # Another digest: where pods are told from one another by it, they are really replaced.
        yield Release(good.name, good.version, digest(folder), folder, good.image)


def otherwise(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that no model gives together with this one."""
    if "value" in answer:
        return answer | {"value": answer["value"] + max(1.0, abs(answer["value"]))}
    return answer | {"probabilities": [1 - share for share in answer["probabilities"]]}


def record(
    client, settings: Settings, target: ModuleType, version: ModelVersion, before, result: str, detail: str
) -> None:
    """Append the rehearsal to the deployment records."""
    deployment = Deployment.of(version, "staging", REHEARSAL, target.NAME, before)
    deployments.append(client, settings.name, replace(deployment, image=before.image, result=result, detail=detail))


@contextmanager
def calling(target: ModuleType, settings: Settings, good: Release) -> Iterator[RehearsalCaller]:
    """Have somebody ask staging for its example all the while."""
    caller, over = RehearsalCaller(), threading.Event()
    example = [column["example"] for column in read_json(good.bundle / "contract.json")["inputs"]]
    with target.reach("staging", settings, as_callers=True) as url:
        thread = threading.Thread(
            target=ask, args=(url, target.key("staging", settings), example, caller, over), daemon=True
        )
        thread.start()
        try:
            yield caller
        finally:
            over.set()
            thread.join(30)


def ask(url: str, key: str, example: list[Any], caller: RehearsalCaller, over: threading.Event) -> None:
    """Ask until it is over, and note every request that was not answered with 200."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update(keys.headers(key))
        while not over.is_set():
            caller.asked += 1
            try:
                status = session.post(f"{url}/predict", json={"features": example}, timeout=20).status_code
                if status != 200:
                    caller.lost.append(f"answered {status}")
            except requests.RequestException as error:
                caller.lost.append(type(error).__name__)
            time.sleep(PAUSE)


def show(before: CurrentRelease, after: CurrentRelease | None, refusal: str | None, caller: RehearsalCaller) -> int:
    """Print what was seen; the exit status."""
    same = after is not None and (after.version, after.digest) == (before.version, before.digest)
    said = refusal or "nothing: it was put into staging, and is taken away again"
    print(f"refused by      {said}")
    print(f"staging serves  version {after.version if after else 'none'}, before it was version {before.version}")
    lost = f", of them lost: {len(caller.lost)}" + (f" (first: {caller.lost[0]})" if caller.lost else "")
    print(f"requests made   {caller.asked} meanwhile{lost}")
    undone = bool(refusal) and same and caller.asked > 0 and not caller.lost
    print("undone: a broken release does no harm" if undone else "NOT undone as it should be")
    return 0 if undone else 1
