"""FSDKaggle2018: 11 073 everyday sounds of 0.3-30 s, 41 uneven classes, official train and test."""

import dataclasses
from pathlib import Path

from jaxsound.data import folds
from jaxsound.data.builder import Builder, Clip, Listing, Options, read_csv, whole
from jaxsound.errors import UserError

_TRAIN, _TEST = 9473, 1600
_RECORD = "https://zenodo.org/records/2552860/files"
# (metadata, audio) of each part: as on Zenodo, then as on Kaggle.
_TRAIN_LAYOUTS = (
    ("FSDKaggle2018.meta/train_post_competition.csv", "FSDKaggle2018.audio_train"),
    ("train_post_competition.csv", "audio_train"),
    ("train.csv", "audio_train"),
)
_TEST_LAYOUTS = (
    ("FSDKaggle2018.meta/test_post_competition_scoring_clips.csv", "FSDKaggle2018.audio_test"),
    ("FSDKaggle2018.meta/test_post_competition.csv", "FSDKaggle2018.audio_test"),
    ("test_post_competition_scoring_clips.csv", "audio_test"),
    ("test_post_competition.csv", "audio_test"),
)


class FsdKaggle2018(Builder):
    """The official train part is fold 0, which only trains; the official test part is fold 1.

    Labels are sorted names; group: the clip itself, since no source gives two. Without a test
    part on disk the clips get `make_folds` stratified folds of ours. Kaggle's test list names
    padding clips too, marked "Ignored", which are passed over. Zenodo publishes the archives'
    MD5 and no SHA-256: `download.fetch` verifies that.
    """

    TITLE = "FSDKaggle2018"
    HOMEPAGE = "https://zenodo.org/records/2552860"
    LICENCE = "CC BY 4.0; single clips: CC0, CC BY or CC BY-NC"
    CITATION = (
        "@inproceedings{fonseca2018general, title={General-purpose Tagging of Freesound Audio "
        "with AudioSet Labels: Task Description, Dataset, and Baseline}, author={Fonseca, Eduardo "
        "and Plakal, Manoj and Font, Frederic and Ellis, Daniel P. W. and Favory, Xavier and "
        "Pons, Jordi and Serra, Xavier}, booktitle={Proceedings of the DCASE 2018 Workshop}, "
        "pages={69--73}, year={2018}}"
    )
    ARCHIVES = {
        f"{_RECORD}/FSDKaggle2018.audio_train.zip": "a8b47ff4b52022c178f88fa5c6f080d0",
        f"{_RECORD}/FSDKaggle2018.audio_test.zip": "f85c8665c3fc39311ea1b748e194a81d",
        f"{_RECORD}/FSDKaggle2018.meta.zip": "f16828ac8be0e5285b9175a12f90d784",
    }

    @staticmethod
    def split_name(fold: int) -> str:
        return {0: "train"}.get(fold, f"fold_{fold}")

    @classmethod
    def list_clips(cls, folder: Path, options: Options) -> Listing:
        if not folder.is_dir():
            raise UserError(f"data.manual_dir={folder}: no such folder")
        for root in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
            if train := _part(root, _TRAIN_LAYOUTS, fold=0):
                break
        else:
            raise UserError(
                f"data.manual_dir={folder}: neither train.csv with audio_train (Kaggle) nor "
                "FSDKaggle2018.meta with FSDKaggle2018.audio_train (Zenodo) in it or in the "
                "folders it holds; give the folder that holds them"
            )
        test = _part(root, _TEST_LAYOUTS, fold=1)
        named, missing, note = whole(
            [clip for clip, _ in (*train, *test)], _TRAIN + _TEST, root, cls.TITLE, options
        )
        label_of = {clip.clip_id: label for clip, label in (*train, *test)}
        names = sorted({label_of[clip.clip_id] for clip in named})
        number = {name: label for label, name in enumerate(names)}
        clips = [dataclasses.replace(clip, label=number[label_of[clip.clip_id]]) for clip in named]
        official = any(clip.fold == 1 for clip in clips)
        if not official:
            made = folds.assign(
                [clip.label for clip in clips], [clip.group for clip in clips], options.make_folds
            )
            clips = [
                dataclasses.replace(clip, fold=int(fold))
                for clip, fold in zip(clips, made, strict=True)
            ]
            note += ", without the official test part: stratified folds"
        return Listing(tuple(clips), tuple(names), official, missing, note)


def _part(root: Path, layouts: tuple[tuple[str, str], ...], fold: int) -> list[tuple[Clip, str]]:
    """The clips of one official part with their labels; [] where it is not on disk."""
    for table, audio in layouts:
        if (root / table).is_file() and (root / audio).is_dir():
            rows = read_csv(root / table, ("fname", "label"))
            return [
                (_clip(root / audio, row, fold), row["label"])
                for row in rows
                if row.get("usage") != "Ignored" and row["label"] not in ("", "None")
            ]
    return []


def _clip(folder: Path, row: dict[str, str], fold: int) -> Clip:
    """A row's recording. The test list does not say that its labels are verified: all are."""
    told = {"0": 0, "1": 1}.get(row.get("manually_verified", ""), 1 if fold == 1 else -1)
    return Clip(folder / row["fname"], row["fname"], 0, row["fname"], fold, verified=told)
