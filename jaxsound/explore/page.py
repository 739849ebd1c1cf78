"""All figures of a data set as PNGs, and one page that shows them and asks no host for anything."""

import base64
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxsound.bars import bar
from jaxsound.config import frontend_config
from jaxsound.data.dataset import Dataset
from jaxsound.errors import UserError
from jaxsound.evaluation.report import HEAD, STYLE
from jaxsound.explore import augmentations, canvas, clips, figures, saliency
from jaxsound.explore.survey import Clip, Survey, load, spread, survey

CLASSES = 12  # shown one clip of each
GRID_CLASSES, GRID_CLIPS = 60, 3
_STYLE = """
img { display: block; max-width: 100%; height: auto; margin-top: .7rem; }
"""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure to be drawn: `name`.png under a heading and a sentence about it."""

    name: str
    title: str
    text: str
    draw: Callable[[], Figure]


def explore(dataset: Dataset, config: Any, out: Path, workdir: Path | None = None) -> Path:
    """Draws every figure.

    Args:
      dataset: prepared; read once whole, and a few of its clips again.
      config: the experiment: `frontend` and `augment` are read.
      out: directory of the PNGs and the page; made if it is not there.
      workdir: a finished run of `jaxsound.main`, to show where its models look.

    Returns:
      The page.

    Raises:
      UserError: the directory cannot be written, or the run has no result on these clips.
    """
    if not len(dataset.clips):
        raise UserError(f"data set {dataset.name} has no clips to show")
    seen = survey(dataset)
    pictures = [*_of_data_set(seen), *_of_clips(seen, dataset, config)]
    if workdir:
        pictures += _of_run(workdir, dataset, seen)
    try:
        out.mkdir(parents=True, exist_ok=True)
        sections = []
        with canvas.style():
            for picture in bar(pictures, desc="figures", unit="figure"):
                image = canvas.png(picture.draw())
                (out / f"{picture.name}.png").write_bytes(image)
                sections.append(_section(picture, image))
        page = out / "index.html"
        beside = out / "index.html.tmp"
        beside.write_text(_html(dataset, seen, sections), encoding="utf-8", errors="replace")
        os.replace(beside, page)
    except OSError as error:
        raise UserError(f"--out={out}: {error.strerror or error}") from error
    return page


def _of_data_set(seen: Survey) -> Iterator[Picture]:
    yield Picture(
        "class_counts",
        "Classes",
        "Clips of each class, the largest first."
        + (" Dark: labels that a person verified." if seen.verified is not None else ""),
        lambda: figures.class_counts(seen),
    )
    boxes = (
        "Boxes span the quartiles, whiskers the 5th to the 95th percentile, a red line marks the "
        "median; a class of fewer than 20 clips shows each of them."
    )
    lengths = "All clips are equally long." if seen.equally_long else boxes
    yield Picture("lengths", "Lengths", lengths, lambda: figures.lengths(seen))
    yield Picture("loudness", "Loudness", boxes, lambda: figures.loudness(seen))
    yield Picture(
        "sample_rates",
        "Sample rates",
        "As the files have them.",
        lambda: figures.sample_rates(seen),
    )


def _of_clips(seen: Survey, dataset: Dataset, config: Any) -> Iterator[Picture]:
    frontend = frontend_config(config)
    present = np.unique(seen.labels).tolist()
    some = [load(dataset, _ordinary(seen, i)) for i in spread(present, CLASSES)]
    few = f" {len(some)} of {len(present)} classes." if len(some) < len(present) else ""
    which = f"One clip of each class, of the median loudness of its longer half.{few}"
    window = (
        f"{frontend.n_fft} samples every {frontend.hop_length}, at "
        f"{frontend.sample_rate / 1000:g} kHz"
    )
    yield Picture(
        "waveforms",
        "Waveforms",
        f"{which} Each on a scale of its own, where full scale is 1.",
        lambda: clips.waveforms(some),
    )
    yield Picture(
        "linear_spectrograms",
        "Linear spectrograms",
        f"The same clips: magnitude of the short-time Fourier transform, {window}.",
        lambda: clips.linear_spectrograms(some, frontend),
    )
    yield Picture(
        "mel_spectrograms",
        "Log-mel spectrograms",
        f"The same clips through {frontend.n_mels} mel filters, in dB on one scale.",
        lambda: clips.mel_spectrograms(some, frontend),
    )
    if frontend.n_mels > 1:
        yield Picture(
            "mfcc",
            "MFCC",
            "The same clips' cepstral coefficients; number 0, the level, is left out.",
            lambda: clips.mfccs(some, frontend),
        )
    loud = max(some, key=_contrast)
    yield Picture(
        "mel_surface",
        "Mel surface",
        f"The log-mel of one of them, {loud.clip_id}, as a landscape.",
        lambda: clips.surface(loud, frontend),
    )
    grid = spread(present, GRID_CLASSES)
    part = f" {len(grid)} of {len(present)} classes." if len(grid) < len(present) else ""
    yield Picture(
        "class_grid",
        "What a class sounds like",
        f"Log-mels of up to {GRID_CLIPS} clips of each class, quiet to loud, each squeezed to one "
        f"width.{part}",
        lambda: clips.class_grid([_examples(seen, dataset, i) for i in grid], frontend),
    )
    settings, is_own = augmentations.chosen(config.augment, frontend)
    told = (
        "What the configuration turns on, three draws of each, on normalised features."
        if is_own
        else "The configuration turns none on; this is what each would do at a usual strength."
    )
    other = some[(some.index(loud) + 1) % len(some)]
    yield Picture(
        "augmentations",
        "Augmentation",
        told,
        lambda: augmentations.figure([loud, other, *some], settings, frontend),
    )


def _of_run(workdir: Path, dataset: Dataset, seen: Survey) -> Iterator[Picture]:
    found = list(
        bar(
            saliency.looks(workdir, dataset, seen),
            desc="saliency",
            unit="clip",
        )
    )
    how = (
        "Bright: the true class's logit depends on it (gradient times input, smoothed), over the "
        "spectrogram in grey, by the model that was tested on the clip."
    )
    kinds = (
        ("saliency", "Where the model looks", "Clips it got right, with its confidence.", True),
        ("saliency_mistakes", "Its worst mistakes", "Highest loss first.", False),
    )
    for name, title, text, is_right in kinds:
        if looks := [look for right, look in found if right == is_right]:
            draw = functools.partial(saliency.figure, looks)
            yield Picture(name, title, f"{text} {how}", draw)


def _ordinary(seen: Survey, label: int) -> int:
    of_class = seen.of_class(label)
    return int(of_class[len(of_class) // 2])


def _examples(seen: Survey, dataset: Dataset, label: int) -> Sequence[Clip]:
    """A few clips of a class, from quiet to loud."""
    of_class = seen.of_class(label)
    inner = of_class[len(of_class) // 10 :]  # the quietest are often silent
    return [load(dataset, int(i)) for i in spread(inner.tolist(), GRID_CLIPS)]


def _contrast(clip: Clip) -> float:
    """How much a clip's level moves, of those of 1 to 10 s: a picture of it has a shape."""
    if not 1 <= clip.seconds <= 10:
        return -clip.seconds
    blocks = np.array_split(clip.waveform, 50)
    level = 10 * np.log10([np.mean(np.square(block)) + 1e-7 for block in blocks])
    return float(np.std(np.maximum(level, level.max() - 30)))


def _section(picture: Picture, image: bytes) -> str:
    data = base64.b64encode(image).decode()
    width, height = (int.from_bytes(image[i : i + 4]) for i in (16, 20))  # of a PNG's header
    return (
        f'<h2 id="{picture.name}">{escape(picture.title)}</h2>'
        f'<p class="soft">{escape(picture.text)}</p>'
        f'<img src="data:image/png;base64,{data}" alt="{escape(picture.title)}" '
        f'width="{round(width / canvas.DPI * 96)}" height="{round(height / canvas.DPI * 96)}">'
    )


def _html(dataset: Dataset, seen: Survey, sections: Sequence[str]) -> str:
    hours = seen.seconds.sum() / 3600
    rates = np.unique(seen.rates)
    facts = {
        "clips": f"{len(seen.labels):,}",
        "classes": f"{len(seen.class_names):,}",
        "hours" if hours >= 1 else "minutes": f"{hours if hours >= 1 else hours * 60:.1f}",
        "folds": f"{len(np.unique(seen.folds[seen.folds > 0])):,}",
        "source recordings": f"{len(np.unique(seen.groups)):,}",
        "kHz": f"{rates[0] / 1000:g}" + (f" to {rates[-1] / 1000:g}" if len(rates) > 1 else ""),
    }
    told = "".join(f"<div><b>{fact}</b><span>{name}</span></div>" for name, fact in facts.items())
    notes = [dataset.note] if dataset.note else []
    if dataset.left_out:
        notes.append(f"{len(dataset.left_out)} clips were left out")
    noted = "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
    title = escape(f"{dataset.name} · explore")
    return (
        f"{HEAD}<title>{title}</title><style>{STYLE}{_STYLE}</style></head>\n<body>\n"
        f'<h1>{title}</h1><div class="facts">{told}</div>{noted}\n'
        + "\n".join(sections)
        + "\n</body></html>\n"
    )
