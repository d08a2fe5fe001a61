"""The relay's metrics for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Starts:
    """How often one workflow was started: its counter by result, whether a start is pending, and when one last succeeded."""

    def __init__(self, counter: Counter, pending: Gauge, success: Gauge):
        self.counter, self.pending, self.success = counter, pending, success
        # Exported from the first scrape, so that a rate includes the first event.
        for result in ("started", "failed", "retried"):
            counter.labels(result)

    def count(self, result: str) -> None:
        """Count a start, a failure, or a try that is made again."""
        self.counter.labels(result).inc()
        if result == "started":
            self.success.set_to_current_time()

    def is_pending(self) -> bool:
        """Whether a start is waiting or in progress."""
        ((sample,),) = (metric.samples for metric in self.pending.collect())
        return bool(sample.value)


class Metrics:
    """The counters of one relay."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        why = "by result: accepted, duplicate, ignored, refused; and why they were refused or ignored"
        self.deliveries = self._counter("deliveries", f"Deliveries of MLflow {why}", "result", "reason")
        self.alerts = self._counter("alerts", f"Messages of Alertmanager {why}", "result", "reason")
        self.unread = self._counter("registry_reads_failed", "Times that MLflow did not say where its aliases are")
        results = "started, failed, and tries of a start that are made again (retried)"
        self.promotions = Starts(
            self._counter("promotions", f"Promotions: {results}", "result"),
            self._gauge("pending", "1 while a promotion waits or is started"),
            self._gauge("last_success_timestamp_seconds", "When a promotion was last started"),
        )
        self.monitors = Starts(
            self._counter("monitors", f"Runs of the monitor: {results}", "result"),
            self._gauge("monitor_pending", "1 while a run of the monitor waits or is started"),
            self._gauge("last_monitor_timestamp_seconds", "When the monitor was last started"),
        )

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"slipway_relay_{name}", words, labels, registry=self.registry)

    def _gauge(self, name: str, words: str) -> Gauge:
        return Gauge(f"slipway_relay_{name}", words, registry=self.registry)

    def delivery(self, result: str, reason: str = "") -> None:
        """Count a delivery."""
        self.deliveries.labels(result, reason).inc()

    def alert(self, result: str, reason: str = "") -> None:
        """Count a message of Alertmanager."""
        self.alerts.labels(result, reason).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
