"""The server says of a recording what the library says, however it is sent."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest

from jaxsound.serving.classifier import Classifier
from jaxsound.serving.server.app import build
from jaxsound.serving.server.settings import Settings
from tests.serving.conftest import NAMES, RATE, sound, trained
from tests.serving.server.conftest import Served, encoded, refused


@pytest.mark.parametrize(
    ("form", "rate", "channels", "seconds"),
    [
        ("WAV", 8000, 1, 1.0),
        ("WAV", 22050, 2, 0.05),
        ("FLAC", 96000, 1, 3.3),
        ("OGG", 44100, 2, 12.0),
        ("MP3", 16000, 1, 2.0),
    ],
)
def test_a_recording_gets_the_librarys_answer(
    form: str, rate: int, channels: int, seconds: float, served: Served, classifier: Classifier
) -> None:
    body = encoded(np.stack([sound(seconds, rate)] * channels, 1), rate, form)
    raw = served.post(body, "/v1/predict?windows=true&threshold=0.1&top=2")
    files = {"file": ("../../x.wav", body, "audio/wav")}
    form_sent = httpx.post(f"{served.url}/v1/predict?windows=1&threshold=0.1&top=2", files=files)
    found, expected = raw.json(), _library(classifier, body)
    assert form_sent.json() == found
    assert found["seconds"] == pytest.approx(expected.seconds, abs=1e-3)
    assert found["label"] == expected.label
    assert [(c["label"], c["probability"]) for c in found["classes"]] == [
        (name, pytest.approx(p, abs=1e-4)) for name, p in expected.top(2)
    ]
    windows = np.array([w["probabilities"] for w in found["windows"]])
    np.testing.assert_allclose(windows, expected.windows, atol=1e-4)
    assert [w["start"] for w in found["windows"]] == pytest.approx(expected.starts, abs=1e-3)
    timeline = expected.timeline(0.1)
    assert [(t["start"], t["end"], t["label"]) for t in found["timeline"]] == [
        (pytest.approx(s.start, abs=1e-3), pytest.approx(s.end, abs=1e-3), s.label)
        for s in timeline
    ]


def _library(classifier: Classifier, body: bytes):  # type: ignore[no-untyped-def]
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        return classifier.predict(file.name)


def test_an_embedding(served: Served, classifier: Classifier) -> None:
    body = encoded(sound(1.0))
    found = served.post(body, "/v1/embed").json()
    np.testing.assert_allclose(found["embedding"], _library(classifier, body).embedding, atol=1e-4)
    assert len(found["embedding"]) == httpx.get(f"{served.url}/v1/model").json()["embedding_width"]


def test_silence_is_said_and_not_guessed(served: Served) -> None:
    found = served.post(encoded(np.zeros(3 * RATE, np.float32))).json()
    assert found["silent"] is True
    assert found["label"] is None
    assert found["classes"] == found["timeline"] == []
    assert served.post(encoded(sound(1.0))).json()["silent"] is False


def test_the_model_is_described(served: Served, classifier: Classifier) -> None:
    found = httpx.get(f"{served.url}/v1/model").json()
    assert found["classes"] == list(NAMES)
    assert found["sample_rate"] == RATE
    assert found["window_seconds"] == classifier.window_seconds
    assert found["folds"] == 1
    assert found["max_bytes"] == 2_000_000
    assert found["token"] is False
    assert served.post(encoded(sound(1.0))).json()["model"] == found["version"]


def test_another_model_is_another_version() -> None:
    versions = {
        build(Classifier([trained(seed)]), Settings()).state.service.version for seed in (0, 0, 1)
    }
    assert len(versions) == 2


@pytest.mark.parametrize("query", ["top=0", "top=x", "threshold=2", "windows=perhaps"])
def test_a_wrong_parameter_is_one_sentence(query: str, served: Served) -> None:
    assert query.partition("=")[0] in refused(served.post(b"", f"/v1/predict?{query}"), 422)


def test_answers_are_what_openapi_says(served: Served) -> None:
    from jaxsound.serving.server import answers

    body = encoded(sound(2.0))
    answers.Heard.model_validate(served.post(body, "/v1/predict?windows=1").json(), strict=True)
    answers.Embedded.model_validate(served.post(body, "/v1/embed").json(), strict=True)
    described = httpx.get(f"{served.url}/openapi.json").json()
    assert {"/v1/predict", "/v1/embed", "/v1/model", "/healthz", "/readyz"} <= set(
        described["paths"]
    )
    assert (
        "multipart/form-data" in described["paths"]["/v1/embed"]["post"]["requestBody"]["content"]
    )


def test_the_first_request_finds_everything_compiled(start: Callable[..., Served]) -> None:
    model = Classifier([trained()], (1, 2))
    served = start(model)
    compiled = model._run._cache_size()
    assert compiled == 2
    served.post(encoded(sound(1.0, 22050), 22050))
    assert model._run._cache_size() == compiled
