"""The relay's metrics for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The counters of one relay."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "slipway_relay_deliveries",
            "Deliveries by result: accepted, duplicate, ignored, refused; and why they were refused or ignored",
            ["result", "reason"],
            registry=self.registry,
        )
        self.promotions = Counter(
            "slipway_relay_promotions",
            "Promotions: started, failed, and tries of a start that are made again (retried)",
            ["result"],
            registry=self.registry,
        )
        self.unread = Counter(
            "slipway_relay_registry_reads_failed",
            "Times that MLflow did not say where its aliases are",
            registry=self.registry,
        )
        self.pending = Gauge("slipway_relay_pending", "1 while a promotion waits or is started", registry=self.registry)
        self.success = Gauge(
            "slipway_relay_last_success_timestamp_seconds", "When a promotion was last started", registry=self.registry
        )
        for result in (
            "started",
            "failed",
            "retried",
        ):  # exported from the first scrape, so that a rate includes the first event
            self.promotions.labels(result)

    def is_pending(self) -> bool:
        """Whether a promotion is waiting or in progress."""
        return bool(self.registry.get_sample_value("slipway_relay_pending"))

    def delivery(self, result: str, reason: str = "") -> None:
        """Count a delivery."""
        self.deliveries.labels(result, reason).inc()

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)
