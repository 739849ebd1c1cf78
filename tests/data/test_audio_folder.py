"""audio_folder: a folder per class or a CSV; every mistake in them is one line."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxsound.data.dataset import Dataset, prepare
from jaxsound.errors import UserError

Make = Callable[..., SimpleNamespace]


def by_id(data: Dataset) -> dict[str, tuple[str, str, int]]:
    return {
        record["clip_id"]: (data.class_names[record["label"]], record["group"], record["fold"])
        for record in data.clips
    }


def refused(data: SimpleNamespace, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        prepare(data)
    assert "\n" not in str(error.value)


def test_a_folder_per_class(folder: Path, options: Make) -> None:
    (folder / "cat" / "notes.txt").write_text("not a recording")
    (folder / ".hidden").mkdir()
    data = prepare(options("audio_folder", manual_dir=str(folder), make_folds=2))
    found = by_id(data)
    assert data.class_names == ("cat", "dog")
    assert not data.publisher_folds
    assert len(found) == 10
    assert found["cat/more/5.flac"][:2] == ("cat", "cat/more/5.flac")
    for name, size in (("cat", 3), ("dog", 2)):
        assert sorted(fold for label, _, fold in found.values() if label == name) == (
            [1] * size + [2] * size
        )


def test_a_format_that_cannot_be_read_is_reported(folder: Path, options: Make) -> None:
    (folder / "cat" / "phone.m4a").write_bytes(b"\0\0\0 ftypM4A " * 20)
    with pytest.raises(UserError, match=r"1 of 11 recording is broken.*\n.*phone.m4a: cannot be"):
        prepare(options("audio_folder", manual_dir=str(folder), make_folds=2))


def test_folder_mistakes(
    tmp_path: Path, folder: Path, options: Make, write: Callable[..., Path]
) -> None:
    def data(path: Path, make_folds: int = 2) -> SimpleNamespace:
        return options("audio_folder", manual_dir=str(path), make_folds=make_folds)

    refused(data(tmp_path / "none"), "none: no such folder or CSV")
    refused(data(folder / "cat"), "1 class folders in it")
    refused(data(folder, 11), "make_folds=11 is more than the 10 source recordings")
    refused(data(folder, 1), "make_folds=1: cross-validation takes at least 2")
    (folder / "empty").mkdir()
    refused(data(folder), r"empty: the class is empty")
    write(folder / "empty" / "one.wav")
    refused(data(folder), "class 'empty' has clips of one source recording only")


def test_without_labels_every_recording_counts(
    folder: Path, options: Make, write: Callable[..., Path]
) -> None:
    write(folder / "loose.wav")
    data = prepare(options("audio_folder", manual_dir=str(folder), make_folds=3, unlabelled=True))
    found = by_id(data)
    assert {"loose.wav", "cat/more/5.flac"} < found.keys()
    assert len(found) == 11
    assert {label for label, _, _ in found.values()} == {"unlabelled"}
    assert {fold for _, _, fold in found.values()} == {1, 2, 3}
    flat = prepare(
        options("audio_folder", manual_dir=str(folder / "dog"), unlabelled=True, make_folds=2)
    )
    assert len(flat.clips) > 1
    (folder / "list.csv").write_text("path,group\ncat/0.wav,a\ncat/1.wav,a\ndog/0.wav,b\n")
    listed = options("audio_folder", manual_dir=str(folder / "list.csv"), unlabelled=True)
    listed.make_folds = 2
    assert {group for _, group, _ in by_id(prepare(listed)).values()} == {"a", "b"}
    (folder / "empty").mkdir()
    refused(
        options("audio_folder", manual_dir=str(folder / "empty"), unlabelled=True), "no recordings"
    )


@pytest.fixture
def sheet(folder: Path) -> Callable[[str], str]:
    """Writes a CSV beside the class folders; returns its path."""

    def make(text: str) -> str:
        path = folder / "list.csv"
        path.write_text(text)
        return str(path)

    return make


FOLDS = "\ufeffpath,label,fold,group\n" + "".join(
    f"{name}/{i}.wav,{name},{i % 2 + 1},{name}-{i}\n" for name in ("cat", "dog") for i in range(4)
)


def test_a_csv_with_folds_and_groups(sheet: Callable[[str], str], options: Make) -> None:
    data = prepare(options("audio_folder", manual_dir=sheet(FOLDS)))
    assert by_id(data)["dog/3.wav"] == ("dog", "dog-3", 2)
    assert len(data.clips) == 8
    assert not data.publisher_folds


def test_a_csv_of_slices(sheet: Callable[[str], str], options: Make, folder: Path) -> None:
    rows = "".join(
        f"{name}/{i}.wav,{name},{start},{end}\n"
        for name in ("cat", "dog")
        for i in range(3)
        for start, end in (("", 0.05), (0.05, ""), (0.02, 0.08))
    )
    data = prepare(
        options("audio_folder", manual_dir=sheet("path,label,start,end\n" + rows), make_folds=3)
    )
    found = by_id(data)
    assert len(found) == 18
    assert found["cat/1.wav#0.02-0.08"][1] == "cat/1.wav"
    fold_of: dict[str, set[int]] = {}
    for _, group, fold in found.values():
        fold_of.setdefault(group, set()).add(fold)
    assert all(len(numbers) == 1 for numbers in fold_of.values()), "a file's slices are divided"
    audio = {record["clip_id"]: record["audio"] for record in data.clips}
    whole = np.concatenate([audio["cat/0.wav#0-0.05"], audio["cat/0.wav#0.05-"]])
    assert len(whole) == 800
    np.testing.assert_array_equal(audio["cat/0.wav#0.02-0.08"], whole[160:640])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no column 'path'"),
        ("path,label\n", "lists no clips"),
        ("file,label\ncat/0.wav,cat\n", "no column 'path'; there are file, label"),
        ("path,kind\ncat/0.wav,cat\n", "no column 'label'; there are path, kind"),
        ("path,label\ncat/0.wav,cat\ncat/9.wav,cat\n", r"line 3: no such file: .*cat/9.wav"),
        ("path,label\n,cat\n", "line 2: the path is empty"),
        ("path,label\ncat/0.wav,\n", "line 2: the label is empty"),
        ("path,label\ncat/0.wav\n", "line 2: the label is empty"),
        ("path,label\ncat/0.wav,cat\ncat/0.wav,dog\n", "line 3: cat/0.wav is listed twice"),
        ("path,label,fold\ncat/0.wav,cat,one\n", "line 2: fold 'one' is not a fold number"),
        ("path,label,fold\ncat/0.wav,cat,-1\n", "line 2: fold '-1' is not a fold number"),
        ("path,label,fold\ncat/0.wav,cat,\n", "line 2: fold '' is not a fold number"),
        ("path,label,start\ncat/0.wav,cat,soon\n", "line 2: start='soon' is not a time"),
        ("path,label,end\ncat/0.wav,cat,nan\n", "line 2: end='nan' is not a time"),
        ("path,label,start,end\ncat/0.wav,cat,2,1\n", "end=1.0 s is not after start=2.0 s"),
        ("path,label\ncat/0.wav,cat\ncat/1.wav,cat\n", r"one class only \(cat\)"),
        (FOLDS.replace(",2,", ",1,"), "every clip is in fold 1; it takes at least 2"),
        (FOLDS.replace("cat-1", "cat-0"), "source 'cat-0' is divided between folds 1, 2"),
        (FOLDS.replace("dog-1", "dog-0").replace("dog-2", "dog-0").replace("dog-3", "dog-0"),
         "class 'dog' has clips of one source recording only"),
    ],
)  # fmt: skip
def test_csv_mistakes(sheet: Callable[[str], str], options: Make, text: str, words: str) -> None:
    refused(options("audio_folder", manual_dir=sheet(text)), words)


def test_a_slice_past_the_end_is_a_broken_clip(sheet: Callable[[str], str], options: Make) -> None:
    text = "path,label,start\ncat/0.wav,cat,5\n" + "".join(
        f"{name}/{i}.wav,{name},0\n" for name in ("cat", "dog") for i in range(3)
    )
    with pytest.raises(UserError, match=r"cat/0.wav#5-: starts at 5.0 s, but lasts 0.100 s"):
        prepare(options("audio_folder", manual_dir=sheet(text), make_folds=2))


def test_a_csv_in_no_encoding(folder: Path, options: Make) -> None:
    (folder / "list.csv").write_bytes(b"\xff\xfe\x00path")
    refused(options("audio_folder", manual_dir=str(folder / "list.csv")), "not a readable CSV")
