"""Training on sound: the same features as the stored ones, and the same run however it is fed."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from jaxsound.config import default_config, frontend_config, validate
from jaxsound.data import audio, folds
from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.experiment import (
    Experiment,
    evaluator,
    initial_state,
    make_experiment,
    take_steps,
    train_iterator,
)
from jaxsound.features.clip import transform
from jaxsound.features.frontend import frontend
from jaxsound.features.store import Store
from jaxsound.input.stores import store_of
from jaxsound.training import hearing, sharding, state

RATE = 8000
CLIPS = 48
STEPS = 4
LOUD: dict[str, Any] = {
    "augment.shift": True,
    "augment.loop": 0.5,
    "augment.speed": 1.25,
    "augment.between_class": 0.8,
    "augment.polarity": True,
    "augment.level_db": 6.0,
    "augment.noise": 0.5,
    "augment.equaliser_db": 6.0,
    "augment.low_pass": 0.3,
    "augment.low_pass_hz": 1000.0,
}


def recordings() -> list[dict[str, Any]]:
    """Tones of three pitches in hiss, of up to half a second; an empty one, some padded."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(CLIPS):
        samples = int(rng.integers(200, 4000)) if i else 0
        time = np.arange(samples) / RATE
        tone = np.sin(2 * np.pi * (400, 900, 2000)[i % 3] * time + i)
        sound = 6000 * rng.uniform(0.1, 1) * tone + rng.normal(size=samples) * 100
        if i % 4 == 1:
            sound[3 * samples // 4 :] = 0
        made.append(
            {
                "clip_id": f"clip{i}",
                "audio": sound.astype(np.int16),
                "sample_rate": RATE,
                "label": i % 3,
                "group": str(i),
                "fold": 1 + i // 16,
            }
        )
    return made


def small_config(**changes: Any) -> ml_collections.ConfigDict:
    config = default_config("stack")
    config.epochs = 3
    config.batch_size = 8
    config.data.update({"input": "waveform", "pad_seconds": 0.5, "normalize": "per_bin"})
    config.frontend.update({"sample_rate": RATE, "n_fft": 256, "hop_length": 100, "n_mels": 12})
    config.model.update({"dims": 1, "layers": ("conv 8 3", "relu", "mean")})
    config.update_from_flattened_dict(changes)
    validate(config)
    return config


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return made_store(tmp_path_factory.mktemp("cache"), recordings(), small_config())


def made_store(cache: Path, clips: list[dict[str, Any]], config: Any) -> Store:
    config.data.cache_dir = str(cache)
    texts = {"note": "", "citation": "", "licence": "", "homepage": ""}
    digest = f"{len(clips)}-{clips[1]['sample_rate']}"
    names = ("low", "middle", "high")
    return store_of(config, Dataset("tones", names, digest, clips, True, (), **texts))


def experiment_of(config: Any, store: Store, stacked: bool = False) -> Experiment:
    splits = {fold: folds.split(store, fold) for fold in (1, 2, 3)}
    if config.data.input == "features":
        store = dataclasses.replace(store, sound=None)
    return make_experiment(config, store, splits, stacked)


def run(experiment: Experiment, group: list[int]) -> np.ndarray:
    """Losses `[STEPS, K]` of a group of folds, and at the end their test logits, flattened."""
    placement, seed = experiment.placement, experiment.config.seed
    current = placement.stack([initial_state(experiment, fold) for fold in group])
    key = placement.stack([state.stream_key(seed, "train", fold) for fold in group])
    iterators = [train_iterator(experiment, fold) for fold in group]
    rows = []
    for _ in range(STEPS):
        current, metrics = take_steps(experiment, current, iterators, key, 1)
        rows.append(np.atleast_1d(np.asarray(metrics["loss"])))
    for iterator in iterators:
        iterator.close()
    test = evaluator(experiment, group, "test")(current, STEPS)
    return np.concatenate([np.stack(rows).ravel(), *(part.logits.ravel() for part in test)])


@pytest.fixture
def one_device(monkeypatch: pytest.MonkeyPatch) -> None:
    on_devices(monkeypatch, 1)


def on_devices(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    mesh = sharding.Mesh(np.array(jax.devices()[:count]), ("data",))
    monkeypatch.setattr(sharding, "make_mesh", lambda *_: mesh)


@pytest.mark.parametrize("rate", [RATE, 11025])
def test_the_store_holds_each_clip_s_samples(rate: int, tmp_path: Path) -> None:
    """Bit for bit, or, resampled, to the nearest of int16's steps: half a step at most."""
    clips = [clip | {"sample_rate": rate} for clip in recordings()]
    store = made_store(tmp_path, clips, small_config())
    assert store.sound is not None
    sound = store.sound
    for i, clip in enumerate(clips):
        held = sound.frames[sound.offsets[i] : sound.offsets[i + 1], 0]
        assert held.dtype == np.int16
        wanted = audio.resample(clip["audio"].astype(np.float32), rate, RATE) if i else [0]
        np.testing.assert_allclose(held, wanted, rtol=0, atol=0 if rate == RATE else 0.5)
    np.testing.assert_array_equal(sound.labels, store.labels)
    np.testing.assert_array_equal(sound.clip_ids, store.clip_ids)


@pytest.mark.usefixtures("one_device")
@pytest.mark.parametrize(("feed", "rate"), [("stream", RATE), ("resident", 11025)])
def test_features_heard_in_the_step_are_the_stored_ones(
    feed: str, rate: int, tmp_path: Path
) -> None:
    clips = [clip | {"sample_rate": rate} for clip in recordings()]
    config = small_config(**{"data.feed": feed})
    store = made_store(tmp_path, clips, config)
    experiment = experiment_of(config, store)
    hear = hearing.make_hearing(
        config.augment, frontend_config(config), size=experiment.crop_rows, classes=3
    )
    everything = np.arange(CLIPS)
    # In order, which is the last clips' too: a crop reaches past the last sample.
    heard = experiment.feed.eval_batches(everything, experiment.crop_rows)
    looked_at = experiment_of(config, dataclasses.replace(store, sound=None)).feed
    stored = looked_at.eval_batches(everything, experiment.pad_frames)
    for i in range(CLIPS // 8):
        made, length, label = jax.jit(hear)(jax.random.key(0), experiment.feed.place([heard(i)]))
        wanted = stored(i)
        np.testing.assert_array_equal(length, wanted["length"])
        np.testing.assert_array_equal(label.argmax(1), wanted["label"])
        rows = range(8 * i, 8 * i + 8)
        for row, clip, count in zip(np.asarray(made), rows, wanted["length"], strict=True):
            kept = stored_frames(store, clip, resampled=rate != RATE)
            allowed = 0.51 * np.spacing(np.abs(kept)).astype(np.float32) + 1e-3
            assert len(kept) == count
            assert (np.abs(row[:count] - kept.astype(np.float32)) <= allowed).all()
            assert (row[count:] == 0).all()


def stored_frames(store: Store, clip: int, *, resampled: bool) -> np.ndarray:
    """The clip's frames; of resampled clips those of the int16 samples, whose rounding is heard."""
    if not resampled:
        return store.frames[store.offsets[clip] : store.offsets[clip + 1]]
    assert store.sound is not None
    begin, end = store.sound.offsets[clip : clip + 2]
    record = {"audio": store.sound.frames[begin:end, 0], "sample_rate": RATE}
    about = {"label": 0, "fold": 1, "group": "", "clip_id": ""}
    return transform(store.frontend, record | about)[0]


@pytest.mark.usefixtures("one_device")
def test_without_augmentation_training_is_the_features_path_s(store: Store) -> None:
    found = [
        run(experiment_of(small_config(**{"data.input": name}), store), [1])
        for name in ("features", "waveform")
    ]
    np.testing.assert_allclose(found[1][:STEPS], found[0][:STEPS], rtol=2e-3)
    np.testing.assert_allclose(found[1][STEPS:], found[0][STEPS:], rtol=0.05, atol=0.02)


@pytest.mark.usefixtures("one_device")
def test_evaluation_and_statistics_are_of_the_stored_features(store: Store) -> None:
    config = small_config(**LOUD)
    sound = experiment_of(config, store)
    features = experiment_of(small_config(**{"data.input": "features"}), store)
    states = [initial_state(made, 2) for made in (sound, features)]
    for name in ("mean", "std", "class_weight", "params"):
        jax.tree.map(np.testing.assert_array_equal, *(getattr(s, name) for s in states))
    found = [
        evaluator(made, [2], "test")(s, 0)[0].logits
        for made, s in zip((sound, features), states, strict=True)
    ]
    np.testing.assert_array_equal(*found)


@pytest.fixture(scope="module")
def loud(store: Store) -> Experiment:
    """Everything on, all samples on one device."""
    with pytest.MonkeyPatch.context() as patch:
        on_devices(patch, 1)
        return experiment_of(small_config(**LOUD), store)


@pytest.fixture(scope="module")
def whole(loud: Experiment) -> list[np.ndarray]:
    """What becomes of folds 1 and 2, one after another."""
    return [run(loud, [fold]) for fold in (1, 2)]


@pytest.mark.usefixtures("one_device")
def test_streamed_and_resident_sound_train_alike(store: Store, whole: list[np.ndarray]) -> None:
    streamed = experiment_of(small_config(**LOUD, **{"data.feed": "stream"}), store)
    np.testing.assert_array_equal(run(streamed, [1]), whole[0])


def test_several_devices_with_folds_side_by_side_train_alike(
    store: Store, whole: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_devices(monkeypatch, 4)
    together = run(experiment_of(small_config(**LOUD), store, stacked=True), [1, 2])
    losses = np.stack([row[:STEPS] for row in whole], 1).ravel()
    np.testing.assert_allclose(together[: 2 * STEPS], losses, rtol=1e-4, atol=1e-5)
    logits = np.concatenate([row[STEPS:] for row in whole])
    np.testing.assert_allclose(together[2 * STEPS :], logits, rtol=1e-2, atol=1e-3)


def test_training_on_sound_goes_on_where_it_stopped(loud: Experiment) -> None:
    key = loud.placement.stack([state.stream_key(0, "train", 1)])

    def begin() -> Any:
        return loud.placement.stack([initial_state(loud, 1)])

    def steps(current: Any, iterator: Any, count: int) -> tuple[Any, list[float]]:
        losses = []
        for _ in range(count):
            current, metrics = take_steps(loud, current, [iterator], key, 1)
            losses.append(float(metrics["loss"]))
        return current, losses

    first = train_iterator(loud, 1)
    _, undisturbed = steps(begin(), first, 4)
    half = train_iterator(loud, 1)
    current, _ = steps(begin(), half, 2)
    again = train_iterator(loud, 1)
    again.set_state(half.get_state())
    _, rest = steps(current, again, 2)
    assert rest == undisturbed[2:]
    for iterator in (first, half, again):
        iterator.close()


@pytest.mark.usefixtures("one_device")
def test_plain_copies_are_heard_as_they_are(store: Store) -> None:
    config = small_config(**LOUD | {"augment.speed": 1.0}, **{"augment.copies": 1})
    experiment = experiment_of(config, store)
    options: dict[str, Any] = {"size": experiment.crop_rows, "classes": 3}
    features = frontend_config(config)
    iterator = train_iterator(experiment, 1)
    batch = experiment.feed.place([next(iterator)])
    iterator.close()
    plain = np.asarray(batch["plain"])
    assert 0 < plain.sum() < 8
    augmented = hearing.make_hearing(config.augment, features, **options)
    untouched = hearing.make_hearing(small_config().augment, features, **options)
    found, wanted = (np.asarray(h(jax.random.key(0), batch)[0]) for h in (augmented, untouched))
    same = np.isclose(found, wanted, atol=1e-4).all((1, 2))
    np.testing.assert_array_equal(same, plain)


def test_a_response_filters_the_sound(store: Store) -> None:
    """As factors of a spectrum's energy, it is what filtering the sound itself gives."""
    features = frontend_config(small_config())
    rng = np.random.default_rng(3)
    sound = rng.normal(size=(1, 4000)).astype(np.float32) / 8
    frequency = np.arange(129) * (RATE / 256)
    energy = 1 / (1 + (frequency / 1500) ** 4)
    full = np.fft.rfftfreq(4000, 1 / RATE)
    filtered = np.fft.irfft(np.fft.rfft(sound) / np.sqrt(1 + (full / 1500) ** 4), 4000)
    length = jnp.array([4000])
    by_bins = frontend(features, sound, length, jnp.asarray(energy[None], jnp.float32))
    by_sound = frontend(features, jnp.asarray(filtered, jnp.float32), length)
    inner = np.asarray(by_bins - by_sound)[0, 2:-2]
    assert abs(inner.mean()) < 0.1
    assert np.abs(inner).mean() < 0.4
    plain = np.asarray(frontend(features, sound, length) - by_sound)[0, 2:-2]
    assert plain.mean() > 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.input": "features", "augment.noise": 0.5}, "augment.noise=0.5: needs data.input"),
        ({"data.input": "features", "augment.speed": 1.2}, "augment.speed=1.2: needs data.input"),
        ({"frontend.seconds": 1.0, "frontend.pad": "zero"}, "frontend.seconds=1.0"),
        ({"frontend.kind": "samples", "frontend.dtype": "int16"}, "frontend.kind='samples'"),
        ({"augment.noise_low_db": 50.0}, "augment.noise_low_db=50.0: must be at most"),
        ({"augment.low_pass": 0.5, "augment.low_pass_hz": 5000.0}, "half of frontend.sample_rate"),
    ],
)
def test_what_does_not_go_together_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("(", r"\(")) as error:
        small_config(**changes)
    assert len(str(error.value).splitlines()) == 1
