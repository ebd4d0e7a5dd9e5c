"""The graph for other tools: networkx holds what the sparse matrix holds, and GraphML what networkx holds."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import networkx
import numpy as np
import pytest

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.export import to_networkx, write_graphml
from ripple_place.graph.profile import BlockProfile
from tests.trace_builders import bits_of, random_activity

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def block() -> BlockProfile:
    """Return a block with two dead neurons."""
    active = random_activity(np.random.default_rng(0), 30, 12)
    active[:, [4, 11]] = False
    bits = bits_of(active)
    return BlockProfile(bits.frequency(), neighbor_graph(bits, 3))


def test_networkx(block: BlockProfile) -> None:
    """The same matrix back, every neuron a node, dead ones too."""
    graph = to_networkx(block)
    assert list(graph) == list(range(12))
    assert networkx.get_node_attributes(graph, "frequency") == dict(enumerate(block.frequency.tolist()))
    assert not graph.is_directed()
    assert graph.degree(4) == graph.degree(11) == 0
    np.testing.assert_array_equal(networkx.to_numpy_array(graph, dtype=np.int32), block.graph.toarray())


def test_graphml(tmp_path: Path, block: BlockProfile) -> None:
    """Read back by networkx: blocks side by side and not connected, names and counts as they were."""
    write_graphml(tmp_path / "g.graphml", {"layers.3": block, "layers.10": block})
    graph = networkx.read_graphml(tmp_path / "g.graphml")
    assert graph.number_of_nodes() == 24
    assert graph.nodes["layers.10/4"] == {"block": "layers.10", "neuron": 4, "frequency": 0}
    for name in ("layers.3", "layers.10"):
        part = graph.subgraph([f"{name}/{neuron}" for neuron in range(12)])
        expected = {(i, j): w for i, j, w in to_networkx(block).edges(data="weight")}
        assert {
            tuple(sorted(int(node.split("/")[1]) for node in edge)): w for *edge, w in part.edges(data="weight")
        } == expected
    assert graph.number_of_edges() == 2 * to_networkx(block).number_of_edges()


def test_nothing_is_left_if_writing_fails(tmp_path: Path, block: BlockProfile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like every file of ours, whole or not at all."""

    def fails(*args: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr("networkx.write_graphml", fails)
    with pytest.raises(OSError, match="no space"):
        write_graphml(tmp_path / "g", {"layers.0": block})
    assert list(tmp_path.iterdir()) == []
