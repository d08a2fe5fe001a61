"""The canary's verdict: does a release that gets some of the traffic err more, or answer slower, than what serves?

`read` takes what one pod counts, `-` and `+` of Sides what many pods counted during a step, `judge` says go, hold or
abort. A step is looked at again and again, so all bounds hold at every look at once (confidence sequences): looking more often
makes nothing less sure. docs/decisions/0004-canary.md has the reasons, and how often the rule is wrong.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from pipeline.errors import DeployError
from pipeline.settings import Canary

PATHS = ("/predict", "/predict/batch")  # probes and /metrics are not what callers wait for
RATIOS = np.geomspace(0.1, 1000, 277)  # of error rates that are thought possible, each as likely as the next
# Requests that come together are slow together: this many tell as much as one that has nothing in common with the others.
ALIKE = 4.0


@dataclass(frozen=True)
class Counts:
    """What was counted on one path; `errors` are answers 5xx, `buckets` cumulative by their upper edge in seconds."""

    requests: int = 0
    errors: int = 0
    seconds: float = 0.0
    buckets: Mapping[float, int] = field(default_factory=dict)

    @property
    def timed(self) -> int:
        """How many requests `seconds` is the sum of."""
        return max(self.buckets.values(), default=0)

    @property
    def mean(self) -> float:
        """Seconds per request."""
        return self.seconds / self.timed if self.timed else 0.0

    def __add__(self, other: "Counts") -> "Counts":
        buckets = {
            edge: self.buckets.get(edge, 0) + other.buckets.get(edge, 0)
            for edge in sorted({*self.buckets, *other.buckets})
        }
        return Counts(self.requests + other.requests, self.errors + other.errors, self.seconds + other.seconds, buckets)

    def __sub__(self, before: "Counts") -> "Counts":
        """The growth since `before`. Counters that fell back were started anew, and have grown by all that they say."""
        pairs = [(count, before.buckets.get(edge, 0)) for edge, count in self.buckets.items()]
        pairs += [(self.requests, before.requests), (self.errors, before.errors)]
        if any(now < then for now, then in pairs):
            return self
        return self + Counts(
            -before.requests, -before.errors, -before.seconds, {e: -n for e, n in before.buckets.items()}
        )


@dataclass(frozen=True)
class Side:
    """What one pod, or all pods of a side, counted; by path, for a batch takes longer than a row."""

    paths: Mapping[str, Counts] = field(default_factory=dict)

    def on(self, path: str) -> Counts:
        """The counts of one path."""
        return self.paths.get(path, Counts())

    @property
    def requests(self) -> int:
        """Predictions asked for, on all paths."""
        return sum(counts.requests for counts in self.paths.values())

    @property
    def errors(self) -> int:
        """Those of them that failed by the service's own fault."""
        return sum(counts.errors for counts in self.paths.values())

    def __add__(self, other: "Side") -> "Side":
        return Side({path: self.on(path) + other.on(path) for path in PATHS})

    def __sub__(self, before: "Side") -> "Side":
        """The growth since `before`, as Prometheus' increase() has it."""
        if any(self.on(path).requests < before.on(path).requests for path in PATHS):
            return self  # the pod was started anew
        return Side({path: self.on(path) - before.on(path) for path in PATHS})


def lost(requests: int) -> Side:
    """Requests for a prediction that no pod answered: errors of the side that should have."""
    return Side({PATHS[0]: Counts(requests, requests)})


def read(text: str) -> Side:
    """What a pod's /metrics says of predictions; raises DeployError when that is not the text of this service."""
    from prometheus_client.parser import text_string_to_metric_families

    try:
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        known = "slipway_request_seconds" in text
        paths = {path: _counts([s for s in samples if s.labels.get("path") == path]) for path in PATHS}
    except (ValueError, KeyError) as error:
        raise DeployError(f"a pod's metrics cannot be read: {error}", "look at what its /metrics answers") from error
    if not known:
        raise DeployError("a pod's metrics are not those of this service", "look at what its /metrics answers")
    return Side(paths)


def _counts(samples: list) -> Counts:
    answered = [sample for sample in samples if sample.name == "slipway_requests_total"]
    buckets = {float(s.labels["le"]): int(s.value) for s in samples if s.name == "slipway_request_seconds_bucket"}
    return Counts(
        requests=int(sum(sample.value for sample in answered)),
        errors=int(sum(sample.value for sample in answered if sample.labels["status"].startswith("5"))),
        seconds=sum(sample.value for sample in samples if sample.name == "slipway_request_seconds_sum"),
        buckets=dict(sorted(buckets.items())),
    )


# --- errors ---


@dataclass(frozen=True)
class Errors:
    """Error rates of both sides. `at_least` and `at_most` bound the ratio; None: nothing is known above."""

    stable: float
    canary: float
    stable_requests: int
    canary_requests: int
    stable_errors: int
    canary_errors: int
    at_least: float
    at_most: float | None
    few: bool  # surely below max_error_ratio times stable's rate and error_margin more


def compare_errors(stable: Side, canary: Side, rules: Canary, surer: float) -> Errors:
    """Compare path by path; `at_least` is wrong once in 1/`surer` steps, `few` once in 1/(1 − confidence)."""
    likely = _likely_ratios(stable, canary)
    evidence = np.logaddexp.reduce(likely) - math.log(len(RATIOS))
    low, high = (RATIOS[likely > evidence + math.log(wrong)] for wrong in (surer, 1 - rules.confidence))
    return Errors(
        stable=stable.errors / max(1, stable.requests),
        canary=canary.errors / max(1, canary.requests),
        stable_requests=stable.requests,
        canary_requests=canary.requests,
        stable_errors=stable.errors,
        canary_errors=canary.errors,
        at_least=float(low[0]) if low[0] > RATIOS[0] else 0.0,
        at_most=float(high[-1]) if high[-1] < RATIOS[-1] else None,
        few=_evidence_of_few(stable, canary, rules) > -math.log(1 - rules.confidence),
    )


def _likely_ratios(stable: Side, canary: Side) -> np.ndarray:
    """Log-likelihood of each of RATIOS, given how many errors there are on each path: which side has them tells."""
    likely = np.zeros(len(RATIOS))
    for path in PATHS:
        one, other = stable.on(path), canary.on(path)
        if one.requests and other.requests:
            share = RATIOS * other.requests / (RATIOS * other.requests + one.requests)
            likely += other.errors * np.log(share) + one.errors * np.log1p(-share)
    return likely


def _evidence_of_few(stable: Side, canary: Side, rules: Canary) -> float:
    """Log of how much better "the same rate" explains the errors than any rates that are just too far apart."""
    evidence = 0.0
    for path in PATHS:
        one, other = stable.on(path), canary.on(path)
        if one.requests and other.requests:
            evidence += _same_rate(one, other) - _too_far_apart(one, other, rules)
    return evidence


def _same_rate(one: Counts, other: Counts) -> float:
    """Log of the probability with one rate for both: none at all, or about 1 % (a gamma distribution), half and half."""
    errors, requests = one.errors + other.errors, one.requests + other.requests
    shape, scale = 0.5, 50.0
    some = math.lgamma(shape + errors) - math.lgamma(shape)
    some += shape * math.log(scale) - (shape + errors) * math.log(scale + requests)
    return float(np.logaddexp(some, 0.0 if errors == 0 else -math.inf)) - math.log(2)


def _too_far_apart(one: Counts, other: Counts, rules: Canary) -> float:
    """Log of the highest probability with any rate p of stable, and ratio · p + margin of the canary (Poisson)."""
    ratio, margin = rules.max_error_ratio, rules.error_margin
    # Where the derivative of the logarithm, one.errors/p + ratio·other.errors/(ratio·p + margin) − exposure, is zero.
    exposure = one.requests + ratio * other.requests
    linear = exposure * margin - ratio * (one.errors + other.errors)
    root = math.sqrt(linear**2 + 4 * ratio * exposure * margin * one.errors)
    rate = max(0.0, (root - linear) / (2 * ratio * exposure))
    worse = ratio * rate + margin
    return _log_power(rate, one.errors) + _log_power(worse, other.errors) - one.requests * rate - other.requests * worse


def _log_power(rate: float, count: int) -> float:
    return count * math.log(rate) if count else 0.0


# --- latency ---


@dataclass(frozen=True)
class Latency:
    """Mean latency of both sides on one path, milliseconds. Bounds of the ratio are None where nothing is known."""

    path: str
    stable: float
    canary: float
    stable_requests: int
    canary_requests: int
    at_least: float | None
    at_most: float | None
    fast: bool  # surely below max_latency_ratio times stable's mean and latency_margin_ms more


def compare_latency(path: str, one: Counts, other: Counts, rules: Canary, surer: float) -> Latency:
    """Compare means on one path; `at_least` is wrong once in 1/`surer` steps, the rest once in 1/(1 − confidence)."""
    limit = rules.max_latency_ratio
    spread_one, spread_other = (ALIKE * spread(counts) ** 2 / counts.timed for counts in (one, other))
    width = _width(1 / (spread_one + spread_other), limit, np.array([surer, 1 - rules.confidence]))
    ratio = other.mean / one.mean
    # Fieller: every r for which other − r · one is within `width` standard errors of zero.
    a, c = 1 - width**2 * spread_one, ratio**2 * (1 - width**2 * spread_other)
    root = np.sqrt(np.maximum(0, ratio**2 - a * c))
    deviation = math.hypot(math.sqrt(spread_other) * ratio, math.sqrt(spread_one) * limit)
    return Latency(
        path=path,
        stable=1000 * one.mean,
        canary=1000 * other.mean,
        stable_requests=one.timed,
        canary_requests=other.timed,
        at_least=max(0.0, float((ratio - root[0]) / a[0])) if a[0] > 0 else None,
        at_most=float((ratio + root[1]) / a[1]) if a[1] > 0 else None,
        fast=bool(ratio - limit + width[1] * deviation < rules.latency_margin_ms / 1000 / one.mean),
    )


def _width(information: float, limit: float, wrong: np.ndarray) -> np.ndarray:
    """Standard errors to each side that hold at all looks together: a normal mixture, sharpest where `limit` is decided."""
    sharpest = math.log(limit) ** -2
    grown = information + sharpest
    return np.sqrt(2 * grown / information * np.log(np.sqrt(grown / sharpest) / (2 * wrong) + 1))


def spread(counts: Counts) -> float:
    """The latencies' coefficient of variation: from the buckets, as if they were spread evenly inside each."""
    edges = np.array([0.0, *sorted(counts.buckets)])
    inside = np.diff([0, *(counts.buckets[edge] for edge in edges[1:])])
    low, high = edges[:-1], edges[1:].copy()
    if math.isinf(high[-1]):
        # Beyond the last edge: what the sum has left over.
        rest = counts.seconds - float(inside[:-1] @ (low[:-1] + high[:-1])) / 2
        high[-1] = max(low[-1], 2 * rest / max(1, inside[-1]) - low[-1])
    mean = float(inside @ (low + high)) / 2 / counts.timed
    square = float(inside @ (low**2 + low * high + high**2)) / 3 / counts.timed
    return math.sqrt(max(0.0, square - mean**2)) / mean


# --- the verdict ---


@dataclass(frozen=True)
class Judgement:
    """go: the next step may come. hold: look again. abort: what served before comes back. As a text, one line."""

    verdict: Literal["go", "hold", "abort"]
    reasons: tuple[str, ...]
    errors: Errors
    latencies: tuple[Latency, ...]
    waited_seconds: float

    def __str__(self) -> str:
        return f"{self.verdict}: {'; '.join(self.reasons)}"


def judge(stable: Side, canary: Side, golden_differs: str | None, rules: Canary, waited_seconds: float) -> Judgement:
    """The verdict on what both sides counted since the step began. `golden_differs` says what the canary answers wrongly.

    The release is aborted wrongly at most once in 1/(1 − confidence) releases: each step gets its part of that, half of it for
    errors and half for latency. It goes on wrongly at most as often, for it must pass every step and every comparison.
    """
    surer = (1 - rules.confidence) / max(1, len(rules.steps)) / 2
    errors = compare_errors(stable, canary, rules, surer)
    pairs = [(path, stable.on(path), canary.on(path)) for path in PATHS]
    enough = [pair for pair in pairs if min(pair[1].timed, pair[2].timed) >= rules.min_requests]
    latencies = tuple(
        compare_latency(*pair, rules, surer / len(enough)) for pair in enough if min(pair[1].mean, pair[2].mean) > 0
    )
    against = [golden_differs] if golden_differs else []
    against += _against(errors, latencies, rules)
    missing = _missing(errors, latencies, rules)
    if not against and missing and waited_seconds >= rules.hold_seconds:
        against = [f"still undecided after {waited_seconds:.0f} seconds", *missing]
    verdict: Literal["go", "hold", "abort"] = "abort" if against else "hold" if missing else "go"
    reasons = against or missing or ["neither errs more nor is slower than allowed"]
    return Judgement(
        verdict,
        (*reasons, _errors_in_words(errors), *map(_latency_in_words, latencies)),
        errors,
        latencies,
        waited_seconds,
    )


def _against(errors: Errors, latencies: tuple[Latency, ...], rules: Canary) -> list[str]:
    """What is surely beyond what pipeline.toml allows."""
    found = []
    if errors.at_least > rules.max_error_ratio:
        found.append(f"errs more than {rules.max_error_ratio:g} times as often as stable, surely")
    for latency in latencies:
        if (latency.at_least or 0.0) > rules.max_latency_ratio:
            found.append(
                f"takes more than {rules.max_latency_ratio:g} times as long on {latency.path} as stable, surely"
            )
    return found


def _missing(errors: Errors, latencies: tuple[Latency, ...], rules: Canary) -> list[str]:
    """What must still be shown before the canary may go on."""
    if min(errors.stable_requests, errors.canary_requests) < rules.min_requests or not latencies:
        return [f"fewer than {rules.min_requests} requests on one side"]
    found = []
    if not errors.few:
        found.append("too few requests to say that it does not err too often")
    for latency in latencies:
        if not latency.fast:
            found.append(f"too few requests to say that {latency.path} is not too slow")
    return found


def _errors_in_words(errors: Errors) -> str:
    return (
        f"errors {100 * errors.canary:.2f} % against {100 * errors.stable:.2f} %"
        f" ({errors.canary_errors} of {errors.canary_requests}, {errors.stable_errors} of {errors.stable_requests})"
    )


def _latency_in_words(latency: Latency) -> str:
    ratio = latency.canary / latency.stable
    most = "?" if latency.at_most is None else f"{latency.at_most:.2f}"
    return (
        f"{latency.path} {latency.canary:.3g} ms against {latency.stable:.3g} ms"
        f" ({ratio:.2f} times; surely {latency.at_least or 0:.2f} to {most})"
    )
