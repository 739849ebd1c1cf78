"""The stores that a configuration trains and is evaluated on."""

import dataclasses
from typing import Any

from jaxsound.cache import cache_root
from jaxsound.config import frontend_config
from jaxsound.data.dataset import Dataset
from jaxsound.features.frontend import samples_of
from jaxsound.features.store import Store, precompute


def prepare_store(config: Any, dataset: Dataset) -> Store:
    """The data set's features, and where training is to hear sound, its samples too.

    Statistics and evaluation are of the stored features in any case.

    Args:
      config: the whole configuration.
      dataset: as `prepare` finds it.
    """
    cache, features = cache_root(config.data.cache_dir), frontend_config(config)
    store = precompute(dataset, features, cache)
    if config.data.input == "features":
        return store
    return dataclasses.replace(store, sound=precompute(dataset, samples_of(features), cache))
