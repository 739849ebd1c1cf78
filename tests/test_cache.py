"""Compiled programs are kept where only their owner can put any."""

import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxsound import cache

PROGRAM = """
import sys, time, pathlib
import jax, jax.numpy as jnp
from jaxsound.cache import keep_programs
assert keep_programs(pathlib.Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((64, 64)))
print("hits", hits.count("/jax/compilation_cache/cache_hits"))
"""


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What would be set, without setting it for the tests to come."""
    found: list[tuple[str, object]] = []
    monkeypatch.setattr(jax.config, "update", lambda *setting: found.append(setting))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return found


def test_a_second_process_finds_the_first_one_s_programs(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for _ in range(2)
    ]
    assert said[0] == "hits 0\n"
    assert said[1].startswith("hits ")
    assert said[1] != "hits 0\n"


def test_the_folder_is_its_owner_s(tmp_path: Path) -> None:
    folder = cache.keep_programs(tmp_path)
    assert folder is not None
    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0


def test_a_folder_that_others_write_to_is_not_used(tmp_path: Path, settings: list) -> None:
    (tmp_path / "compiled").mkdir()
    (tmp_path / "compiled").chmod(0o777)
    assert cache.keep_programs(tmp_path) is None
    assert not settings


def test_a_link_is_not_followed(tmp_path: Path, settings: list) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "compiled").symlink_to(tmp_path / "elsewhere")
    assert cache.keep_programs(tmp_path) is None
    assert not settings


def test_a_place_that_cannot_be_written_means_no_cache(tmp_path: Path, settings: list) -> None:
    (tmp_path / "file").touch()
    assert cache.keep_programs(tmp_path / "file") is None
    assert not settings


@pytest.mark.parametrize("chosen", ["", "/somewhere"])
def test_the_environment_comes_first(
    chosen: str, tmp_path: Path, settings: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", chosen)
    assert cache.keep_programs(tmp_path) is None
    assert not settings
