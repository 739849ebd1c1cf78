"""The queue: together, in turns, bounded, and no failure is another request's."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest

from jaxsound.serving.classifier import Scores
from jaxsound.serving.server import batcher as batcher_module
from jaxsound.serving.server.batcher import Batcher
from jaxsound.serving.server.metrics import Metrics
from jaxsound.serving.server.settings import Refused

BATCHES = (1, 2, 4, 8)


class Model:
    """Says of a window its first sample; waits before the first batch until it may go on."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.go = threading.Event()

    def score(self, windows: Sequence[np.ndarray]) -> Scores:
        self.batches.append([float(w[0]) for w in windows])
        assert self.go.wait(10)
        values = np.array([w[:1] for w in windows])
        if (values < 0).any():
            raise ValueError("a window that breaks the model")
        return values, values, values[:, 0] == 0


def window(value: float) -> np.ndarray:
    return np.full(4, value, np.float32)


def run(work: Callable[[Batcher, Model], Awaitable[None]], places: int = 100) -> Model:
    async def whole() -> Model:
        model = Model()
        batcher = Batcher(model.score, BATCHES, places, Metrics(BATCHES))
        running = asyncio.create_task(batcher.run())
        try:
            async with asyncio.timeout(20):
                await work(batcher, model)
        finally:
            model.go.set()
            running.cancel()
        assert batcher._held == 0
        return model

    return asyncio.run(whole())


async def ask(batcher: Batcher, values: Sequence[float]) -> list[float]:
    with batcher.enter() as turn:
        probabilities, embeddings, _ = await turn.score([window(v) for v in values])
    np.testing.assert_array_equal(probabilities, embeddings)
    return probabilities[:, 0].tolist()


async def occupied(batcher: Batcher, model: Model) -> list[asyncio.Task[list[float]]]:
    """Requests that the model is at work for, so that what comes now waits."""
    tasks = []
    for i in range(2):
        tasks.append(asyncio.create_task(ask(batcher, [1000 + i])))
        while len(model.batches) < i + 1:
            await asyncio.sleep(0.001)
    return tasks


def test_requests_that_arrive_together_are_computed_together() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        first = await occupied(batcher, model)
        tasks = [asyncio.create_task(ask(batcher, [i])) for i in range(8)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await asyncio.gather(*tasks) == [[i] for i in range(8)]
        await asyncio.gather(*first)

    assert run(work).batches[2:] == [list(range(8))]


def test_a_long_recording_lets_short_ones_pass() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        first = await occupied(batcher, model)
        long = asyncio.create_task(ask(batcher, range(100, 120)))
        await asyncio.sleep(0)
        short = [asyncio.create_task(ask(batcher, [i])) for i in range(3)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert await long == list(range(100, 120))
        await asyncio.gather(*short, *first)

    batch = run(work).batches[2]
    assert {0, 1, 2} < set(batch)
    assert len(batch) == 8


def test_small_batches_are_not_padded_to_large_ones() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        first = await occupied(batcher, model)
        tasks = [asyncio.create_task(ask(batcher, [i])) for i in range(5)]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(*tasks, *first)

    assert sorted(len(batch) for batch in run(work).batches[2:]) == [1, 4]


def test_past_the_bound_requests_are_refused_and_told_when_to_come_back() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        first = await occupied(batcher, model)
        tasks = [asyncio.create_task(ask(batcher, range(50))) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert batcher._held == 5  # two at work, and each of three has one place for fifty windows
        with pytest.raises(Refused) as refused:
            batcher.enter()
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
        model.go.set()
        assert await asyncio.gather(*tasks) == [list(range(50))] * 3
        await asyncio.gather(*first)
        batcher.check()

    run(work, places=5)


def test_a_small_batch_waits_for_those_that_are_nearly_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        model.go.set()
        with batcher.enter() as decoding:
            with batcher.enter():  # which will be refused and have no window
                first = asyncio.create_task(ask(batcher, [1]))
                await asyncio.sleep(0.01)
            second = asyncio.create_task(decoding.score([window(2)]))
            await asyncio.gather(first, second)

    async def alone(batcher: Batcher, model: Model) -> None:
        model.go.set()
        with batcher.enter(soon=False):
            assert await ask(batcher, [1]) == [1]

    async def late(batcher: Batcher, model: Model) -> None:
        model.go.set()
        with batcher.enter():
            assert await ask(batcher, [1]) == [1]

    monkeypatch.setattr(batcher_module, "LINGER", 30.0)
    assert run(work).batches == [[1, 2]]
    run(alone)
    monkeypatch.setattr(batcher_module, "LINGER", 0.05)
    run(late)


def test_a_failure_is_said_to_those_it_concerns() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        model.go.set()
        with pytest.raises(ValueError, match="breaks the model"):
            await ask(batcher, [-1])
        assert await ask(batcher, [3]) == [3]

    run(work)


def test_a_request_that_is_given_up_leaves_nothing_behind() -> None:
    async def work(batcher: Batcher, model: Model) -> None:
        first = await occupied(batcher, model)
        task = asyncio.create_task(ask(batcher, range(500, 520)))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        model.go.set()
        assert await ask(batcher, [7]) == [7]
        await asyncio.gather(*first)

    assert all(value < 500 or value >= 1000 for batch in run(work).batches for value in batch)
