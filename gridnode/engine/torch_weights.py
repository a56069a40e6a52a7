"""From the tensors of a checkpoint to the parameters of `transformers`' classes.

Checkpoints keep names and layouts of their time (a matrix for each expert, no prefix before the blocks);
the classes have others by now. `transformers` knows how to get from one to the other. This applies it to a
few tensors at a time, so that a span is loaded without the rest of its model.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from gridnode.errors import BadCheckpoint

Read = Callable[[str], torch.Tensor]


class TorchWeights:
    """The way from a checkpoint's tensors into `model`."""

    def __init__(self, model: Any) -> None:
        transforms = get_model_conversion_mapping(model)
        self._model = model
        self._renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
        self._converters = [t for t in transforms if isinstance(t, WeightConverter)]
        self._by_pattern = {p: c for c in self._converters for p in c.source_patterns}
        self._targets = model.state_dict()
        # Tensors that old files hold and nobody needs: masks, rotary frequencies.
        self._needless = [re.compile(p) for p in model._keys_to_ignore_on_load_unexpected or ()]

    def load(self, names: Iterable[str], read: Read) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield the parameters that the tensors `names` make, as `(name in the model, value)`.

        One parameter's tensors are read at a time. All tensors that make a parameter must be among `names`.

        Raises:
            BadCheckpoint: a tensor has no place in the model, or does not fit its neighbours.
        """
        plain: dict[str, str] = {}
        merged: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name in sorted(names, key=dot_natural_key):  # experts in their order
            target, pattern = self._target(name)
            if target in self._targets and pattern is not None:
                merged[target].append((pattern, name))
            elif target in self._targets:
                plain[target] = name
            elif not any(needless.search(name) for needless in self._needless):
                raise BadCheckpoint(f"{name!r} has no place in a {self._model.config.model_type} model")
        for target, name in plain.items():
            yield target, read(name)
        for target, sources in merged.items():
            yield from self._convert(target, sources, read).items()

    def plain_targets(self, names: Iterable[str]) -> dict[str, str]:
        """Return, of `names`, those that are parameters as they are, with the names of the parameters."""
        found = {name: self._target(name) for name in names}
        return {name: t for name, (t, pattern) in found.items() if pattern is None and t in self._targets}

    def _target(self, name: str) -> tuple[str, str | None]:
        prefix = self._model.base_model_prefix
        target, pattern = rename_source_key(name, self._renamings, self._converters, prefix, self._targets)
        if target not in self._targets:  # a file that has the new layout already
            as_it_is, _ = rename_source_key(name, [], [], prefix, self._targets)
            if as_it_is in self._targets:
                return as_it_is, None
        return target, pattern

    def _convert(self, target: str, sources: list[tuple[str, str]], read: Read) -> dict[str, torch.Tensor]:
        converter = copy.deepcopy(self._by_pattern[sources[0][0]])
        for pattern, name in sources:
            converter.add_tensor(target, name, pattern, read(name))  # type: ignore[arg-type] # takes both
        try:
            converted = converter.convert(target, model=self._model, config=self._model.config)
        except (ValueError, RuntimeError, KeyError, IndexError) as exc:
            raise BadCheckpoint(
                f"{len(sources)} tensors like {sources[0][1]!r} do not make {target!r}: {exc}; "
                "fetch the checkpoint again"
            ) from exc
        return {name: value[0] if isinstance(value, list) else value for name, value in converted.items()}
