"""A classifier says the same of a sound however it comes, and what evaluation says of a clip."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile

from jaxsound.data import audio
from jaxsound.data.audio import AudioError
from jaxsound.errors import UserError
from jaxsound.features.frontend import frontend
from jaxsound.serving.classifier import BATCHES, Classifier
from tests.serving.conftest import RATE, sound, trained


@pytest.mark.parametrize("seconds", [0.05, 0.4, 1.0])
@pytest.mark.parametrize("rate", [8000, 22050])
def test_a_clip_is_what_evaluation_makes_of_it(
    seconds: float, rate: int, classifier: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, sound(seconds, rate), rate, subtype="PCM_16")
    recording, _ = audio.read(path)
    waveform = audio.resample(recording.astype(np.float32) / 32768, rate, RATE)
    config, model = classifier.frontend, classifier.models[0]
    features = frontend(config, waveform[None], np.array([len(waveform)]))[0]
    batch, length = model.batch([np.asarray(features).astype(config.dtype)])
    expected = jax.nn.softmax(model.logits(batch, length))[0]
    found = classifier.predict(path)
    assert len(found.windows) == 1
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)
    assert found.seconds == pytest.approx(seconds, abs=1e-3)


def test_file_and_samples_are_the_same_sound(classifier: Classifier, tmp_path: Path) -> None:
    samples = sound(5.3, 22050)
    soundfile.write(tmp_path / "long.wav", samples, 22050, subtype="FLOAT")
    a = classifier.predict(tmp_path / "long.wav")
    b = classifier.predict(samples, 22050)
    c = classifier.predict(np.stack([samples, samples], 1), 22050)
    assert len(a.windows) == 10
    for other in (b, c):
        np.testing.assert_allclose(other.windows, a.windows, atol=1e-3)
    np.testing.assert_allclose(a.probabilities, a.windows.mean(0), atol=1e-6)
    assert a.ends[-1] == pytest.approx(5.3, abs=1e-3)


def test_windows_do_not_depend_on_their_batch(classifier: Classifier) -> None:
    parts = [sound(1.0, seed=i) for i in range(BATCHES[-1])]
    together = classifier.score(parts)
    for i, part in enumerate(parts[:3]):
        alone = classifier.score([part])
        for a, b in zip(together, alone, strict=True):
            np.testing.assert_allclose(a[i], b[0], atol=1e-5)


def test_folds_are_averaged() -> None:
    models = [trained(seed) for seed in (1, 2)]
    clip = sound(1.0)
    each = [Classifier([model]).predict(clip, RATE) for model in models]
    both = Classifier(models).predict(clip, RATE)
    np.testing.assert_allclose(
        both.probabilities, np.mean([p.probabilities for p in each], 0), atol=1e-6
    )
    np.testing.assert_allclose(both.embedding, np.concatenate([p.embedding for p in each]))


def test_the_embedding_is_what_the_classifier_sees(classifier: Classifier) -> None:
    found = classifier.predict(sound(1.0), RATE)
    model = classifier.models[0]
    head = model.params["head"]
    logits = found.embedding @ head["kernel"][...] + head["bias"][...]
    np.testing.assert_allclose(jax.nn.softmax(logits), found.probabilities, atol=1e-5)
    np.testing.assert_array_equal(classifier.embed(sound(1.0), RATE), found.embedding)


def test_silence_is_said_and_does_not_count(classifier: Classifier) -> None:
    nothing = classifier.predict(np.zeros(3 * RATE, np.float32), RATE)
    assert nothing.silent
    assert nothing.timeline(0.0) == []
    half = classifier.predict(np.concatenate([sound(1.0), np.zeros(3 * RATE, np.float32)]), RATE)
    assert not half.silent
    assert half.quiet.tolist() == [False, False, True, True, True, True, True]
    np.testing.assert_allclose(half.probabilities, half.windows[:2].mean(0), atol=1e-6)


def test_models_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="do not average"):
        Classifier([trained(), trained(names=("a", "b", "c"))])


@pytest.mark.parametrize(
    ("samples", "rate", "says"),
    [
        (np.zeros(10, np.float32), None, "sample_rate"),
        (np.zeros(10, np.float32), 100, "sample_rate=100"),
        (np.zeros((2, 3, 4), np.float32), RATE, "shape"),
        (np.zeros(0, np.float32), RATE, "shape"),
        (np.zeros(10, np.int64), RATE, "int64"),
        (np.full(10, np.nan, np.float32), RATE, "NaN"),
    ],
)
def test_what_is_no_sound_is_refused(
    samples: np.ndarray, rate: int | None, says: str, classifier: Classifier
) -> None:
    with pytest.raises(ValueError, match=says):
        classifier.predict(samples, rate)


def test_a_broken_file_is_an_audio_error(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError):
        classifier.predict(tmp_path / "broken.wav")


@pytest.mark.parametrize(
    "changes",
    [
        {"frontend.seconds": 0.5, "frontend.pad": "reflect"},
        {"frontend.resize_frames": 40},
        {"frontend.kind": "mfcc", "frontend.delta": 1, "frontend.n_mfcc": 8},
        {"data.crop_bins": 12},
        {"model.dtype": "bfloat16"},
    ],
)
def test_every_frontend_is_served(changes: dict[str, object]) -> None:
    classifier = Classifier([trained(**changes)])
    for seconds in (0.05, 0.5, 3.0):
        found = classifier.predict(sound(seconds), RATE)
        assert np.isfinite(found.windows).all()
        np.testing.assert_allclose(found.windows.sum(1), 1, atol=1e-5)
    assert jnp.isfinite(found.embedding).all()
