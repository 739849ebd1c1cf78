"""Fixtures that every room's tests share."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxsound.features.store import Store
from tests import tiny

jax.config.update("jax_num_cpu_devices", 4)  # before anything asks for a device

SHARED = Path(os.environ.get("JAXSOUND_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ESC-50-master, UrbanSound8K and freesound-audio-tagging, and the ESC-50 zip."""
    unpack = SHARED / "data" / "unpack"
    if not unpack.is_file():
        pytest.skip(f"real recordings are not here: no {unpack} (set JAXSOUND_SHARED)")
    folder = tmp_path_factory.mktemp("recordings")
    subprocess.run([sys.executable, unpack, folder, "--zip"], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that all tests share: data sets are prepared once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """60 clips of 5 to 40 frames of 8 features: 3 classes with means of their own, 3 folds."""
    return tiny.store(tmp_path_factory.mktemp("store"))
