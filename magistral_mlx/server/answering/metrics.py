"""Figures for Prometheus."""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from magistral_mlx.events import Finished
from magistral_mlx.server.answering.model_slot import ModelSlot

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
STEP_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)


class Metrics:
    """Counters in a registry. The engine's thread may call `step`, the event loop the rest."""

    def __init__(self, slot: ModelSlot) -> None:
        self._registry = registry = CollectorRegistry()
        registry.register(_EngineFigures(slot))

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"magistral_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: Sequence[float]) -> Histogram:
            return Histogram(f"magistral_{name}_seconds", text, buckets=buckets, registry=registry)

        self._requests = counter("requests", "Requests, by route and status.", "route", "status")
        self._tokens = counter(
            "tokens", "Tokens: prompt, cached (of the prompt), reasoning, completion.", "kind"
        )
        self._hits = counter(
            "prefix_cache_requests", "Answers, by whether tokens were cached.", "result"
        )
        self._endings = counter("answers", "Answers, by why they ended.", "reason")
        self._first_token = histogram(
            "time_to_first_token", "From submission to the first token.", SECONDS
        )
        self._seconds = histogram("answer", "From submission to the end.", SECONDS)
        self._steps = histogram("step", "Time of one step.", STEP_SECONDS)

    def request(self, route: str, status: int) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()

    def answers(self, ends: Iterable[Finished], reasons: Iterable[str]) -> None:
        """Count answers: why each ended, and the figures of those that finished."""
        for reason in reasons:
            self._endings.labels(reason).inc()
        for end in ends:
            self._answer(end)

    def step(self, seconds: float) -> None:
        """Count a step of the engine."""
        self._steps.observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def _answer(self, end: Finished) -> None:
        usage = end.usage
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("cached").inc(usage.cached_tokens)
        self._tokens.labels("reasoning").inc(usage.reasoning_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)
        self._hits.labels("hit" if usage.cached_tokens else "miss").inc()
        self._seconds.observe(end.timings.total_seconds)
        if end.timings.seconds_to_first_token is not None:
            self._first_token.observe(end.timings.seconds_to_first_token)


class _EngineFigures(Collector):
    """The state of the engine at each scrape."""

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot

    def collect(self) -> Iterable[Metric]:
        model = self._slot.model
        status = None if model is None else model.status
        up = GaugeMetricFamily("magistral_up", "1 while the engine runs.")
        up.add_metric([], float(status is not None and status.alive))
        yield up
        if status is None:
            return
        for name, text, value in (
            ("magistral_running", "Running answers.", status.running),
            ("magistral_waiting", "Waiting answers.", status.waiting),
            ("magistral_kv_running_bytes", "KV of running answers.", status.kv_running_bytes),
            ("magistral_kv_stored_bytes", "KV in the prefix cache.", status.kv_stored_bytes),
            ("magistral_kv_limit_bytes", "The KV budget.", status.kv_limit_bytes),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], float(value or 0))
            yield gauge
