"""Every figure is drawn and not blank, the page holds them all and fetches nothing."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest
from flax import nnx
from matplotlib.image import imread

from jaxsound.config import default_config, frontend_config
from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.evaluation import crossval
from jaxsound.explore import augmentations, canvas, clips, figures, page, saliency
from jaxsound.explore.survey import load, survey
from jaxsound.features.frontend import FrontendConfig
from jaxsound.training.checkpoint import Checkpoints
from jaxsound.training.state import Network, build_network, create_state

ROOT = Path(__file__).parents[2]
NAMES = ("a tone", "$hiss_", "<b>&", "c" * 60)
OF_DATA = {
    *("class_counts", "lengths", "loudness", "sample_rates", "waveforms", "linear_spectrograms"),
    *("mel_spectrograms", "mfcc", "mel_surface", "class_grid", "augmentations"),
}
OF_RUN = {"saliency", "saliency_mistakes"}


def make_dataset(**changes: object) -> Dataset:
    """Three clips of each class, one of them of zeros; 0.25 to 1 s at two rates."""
    rng = np.random.default_rng(0)
    clips = []
    for i in range(12):
        rate = (8000, 11025)[i % 2]
        time = np.arange(round(rate * (0.25 + 0.75 * (i % 5) / 4))) / rate
        sound = np.sin(2 * np.pi * 300 * (1 + i % 4) * time) + 0.1 * rng.normal(size=len(time))
        audio = np.int16(6000 * sound * (i != 7))
        clips.append(
            {"clip_id": f"clip{i}", "audio": audio, "sample_rate": rate, "label": i % 4}
            | {"group": f"g{i}", "fold": 1 + i % 2}
            | changes
        )
    texts = dict.fromkeys(("citation", "licence", "homepage"), "")
    return Dataset("tiny", NAMES, "f", clips, False, (), "a <note>", **texts)


def make_config() -> ml_collections.ConfigDict:
    config = default_config("cnn")
    config.frontend.update(sample_rate=8000, n_fft=256, hop_length=128, n_mels=16)
    config.model.update(channels=(4,), convs=1)
    config.data.pad_seconds = 1.0
    return config


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of untrained models that was right about some clips and wrong about others."""
    directory, config, dataset = tmp_path_factory.mktemp("run"), make_config(), make_dataset()
    rng = np.random.default_rng(0)
    for fold in (1, 2):
        _, params, stats = build_network(
            config.model, features=16, classes=4, frames=63, key=jax.random.key(fold)
        )
        tables = {"mean": np.zeros(16), "std": np.ones(16), "class_weight": np.ones(4)}
        state = create_state(params, stats, optax.sgd(0.1), ema=False, **tables)
        about = {"config": config.to_dict(), "class_names": NAMES, "features": 16, "frames": 63}
        with Checkpoints(directory / f"fold_{fold}" / "checkpoints") as checkpoints:
            checkpoints.save(1, state, {}, about | {"folds": [fold]}, 1.0)
        tested = [clip for clip in dataset.clips if clip["fold"] == fold]
        logits = rng.normal(size=(len(tested), 4))
        labels = np.array([clip["label"] for clip in tested])
        right = np.arange(len(tested)) % 3 > 0
        logits[right, labels[right]] += 9
        result = crossval.FoldResult(
            fold=fold,
            class_names=NAMES,
            clip_ids=np.array([clip["clip_id"] for clip in tested]),
            groups=np.array([clip["group"] for clip in tested]),
            labels=labels,
            probabilities=np.asarray(jax.nn.softmax(logits.astype(np.float32))),
            steps=1,
            seconds=1.0,
            clips={},
        )
        crossval.write_fold(directory, result)
    crossval.gather(directory, [1, 2], {})
    return directory


@pytest.fixture(scope="module")
def drawn(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "deep" / "er"
    assert page.explore(make_dataset(), make_config(), out, run) == out / "index.html"
    return out


def test_every_figure_is_drawn_and_none_is_blank(drawn: Path) -> None:
    assert {path.stem for path in drawn.glob("*.png")} == OF_DATA | OF_RUN
    for path in drawn.glob("*.png"):
        opacity = imread(path)[..., 3]  # figures have no background
        assert opacity.std() > 0.05, path.name


def test_the_page_shows_each_figure_and_asks_no_host_for_anything(drawn: Path) -> None:
    text = (drawn / "index.html").read_text()
    assert set(re.findall(r'<h2 id="(\w+)"', text)) == OF_DATA | OF_RUN
    assert text.count('<img src="data:image/png;base64,') == len(OF_DATA | OF_RUN)
    bare = re.sub(r"base64,[\w+/=]+", "", text)
    assert "default-src 'none'" in bare
    assert not re.search(r"https?:|//|<script|@import|url\(", bare)
    assert "a &lt;note&gt;" in bare
    assert "The configuration turns none on" in bare


def test_silence_is_drawn() -> None:
    dataset = make_dataset(label=0, audio=np.zeros(2000, np.int16), sample_rate=8000)
    config = frontend_config(make_config())
    with canvas.style():
        seen = survey(dataset)
        assert len(figures.lengths(seen).axes) == 1  # all are equal: no boxes
        some = [load(dataset, i) for i in (0, 1)]
        drawn = [figures.loudness(seen), clips.waveforms(some), clips.surface(some[0], config)]
        drawn += [f(some, config) for f in (clips.linear_spectrograms, clips.mfccs)]
        drawn += [clips.mel_spectrograms(some, config), clips.class_grid([some], config)]
        assert all(canvas.png(figure) for figure in drawn)


def test_verified_labels_are_told_apart_where_the_records_have_them() -> None:
    with canvas.style():
        plain = figures.class_counts(survey(make_dataset()))
        checked = figures.class_counts(survey(make_dataset(manually_verified=1)))
    assert plain.axes[0].get_legend() is None
    assert len(checked.axes[0].get_legend().get_texts()) == 2


def test_augmentations_are_those_of_the_config() -> None:
    config, frontend = make_config(), FrontendConfig()
    settings, is_own = augmentations.chosen(config.augment, frontend)
    assert not is_own
    assert settings == augmentations.TYPICAL
    config.augment.freq_masks = 3
    settings, is_own = augmentations.chosen(config.augment, frontend)
    assert is_own
    assert settings["freq_masks"] == 3
    assert not settings["mixup"]
    config.augment.noise, config.augment.freq_masks = 0.2, 0
    settings, is_own = augmentations.chosen(config.augment, frontend)
    assert is_own
    assert settings["noise"] == 0.2
    config.augment.noise = 0.0
    config.frontend.kind = "mfcc"
    config.augment.freq_masks, config.frontend.n_mfcc = 0, 13
    settings, _ = augmentations.chosen(config.augment, frontend_config(config))
    assert settings["gain_db"] == 0


def test_each_augmentation_in_sound_has_its_row() -> None:
    dataset = make_dataset()
    config = frontend_config(make_config())
    augment = make_config().augment
    augment.update({"shift": True, "speed": 1.25, "between_class": 0.5, "level_db": 6.0})
    settings, _ = augmentations.chosen(augment, config)
    with canvas.style():
        figure = augmentations.figure([load(dataset, i) for i in range(3)], settings, config)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    for name in ("shift", "speed", "between class", "level"):
        assert sum(title.startswith(name) for title in titles) == augmentations.DRAWS
    assert not any(title.startswith("noise") for title in titles)


class Curved(nnx.Module):
    """Logits that are smooth in every input, and no two inputs count alike."""

    def __init__(self) -> None:
        self.weight = nnx.Param(jax.random.normal(jax.random.key(0), (5, 3, 2)))

    def __call__(self, x: jax.Array, length: jax.Array, **_: object) -> jax.Array:
        return jnp.tanh(jnp.einsum("btm,tmc->bc", x, self.weight[...]) / 4)


def test_saliency_is_the_slope_times_the_input() -> None:
    graph, params, stats = nnx.split(Curved(), nnx.Param, nnx.BatchStat)
    network = Network(graph, classes=2, features=3)
    x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    length = jnp.array([5])

    def logit(inputs: np.ndarray) -> np.ndarray:
        logits, _ = network.apply(params, stats, jnp.asarray(inputs), length, train=False)
        return np.asarray(logits)[:, 1]

    steps = 0.01 * np.eye(15, dtype=np.float32).reshape(15, 5, 3)
    slope = (logit(x + steps) - logit(x - steps)) / 0.02
    found = saliency.gradient_times_input(network, params, stats, x, length, jnp.array([1]))
    np.testing.assert_allclose(found[0], np.abs(slope.reshape(5, 3) * x[0]), atol=2e-4)


@pytest.mark.parametrize("spoil", ["no result", "other clips", "no folder", "no clips"])
def test_what_cannot_be_drawn_is_one_line(spoil: str, run: Path, tmp_path: Path) -> None:
    cases: dict[str, tuple[Callable[[], object], str]] = {
        "no result": (lambda: explore(workdir=tmp_path), "predictions.csv is missing"),
        "other clips": (lambda: explore(make_dataset(clip_id="x"), workdir=run), "has not"),
        "no folder": (lambda: explore(out=run / "crossval.json"), "--out="),
        "no clips": (lambda: explore(Dataset("d", (), "", [], False, (), "", *"abc")), "no clips"),
    }

    def explore(dataset: Dataset | None = None, out: Path = tmp_path, **more: Path) -> None:
        page.explore(dataset or make_dataset(), make_config(), out, **more)

    attempt, named = cases[spoil]
    with pytest.raises(UserError, match=named) as caught:
        attempt()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "named"),
    [([], "--config"), (["--config=configs/quickstart.py", "--config.data.nam=x"], "data.name")],
    ids=["no config", "a misspelt key"],
)
def test_a_mistake_on_the_command_line_is_one_line(flags: list[str], named: str) -> None:
    command = [sys.executable, "-m", "jaxsound.explore", *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert named in done.stderr
    assert done.stderr.count("\n") == 1
