"""The canary of target `kubernetes`: a release takes over production step by step, and each step is judged.

At each step, enough canary pods run beside the stable ones to get about the traffic share from pipeline.toml [canary].
Golden requests go to both sides, and the pods' own counters are compared (delivery/canary/verdict.py): continue, look
again, or abort. The stable pods keep their image until the last step.
"""

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from delivery.canary.verdict import judge
from delivery.release import Release
from delivery.targets.kubernetes import kubectl, manifests, pods, restore, rollout, traffic
from delivery.targets.kubernetes.pods import Delivery
from pipeline.artifacts import read_json
from pipeline.errors import DeployError

LOOKS = 4  # looks per step, which share its golden requests; an undecided step gets more
WARM = 20  # uncounted requests to each side: the first ones after a start are slow
PAUSE_SECONDS = 3  # between looks, to gather clients' requests
THEN = "what differs is above; a new candidate goes the whole way again with `make ship`"
LATER = ("Deployment", "HorizontalPodAutoscaler", "HTTPRoute")  # applied last: these decide which pods serve


@dataclass(frozen=True)
class Step:
    """The number of pods on each side, and the canary's exact share of requests if a route sets it."""

    stable: int
    canary: int
    weight: int | None = None

    def __str__(self) -> str:
        if self.weight is not None:
            return f"{self.weight} % of the requests to {self.canary} pods"
        total = self.stable + self.canary
        return f"{self.canary} of {total} pods, {100 * self.canary / total:.0f} %"


def steps(pods_now: int, percents: list[int], by_route: bool) -> list[Step]:
    """The steps before the last; steps that change nothing, for lack of pods, are left out."""
    step = _by_route if by_route else _by_pods
    return list(dict.fromkeys(step(max(pods_now, 1), percent) for percent in percents))


def _by_pods(pods_now: int, percent: int) -> Step:
    """The numbers nearest to the percentage, with no fewer pods than now and at most one more."""
    choices = [Step(total - canary, canary) for total in (pods_now, pods_now + 1) for canary in range(1, total)]
    return min(choices, key=lambda choice: abs(choice.canary / (choice.stable + choice.canary) - percent / 100))


def _by_route(pods_now: int, percent: int) -> Step:
    """Enough pods for the canary's share of the load, beside all stable ones."""
    return Step(pods_now, math.ceil(pods_now * percent / 100), percent)


def take_over(
    delivery: Delivery, release: Release, objects: list[dict[str, Any]], earlier: list[dict[str, Any]]
) -> None:
    """Take a release through all steps; raises DeployError when one aborts, and the caller restores."""
    cluster = delivery.cluster
    delivery.still_ours()
    pods_now = kubectl.find(cluster, "deployment/model")["deployment/model"]["spec"].get("replicas", 1)
    by_route = manifests.find(earlier, "HTTPRoute") is not None
    # The canary may need objects that only the new release has; objects of both stay unchanged for the stable pods
    # until the end.
    kubectl.apply(cluster, [item for item in restore.without(objects, earlier) if item["kind"] not in LATER])
    for step in steps(pods_now, delivery.settings.canary.steps, by_route):
        print(f"canary: version {release.version} gets {step}", flush=True)
        _stand(delivery, step, release, objects, earlier, pods_now)
        _watch(delivery, release)
    print(f"canary: version {release.version} gets all pods", flush=True)
    _finish(delivery, release, objects, pods_now)


def _stand(
    delivery: Delivery,
    step: Step,
    release: Release,
    objects: list[dict[str, Any]],
    earlier: list[dict[str, Any]],
    pods_now: int,
) -> None:
    """Scale to a step: canary pods are added before stable ones go, so there are never fewer than before."""
    cluster = delivery.cluster
    if not kubectl.find(cluster, "deployment/model-canary"):
        _hold(delivery, pods_now)
    canary = manifests.canary_of(objects, step.canary)
    delivery.still_ours()
    canary[0]["metadata"].setdefault("annotations", {})[restore.REPLICAS] = str(pods_now)
    kubectl.apply(cluster, canary)
    rollout.wait(delivery, "model-canary", release)
    _hold(delivery, step.stable)
    rollout.wait(delivery, "model")
    if step.weight is not None:
        kubectl.apply(cluster, manifests.weighted(earlier, step.weight))


def _watch(delivery: Delivery, release: Release) -> None:
    """Look at both sides until the verdict is go; raises DeployError on abort, or when no verdict comes in time."""
    rules, shown = delivery.settings.canary, ""
    rows = read_json(release.bundle / "golden.json")["inputs"]
    traffic.send(delivery, rows, WARM)
    base, lost, began = traffic.counters(delivery), Counter[str](), time.monotonic()
    latest = dict(base)
    while True:
        lost += traffic.send(delivery, rows, math.ceil(rules.replay / LOOKS))
        traffic.update(base, latest, traffic.counters(delivery))
        stable, canary = traffic.growth(base, latest, lost)
        judgement = judge(stable, canary, None, rules, time.monotonic() - began)
        if str(judgement) != shown:
            shown = str(judgement)
            print(f"  {shown}", flush=True)
        if judgement.verdict == "go":
            return
        if judgement.verdict == "abort":
            raise DeployError(f"the canary was aborted: {'; '.join(judgement.reasons)}", THEN)
        delivery.each_poll()
        time.sleep(PAUSE_SECONDS)


def _hold(delivery: Delivery, replicas: int) -> None:
    """Set the number of stable pods, and keep the autoscaler from changing it."""
    delivery.still_ours()
    if kubectl.find(delivery.cluster, restore.SCALER):
        kubectl.merge(delivery.cluster, restore.SCALER, {"spec": {"minReplicas": replicas, "maxReplicas": replicas}})
    kubectl.run(delivery.cluster, "scale", "deployment/model", f"--replicas={replicas}")


def _finish(delivery: Delivery, release: Release, objects: list[dict[str, Any]], pods_now: int) -> None:
    """Give the stable pods the release's image while the canary still serves, then remove the canary."""
    _hold(delivery, pods_now)
    kubectl.apply(delivery.cluster, [item for item in objects if item["kind"] not in LATER[1:]])
    rollout.settled(delivery, objects, release)
    pods.prove_service(delivery, release)
    delivery.still_ours()
    kubectl.apply(delivery.cluster, objects)  # restores the autoscaler and the weights of the manifests
    rollout.remove_canary(delivery)
