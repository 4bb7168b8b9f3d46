"""Figures for Prometheus, in a registry of their own."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from magistral_mlx.events import Finished
from magistral_mlx.server.answering.model_slot import ModelSlot

SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
STEP_SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)


class Metrics:
    """Counts what is served. The engine's thread may call `step`, the event loop the rest."""

    def __init__(self, slot: ModelSlot) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "magistral_requests", "Requests, by route and status.", ["route", "status"],
            registry=self._registry,
        )  # fmt: skip
        self._tokens = Counter(
            "magistral_tokens", "Tokens: prompt, cached (of the prompt), reasoning, completion.",
            ["kind"], registry=self._registry,
        )  # fmt: skip
        self._hits = Counter(
            "magistral_prefix_cache_requests", "Answers whose prompt was partly known, or not.",
            ["result"], registry=self._registry,
        )  # fmt: skip
        self._endings = Counter(
            "magistral_answers", "Answers, by why they ended.", ["reason"], registry=self._registry
        )
        self._first_token = Histogram(
            "magistral_time_to_first_token_seconds", "From submission to the first token.",
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "magistral_answer_seconds", "Time of whole answers.",
            buckets=SECONDS, registry=self._registry,
        )  # fmt: skip
        self._steps = Histogram(
            "magistral_step_seconds", "Time of the engine's steps.",
            buckets=STEP_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._registry.register(_EngineFigures(slot))

    def request(self, route: str, status: int) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()

    def ended(self, reason: str) -> None:
        """An answer has ended, for this reason."""
        self._endings.labels(reason).inc()

    def answer(self, end: Finished) -> None:
        """What an answer took."""
        usage = end.usage
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("cached").inc(usage.cached_tokens)
        self._tokens.labels("reasoning").inc(usage.reasoning_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)
        self._hits.labels("hit" if usage.cached_tokens else "miss").inc()
        self._seconds.observe(end.timings.total_seconds)
        if end.timings.seconds_to_first_token is not None:
            self._first_token.observe(end.timings.seconds_to_first_token)

    def step(self, seconds: float) -> None:
        """The engine has made a step."""
        self._steps.observe(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _EngineFigures(Collector):
    """What the engine says of itself when it is asked."""

    def __init__(self, slot: ModelSlot) -> None:
        self._slot = slot

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        model = self._slot.peek()
        status = None if model is None else model.status
        up = GaugeMetricFamily("magistral_up", "1 while the engine answers.")
        up.add_metric([], float(status is not None and status.alive))
        yield up
        if status is None:
            return
        for name, text, value in (
            ("magistral_running", "Answers that run.", status.running),
            ("magistral_waiting", "Answers that wait.", status.waiting),
            ("magistral_kv_running_bytes", "KV of running answers.", status.kv_running_bytes),
            ("magistral_kv_stored_bytes", "KV kept for later.", status.kv_stored_bytes),
            ("magistral_kv_limit_bytes", "KV that is allowed.", status.kv_limit_bytes),
        ):
            gauge = GaugeMetricFamily(name, text)
            gauge.add_metric([], float(value or 0))
            yield gauge
