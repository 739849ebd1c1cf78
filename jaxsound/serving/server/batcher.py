"""Windows of all requests, computed together: a bounded queue in which requests take turns."""

import asyncio
import collections
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxsound.serving.classifier import Scores
from jaxsound.serving.server.metrics import Metrics
from jaxsound.serving.server.settings import Refused

PADDING = 0.25  # share of a batch that may be empty; with more of it, a smaller one goes first
IN_FLIGHT = 2  # batches: one is computed while the next is made ready and the last one is answered
FULL = 16  # windows that are computed without waiting for more
LINGER = 0.02  # seconds that fewer wait while other requests are being decoded

Row = Sequence[np.ndarray]  # of Scores: [C], [D], []
_Waiting = tuple[np.ndarray, asyncio.Future[Row]]


class Turn:
    """A request's place in the queue, and its windows that wait. Made by `Batcher.enter`."""

    def __init__(self, batcher: "Batcher", soon: bool):
        self._batcher = batcher
        self._soon = soon
        self._windows: collections.deque[_Waiting] = collections.deque()

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *error: object) -> None:
        for _, future in self._windows:  # of a request that was given up
            future.cancel()
        self._windows.clear()
        self._came()
        self._batcher._hold(-1)

    async def score(self, windows: Sequence[np.ndarray]) -> Scores:
        """As `Classifier.score`, for any number of windows.

        A request has one place for certain; more of its windows wait only while half of all places
        are free, so that long recordings do not keep others out.
        """
        rows: list[Row] = []
        while len(rows) < len(windows):
            extra = self._batcher._take_extra(len(windows) - len(rows) - 1)
            part = windows[len(rows) : len(rows) + 1 + extra]
            try:
                rows += await asyncio.gather(*[self._ask(window) for window in part])
            finally:
                self._batcher._hold(-extra)
        probabilities, embeddings, quiet = (np.stack(column) for column in zip(*rows, strict=True))
        return probabilities, embeddings, quiet

    def _ask(self, window: np.ndarray) -> asyncio.Future[Row]:
        future: asyncio.Future[Row] = asyncio.get_running_loop().create_future()
        self._windows.append((window, future))
        self._came()
        self._batcher._wake(self)
        return future

    def _came(self) -> None:
        """Nobody needs to linger for its first window any more."""
        if self._soon:
            self._soon = False
            self._batcher._expect(-1)


class Batcher:
    """Gives the model whatever waits, as soon as it is free. One event loop's, like its turns.

    While requests are being decoded, a small batch lingers for them: the cores have work anyway.
    """

    def __init__(
        self,
        score: Callable[[Sequence[np.ndarray]], Scores],
        batches: Sequence[int],
        places: int,
        metrics: Metrics,
    ):
        """Starts nothing yet: that is `run`.

        Args:
          score: `Classifier.score`, called from threads.
          batches: the numbers of windows that it is compiled for, rising.
          places: windows that may wait or be computed.
          metrics: counted there.
        """
        self._score = score
        self._batches = batches
        self._places = places
        self._metrics = metrics
        self._held = 0
        self._turns: collections.deque[Turn] = collections.deque()  # that have windows waiting
        self._expected = 0  # requests whose first windows will come soon
        self._since = 0.0  # when the first of those that wait now came
        self._woken = asyncio.Event()
        self._seconds = 0.05  # of the model for a window, lately
        self._threads = ThreadPoolExecutor(IN_FLIGHT, "model")

    def enter(self, soon: bool = True) -> Turn:
        """A place for one more request.

        Args:
          soon: whether its first window comes as soon as a processor has time for it.

        Raises:
          Refused: 429, all places are taken.
        """
        self.check()
        self._hold(1)
        self._expect(soon)
        return Turn(self, soon)

    def check(self) -> None:
        """Raises what `enter` would raise."""
        if self._held >= self._places:
            wait = max(1, math.ceil(self._held * self._seconds))
            raise Refused(429, f"The queue is full; try again in {wait} s.", retry_after=wait)

    async def run(self) -> None:
        """Computes until it is cancelled."""
        workers = [asyncio.create_task(self._work()) for _ in range(IN_FLIGHT)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            self._threads.shutdown(wait=False)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            waiting = sum(len(turn._windows) for turn in self._turns)
            left = self._since + LINGER - loop.time()
            if not waiting or (waiting < FULL and self._expected and left > 0):
                self._woken.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left if waiting else None):
                        await self._woken.wait()
                continue
            batch = self._next(waiting)
            began = time.perf_counter()
            try:
                found = await loop.run_in_executor(
                    self._threads, self._score, [window for window, _ in batch]
                )
            except Exception as error:  # each request says so, and the next batch is computed
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            spent = time.perf_counter() - began
            self._seconds += 0.1 * (spent / len(batch) - self._seconds)
            self._metrics.computing.inc(spent)
            self._metrics.batch.observe(len(batch))
            self._metrics.windows.inc(len(batch))
            for (_, future), *row in zip(batch, *found, strict=True):
                if not future.done():
                    future.set_result(row)

    def _next(self, waiting: int) -> list[_Waiting]:
        """One window of each request in turn, until a batch is full or nothing waits."""
        size = 0
        for offered in self._batches:
            if waiting >= offered * (1 - PADDING):
                size = min(offered, waiting)
        batch: list[_Waiting] = []
        while self._turns and len(batch) < size:
            turn = self._turns.popleft()
            if turn._windows:
                batch.append(turn._windows.popleft())
            if turn._windows:
                self._turns.append(turn)
        self._since = asyncio.get_running_loop().time()
        return batch

    def _wake(self, turn: Turn) -> None:
        if not self._turns:
            self._since = asyncio.get_running_loop().time()
        if len(turn._windows) == 1:
            self._turns.append(turn)
        self._woken.set()

    def _take_extra(self, wanted: int) -> int:
        taken = max(0, min(wanted, self._places // 2 - self._held))
        self._hold(taken)
        return taken

    def _expect(self, requests: int) -> None:
        self._expected += requests
        self._woken.set()

    def _hold(self, places: int) -> None:
        self._held += places
        self._metrics.queue.set(self._held)
