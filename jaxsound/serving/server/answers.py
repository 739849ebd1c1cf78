"""What the server answers, as types (which OpenAPI shows) and from predictions."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from jaxsound.serving.prediction import Prediction

Probability = Annotated[float, Field(ge=0, le=1)]


class Score(BaseModel):
    """A class and its probability."""

    label: str
    probability: Probability


class Stretch(BaseModel):
    """A part of a recording in which one class came first, in seconds."""

    start: float
    end: float
    label: str
    probability: Probability


class Window(BaseModel):
    """What is heard in one window; `probabilities` in the order of the model's classes."""

    start: float
    end: float
    silent: bool
    probabilities: list[Probability]


class Heard(BaseModel):
    """What is heard in a recording; `label` is null where nothing but silence is."""

    model: str
    seconds: float
    silent: bool
    label: str | None
    classes: list[Score]
    timeline: list[Stretch]
    windows: list[Window] | None = None


class Embedded(BaseModel):
    """What the classifier sees of a recording."""

    model: str
    seconds: float
    silent: bool
    embedding: list[float]


class Model(BaseModel):
    """The model, and what it takes."""

    version: str
    classes: list[str]
    sample_rate: int = Field(description="Hz; recordings of any rate are resampled to it")
    window_seconds: float
    hop_seconds: float
    folds: int = Field(description="models whose probabilities are averaged")
    embedding_width: int
    max_bytes: int = Field(description="of a request's body")
    token: bool = Field(description="whether requests must bring a bearer token")


class Problem(BaseModel):
    """Why there is no answer, in one sentence."""

    detail: str


def heard(
    prediction: Prediction, version: str, top: int, threshold: float, windows: bool
) -> dict[str, Any]:
    """A `Heard`, ready for JSON.

    Args:
      prediction: of the recording.
      version: of the model.
      top: classes, at most.
      threshold: probability from which on a class stands in the timeline.
      windows: whether every window is given, too.
    """
    silent = prediction.silent
    answer: dict[str, Any] = {
        "model": version,
        "seconds": round(prediction.seconds, 3),
        "silent": silent,
        "label": None if silent else prediction.label,
        "classes": [] if silent else scores(prediction.top(top)),
        "timeline": [
            {
                "start": round(part.start, 3),
                "end": round(part.end, 3),
                "label": part.label,
                "probability": round(part.probability, 6),
            }
            for part in prediction.timeline(threshold)
        ],
    }
    if windows:
        columns = prediction.starts, prediction.ends, prediction.quiet, prediction.windows
        answer["windows"] = [
            {
                "start": round(float(start), 3),
                "end": round(float(end), 3),
                "silent": bool(quiet),
                "probabilities": [round(float(p), 6) for p in probabilities],
            }
            for start, end, quiet, probabilities in zip(*columns, strict=True)
        ]
    return answer


def embedded(prediction: Prediction, version: str) -> dict[str, Any]:
    """An `Embedded`, ready for JSON."""
    return {
        "model": version,
        "seconds": round(prediction.seconds, 3),
        "silent": prediction.silent,
        "embedding": [float(value) for value in prediction.embedding],
    }


def scores(best: list[tuple[str, float]]) -> list[dict[str, Any]]:
    """`Score`s, ready for JSON."""
    return [{"label": name, "probability": round(p, 6)} for name, p in best]
