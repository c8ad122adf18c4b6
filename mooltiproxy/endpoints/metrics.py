"""metrics: /-/metrics, what is counted, in Prometheus' text format."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web

from mooltiproxy.engines.access import Access
from mooltiproxy.engines.owner import Shown
from mooltiproxy.engines.schedule import State
from mooltiproxy.metrics import Metrics
from mooltiproxy.store import Store

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics(
    counted: Metrics, engines: Access, store: Store
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """An endpoint that shows these, how the engines are, and whether the store answers this process."""

    async def endpoint(request: web.BaseRequest) -> web.StreamResponse:
        # In a thread, because the first call imports the library, which takes longer than a stream may wait.
        body = await asyncio.to_thread(rendered, await counted.whole(), await engines.states(), store.is_up)
        return web.Response(body=body, headers={"content-type": MEDIA_TYPE})

    return endpoint


def rendered(counted: Metrics, engines: Sequence[Shown], store_is_up: bool | None) -> bytes:
    """The text; format: prometheus.io/docs/instrumenting/exposition_formats."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collected(counted, engines, store_is_up))
    return generate_latest(registry)


class _Collected:
    """The counters, and how the engines are, as the library wants them."""

    def __init__(self, counted: Metrics, engines: Sequence[Shown], store_is_up: bool | None) -> None:
        self._store_is_up = store_is_up
        self._counted = counted
        self._engines = engines

    def collect(self) -> Iterator["Metric"]:
        """Called by the library."""
        yield _family(
            "mooltiproxy_upstream_faults",
            "Answers of targets that broke HTTP or their API, and whether the client got a good answer all the same",
            ("target", "outcome", "fault"),
            self._counted.faults,
        )
        yield _family(
            "mooltiproxy_dropped",
            "Parts of requests that the target could not be told and clients were told of, by class of losses",
            ("target", "class"),
            self._counted.dropped,
        )
        yield _family(
            "mooltiproxy_engine_starts",
            "Starts of model servers by the proxy that got ready or failed, and those that crashed or were lost later",
            ("server", "outcome"),
            self._counted.starts,
        )
        if self._store_is_up is not None:
            yield _plain(
                "mooltiproxy_store_up", "Whether the store of limits answers this process", int(self._store_is_up)
            )
        yield _family(
            "mooltiproxy_limited",
            "Requests that were refused with 429, by whose limit it was (key, ip, model) and what it counts",
            ("whose", "of"),
            self._counted.limited,
        )
        yield _family(
            "mooltiproxy_over_soft_limit",
            "Requests of which a soft limit was told",
            ("whose", "of"),
            self._counted.over_soft,
        )
        ready = {one.name: one.state is State.READY for one in self._engines}
        yield _gauge("mooltiproxy_engine_ready", "Whether a model server takes requests", ready)
        flying = {one.name: one.in_flight for one in self._engines}
        yield _gauge("mooltiproxy_engine_in_flight", "Requests that a model server is answering", flying)
        waiting = {one.name: one.waiting for one in self._engines}
        yield _gauge("mooltiproxy_engine_waiting", "Requests that wait for a model server", waiting)


def _plain(name: str, text: str, value: int) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, values: Mapping[str, int]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=("server",))
    for server, value in sorted(values.items()):
        family.add_metric((server,), value)
    return family


def _family(name: str, text: str, labels: tuple[str, ...], counts: Mapping[Any, int]) -> "Metric":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(counts.items()):
        family.add_metric(values, count)
    return family
