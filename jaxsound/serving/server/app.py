"""The routes, and what they share."""

import asyncio
import contextlib
import hashlib
import io
import logging
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import prometheus_client
import soundfile
from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message

import jaxsound
from jaxsound.serving.classifier import Classifier
from jaxsound.serving.prediction import THRESHOLD, Prediction
from jaxsound.serving.server import answers, manual
from jaxsound.serving.server.batcher import Batcher
from jaxsound.serving.server.body import Bodies
from jaxsound.serving.server.edge import Edge, same, same_site
from jaxsound.serving.server.listening import Listener
from jaxsound.serving.server.metrics import Metrics
from jaxsound.serving.server.recording import FIELD
from jaxsound.serving.server.settings import Refused, Settings
from jaxsound.serving.server.stream import Stream

WEB = Path(__file__).parents[1] / "web"
log = logging.getLogger(__name__)
_REVALIDATED = {"Cache-Control": "no-cache"}
_BINARY = {"type": "string", "format": "binary"}
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BINARY}}
            },
            "audio/*": {"schema": _BINARY},
            "application/octet-stream": {"schema": _BINARY},
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": answers.Problem, "description": text}
    for status, text in (
        (401, "no token or a wrong one"),
        (408, "too slow"),
        (413, "body too large"),
        (415, "no recording"),
        (422, "a recording that cannot be used, or a wrong parameter"),
        (429, "queue full; see Retry-After"),
        (503, "not ready, or going down"),
    )
}


class Service:
    """A classifier and what stands between it and its clients."""

    def __init__(self, classifier: Classifier, settings: Settings):
        """Compiles nothing yet: that is `start`.

        Args:
          classifier: with the batches that are to be compiled.
          settings: of the server.
        """
        self.classifier, self.settings = classifier, settings
        self.metrics = Metrics(classifier.batches)
        self.batcher = Batcher(classifier.score, classifier.batches, settings.queue, self.metrics)
        self.decoders = ThreadPoolExecutor(settings.decoders, "decoder")
        self.listener = Listener(classifier, self.batcher, self.decoders, settings.max_minutes)
        self.bodies = Bodies(settings)
        self.version = f"{jaxsound.__version__}+{_fingerprint(classifier)}"
        self.streams = 0
        self.ready = False
        self.failed = False  # while it started
        self.draining = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, _: FastAPI) -> AsyncGenerator[None, None]:
        """Computes while the application lives; ready as soon as all is compiled."""
        tasks = [asyncio.create_task(self.batcher.run()), asyncio.create_task(self._warm_up())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.decoders.shutdown(cancel_futures=True)

    async def _warm_up(self) -> None:
        try:
            await asyncio.to_thread(self.classifier.warm_up)
            await self.predict(_first_request())
        except Exception:
            log.exception("the model does not run")
            self.failed = True
            return
        self.ready = True
        log.info("ready: %d classes", len(self.classifier.classes))

    def busy(self) -> Refused | None:
        """Why no work is taken now."""
        if self.draining.is_set():
            return Refused(503, "The server is going down.", retry_after=5)
        if not self.ready:
            return Refused(503, "The model is being compiled.", retry_after=5)
        return None

    async def predict(self, request: Request) -> Prediction:
        """What is heard in the recording that a request brings."""
        self.batcher.check()
        try:
            async with asyncio.timeout(self.settings.request_seconds):
                async with self.bodies.read(request) as body:
                    kind = request.headers.get("content-type", "")
                    found = await self.listener.predict(body, kind, request.is_disconnected)
        except TimeoutError:
            text = f"The answer took longer than {self.settings.request_seconds:g} s."
            raise Refused(503, text, retry_after=1) from None
        self.metrics.sound.inc(found.seconds)
        return found

    async def stream(self, websocket: WebSocket) -> None:
        """Serves an accepted WebSocket until it is closed."""
        settings = self.settings
        authorization = websocket.headers.get("authorization", "")
        stream = Stream(
            websocket,
            self.classifier,
            self.decoders,
            3 * settings.idle_seconds,
            lambda token: any(
                same(given, settings.token) for given in (token, authorization[len("Bearer ") :])
            ),
        )
        refused = self.busy()
        if self.streams >= settings.max_streams:
            refused = Refused(429, f"{settings.max_streams} streams are open already.")
        if refused:
            return await stream.refuse(refused)
        self.streams += 1
        self.metrics.streams.set(self.streams)
        try:
            await stream.run(self.batcher, self.draining)
        finally:
            self.streams -= 1
            self.metrics.streams.set(self.streams)

    def model(self) -> dict[str, Any]:
        """What `GET /v1/model` answers."""
        first, cut = self.classifier, self.classifier.cut
        return {
            "version": self.version,
            "classes": list(first.classes),
            "sample_rate": first.sample_rate,
            "window_seconds": first.window_seconds,
            "hop_seconds": cut.hop / cut.rate,
            "folds": len(first.models),
            "embedding_width": first.embedding_width,
            "max_bytes": self.settings.max_bytes,
            "token": bool(self.settings.token),
        }


def _first_request() -> Request:
    """A second of noise, for all that is loaded or planned when it is used first."""
    noise = np.random.default_rng(0).normal(0, 0.1, 44100).astype(np.float32)
    soundfile.write(file := io.BytesIO(), noise, 44100, format="WAV")
    head = f'--x\r\nContent-Disposition: form-data; name="{FIELD}"; filename="x"\r\n\r\n'
    body = head.encode() + file.getvalue() + b"\r\n--x--\r\n"
    messages = iter([{"type": "http.request", "body": body}])

    async def receive() -> Message:
        return next(messages)

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def build(classifier: Classifier, settings: Settings) -> FastAPI:
    """The application; `app.state.service` and `app.state.edge` are for what runs it."""
    service = Service(classifier, settings)
    app = FastAPI(
        title="jaxsound",
        version=service.version,
        description="What is heard in a recording, or live.",
        lifespan=service.running,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    _errors(app)
    _work(app, service)
    _watch(app, service)
    _page(app)

    def edge(inner: ASGIApp) -> Edge:
        app.state.edge = Edge(inner, service.metrics, settings.token, service.busy)
        return app.state.edge

    app.add_middleware(edge)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    return app


def _errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return JSONResponse({"detail": error.detail}, error.status, error.headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        detail = "There is nothing here." if error.status_code == 404 else f"{error.detail}."
        return JSONResponse({"detail": detail}, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}."}, 422)


def _work(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/predict", response_model=answers.Heard, responses=_PROBLEMS, openapi_extra=_UPLOAD
    )
    async def predict(
        request: Request,
        top: Annotated[int, Query(ge=1, le=10_000, description="classes, at most")] = 5,
        threshold: Annotated[
            float, Query(ge=0, le=1, description="from which a class stands in the timeline")
        ] = THRESHOLD,
        windows: Annotated[bool, Query(description="whether every window is given, too")] = False,
    ) -> Response:
        """What is heard in a recording (wav, flac, ogg, mp3) of any length and rate."""
        found = await service.predict(request)
        return JSONResponse(answers.heard(found, service.version, top, threshold, windows))

    @app.post(
        "/v1/embed", response_model=answers.Embedded, responses=_PROBLEMS, openapi_extra=_UPLOAD
    )
    async def embed(request: Request) -> Response:
        """What the classifier sees of a recording, as one vector."""
        found = await service.predict(request)
        return JSONResponse(answers.embedded(found, service.version))

    @app.get("/v1/model", response_model=answers.Model, responses={401: _PROBLEMS[401]})
    async def model() -> Response:
        """The model's classes, and what it takes."""
        return JSONResponse(service.model())

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        if not same_site(websocket.headers, service.settings.cors_origins):
            await websocket.close(1008)  # before it is accepted: the client sees 403
            return
        await websocket.accept()
        await service.stream(websocket)


def _watch(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["watch"])
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @app.get("/readyz", tags=["watch"], responses={503: _PROBLEMS[503]})
    async def readyz() -> dict[str, str]:
        """Whether it takes work: not before all is compiled, nor once it goes down."""
        if busy := service.busy():
            raise busy
        return {"status": "ready"}

    @app.get("/metrics", tags=["watch"], response_class=Response)
    async def metrics() -> Response:
        """For Prometheus."""
        text = prometheus_client.generate_latest(service.metrics.registry)
        return Response(text, media_type=prometheus_client.CONTENT_TYPE_LATEST)


def _page(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(manual.page(app.openapi()))

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        if not (WEB / "index.html").is_file():
            raise HTTPException(404)
        return FileResponse(WEB / "index.html", headers=_REVALIDATED)

    app.mount("/static", _Files(directory=WEB, check_dir=False), name="static")


class _Files(StaticFiles):
    """The page's files; a browser asks each time whether they have changed."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """As StaticFiles has it."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(_REVALIDATED)
        return response


def _fingerprint(classifier: Classifier) -> str:
    """Of the weights: another model is another version, whatever its folder is called."""
    digest = hashlib.sha256()
    for model in classifier.models:
        for leaf in jax.tree.leaves((model.params, model.stats, model.mean, model.std)):
            digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12]
