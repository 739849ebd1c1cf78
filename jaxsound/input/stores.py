"""The stores that a configuration trains and is evaluated on."""

import dataclasses
from typing import Any

from jaxsound.cache import cache_root
from jaxsound.config import stored_frontends
from jaxsound.data.dataset import Dataset, find, prepare
from jaxsound.features.store import Store, open_store, place, precompute


def prepare_store(config: Any) -> Store:
    """The store of `config`: opened where it is made already, by whom ever, or prepared here."""
    source, cache = find(config.data), cache_root(config.data.cache_dir)
    paths = [place(source.fingerprint, frontend, cache) for frontend in stored_frontends(config)]
    if all(path.exists() for path in paths):
        return _together([open_store(path) for path in paths])
    return store_of(config, prepare(config.data, source))


def store_of(config: Any, dataset: Dataset) -> Store:
    """The data set's features, and where training is to hear sound, its samples as `sound`.

    Statistics and evaluation are of the stored features in any case.

    Args:
      config: the whole configuration.
      dataset: as `prepare` finds it.
    """
    cache = cache_root(config.data.cache_dir)
    return _together(
        [precompute(dataset, frontend, cache) for frontend in stored_frontends(config)]
    )


def _together(stores: list[Store]) -> Store:
    store, *sound = stores
    return dataclasses.replace(store, sound=sound[0]) if sound else store
