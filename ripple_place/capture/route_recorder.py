"""Records where mixtures send tokens while a model runs, as rows of bits and router weights."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.capture.recorder import Recorder, check_positions
from ripple_place.capture.routes import watch_routes
from ripple_place.trace.activity_rules import check_finite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ripple_place.capture.routes import Routes
    from ripple_place.capture.sites import Site


class RouteRecorder(Recorder):
    """The hooks of a capture of routes; its sites are those of `ripple_place.capture.routed_sites`.

    The model runs as it always does: nothing is changed or left out.
    """

    @contextmanager
    def attach(self, device: str) -> Iterator[None]:
        """Watch the sites until the end of the context; the model is as before afterwards.

        Raises
        ------
        UnsupportedError
            While the model runs, if a router sees other positions than those of the batch.
        TraceFormatError
            While the model runs, if a router's weight is NaN or infinite.
        """
        ends: list[Callable[[], None]] = []
        self._device = device
        try:
            ends.extend(watch_routes(site.module, partial(self._see_routes, site)) for site in self.sites)
            yield
        finally:
            for end in ends:
                end()

    def _see_routes(self, site: Site, routes: Routes) -> None:
        """Record where the positions of a batch go; experts that have no weights of their own do not count."""
        if self._mode != "record":
            return
        rows, n_experts = self._rows[site.stack], site.n_neurons
        check_positions(site.path, routes.n_positions, rows)
        token = self._token_of(site.stack)[routes.positions].cpu().numpy()
        expert, weight = routes.experts.cpu().numpy(), routes.weights.float().cpu().numpy()
        chosen = (token >= 0) & (expert < n_experts)
        # A table of experts by token id may name one twice.
        keys, first = np.unique(token[chosen].astype(np.int64) * n_experts + expert[chosen], return_index=True)
        row, expert = np.searchsorted(rows.tokens, keys // n_experts), (keys % n_experts).astype(np.int32)
        weights = np.zeros((rows.tokens.size, n_experts), np.float32)
        weights[row, expert] = weight[chosen][first]
        check_finite(weights, f"{site.block}, router", rows.tokens)
        active = np.zeros(weights.shape, bool)
        active[row, expert] = True
        counts = np.bincount(row, minlength=rows.tokens.size).astype(np.int64)
        self.writer.append(
            site.block, np.packbits(active, axis=1, bitorder="little"), rows.tokens if site.stack else None,
            (counts, expert, weights[row, expert]),
        )  # fmt: skip
