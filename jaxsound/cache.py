"""What is kept from one start to the next, and where: compiled programs, beside the data."""

import hashlib
import os
import stat
from pathlib import Path

from jaxsound.errors import UserError
from jaxsound.places import is_remote

LARGEST = 4 * 2**30  # bytes of programs kept; the oldest go first
WORTH_KEEPING = 0.3  # seconds of compilation


def cache_root(place: str = "") -> Path:
    """`place`, else $JAXSOUND_CACHE, else ~/.cache/jaxsound; absolute.

    Raises:
      UserError: an address; features are read through a memory map, which takes a disk.
    """
    place = place or os.environ.get("JAXSOUND_CACHE") or "~/.cache/jaxsound"
    if is_remote(place):
        raise UserError(
            f"data.cache_dir={place}: the cache is read through memory maps, so it lies on a disk "
            "of this machine; recordings (data.manual_dir) and runs (--workdir) may be at addresses"
        )
    return Path(place).expanduser().absolute()


def keep_programs(cache: Path) -> Path | None:
    """Turns on JAX's persistent compilation cache, unless the environment has settled it.

    A program from there is run as it is, so the folder is its owner's alone, and so is it used:
    one that others can write to, or a place that cannot be written, means no cache. Programs are
    kept apart by the processor's abilities, which JAX does not look at.

    Args:
      cache: jaxsound's cache directory.

    Returns:
      The folder in use; None where $JAX_COMPILATION_CACHE_DIR names another or '' for none, or
      where none can be had.
    """
    import jax  # here, so that what only looks for data starts without it

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return None
    folder = cache / "compiled" / _processor()
    try:
        for made in (folder.parent, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _private(made):
                return None
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_compilation_cache_max_size", LARGEST)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", WORTH_KEEPING)
    return folder


def _private(folder: Path) -> bool:
    """Whether a folder, and no link, is this user's and nobody else may write to it."""
    if not hasattr(os, "getuid"):
        return True
    found = folder.lstat()
    own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return own and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _processor() -> str:
    """A name for what this machine's processor can do."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    abilities = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return hashlib.sha256(abilities.encode()).hexdigest()[:12]
