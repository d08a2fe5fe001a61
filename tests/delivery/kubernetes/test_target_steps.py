"""The number of pods on each side at the steps of a canary."""

import pytest

from delivery.targets.kubernetes.canary import steps


@pytest.mark.parametrize(
    ("pods_now", "shares"),
    [
        (1, ["1 of 2 pods, 50 %"]),
        (2, ["1 of 3 pods, 33 %", "1 of 2 pods, 50 %"]),
        (3, ["1 of 4 pods, 25 %", "2 of 4 pods, 50 %"]),
        (4, ["1 of 5 pods, 20 %", "2 of 4 pods, 50 %"]),
        (10, ["1 of 10 pods, 10 %", "5 of 10 pods, 50 %"]),
        (25, ["3 of 26 pods, 12 %", "13 of 26 pods, 50 %"]),
    ],
)
def test_shares_are_the_nearest_possible(pods_now, shares):
    """At 10 and 50 %: as near as the pods and one more allow; a step that changes nothing is left out."""
    assert [str(step) for step in steps(pods_now, [10, 50], by_route=False)] == shares


@pytest.mark.parametrize("pods_now", range(1, 40))
@pytest.mark.parametrize("percent", [1, 10, 33, 50, 90, 99])
def test_there_are_never_fewer_pods_than_before(pods_now, percent):
    """Both sides have a pod, and together they are as many as before or one more."""
    (step,) = steps(pods_now, [percent], by_route=False)
    assert step.stable >= 1 and step.canary >= 1
    assert pods_now <= step.stable + step.canary <= pods_now + 1


def test_route_gives_exact_shares():
    """With a route all stable pods stay, and the canary has pods for its share."""
    first, second = steps(3, [10, 50], by_route=True)
    assert (first.stable, first.canary, first.weight) == (3, 1, 10)
    assert (second.stable, second.canary, second.weight) == (3, 2, 50)
    assert str(second) == "50 % of the requests to 2 pods"
