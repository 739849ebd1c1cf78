"""What Prometheus can ask of a server."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """Counters in a registry of their own, so that two servers in a process do not mix."""

    def __init__(self, batches: tuple[int, ...]):
        """Makes them all, at zero.

        Args:
          batches: the numbers of windows that are computed together.
        """
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "jaxsound_requests",
            "Requests answered",
            ("route", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "jaxsound_request_seconds",
            "From the headers to the end of the answer",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self.batch = Histogram(
            "jaxsound_batch_windows",
            "Windows computed together",
            buckets=batches,
            registry=self.registry,
        )
        self.computing = Counter(
            "jaxsound_computing_seconds", "Time spent in the model", registry=self.registry
        )
        self.windows = Counter("jaxsound_windows", "Windows computed", registry=self.registry)
        self.sound = Counter(
            "jaxsound_sound_seconds", "Length of what was answered", registry=self.registry
        )
        self.queue = Gauge(
            "jaxsound_queue_windows", "Windows that wait or are computed", registry=self.registry
        )
        self.streams = Gauge("jaxsound_streams", "WebSocket streams open", registry=self.registry)
