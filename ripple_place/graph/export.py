"""The co-activation graph for other tools: networkx, and through it GraphML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    import networkx

    from ripple_place.graph.profile import BlockProfile


def to_networkx(block: BlockProfile) -> networkx.Graph:
    """Return a block's co-activation graph.

    Returns
    -------
    networkx.Graph
        One node for each neuron, dead ones too, with attribute ``frequency``; edges have ``weight``, the rows in which
        both fire.
    """
    import networkx

    graph: networkx.Graph = networkx.from_scipy_sparse_array(block.graph)
    networkx.set_node_attributes(graph, dict(enumerate(block.frequency.tolist())), "frequency")
    return graph


def write_graphml(path: str | os.PathLike[str], blocks: Mapping[str, BlockProfile]) -> None:
    """Write the co-activation graphs of some blocks as one GraphML file for Gephi, Cytoscape and the like.

    Nodes are named ``layers.3/17`` and have ``block``, ``neuron`` and ``frequency``; blocks are not connected.

    Raises
    ------
    OSError
        If storage refuses.
    """
    import networkx

    union = networkx.Graph()
    for name, block in blocks.items():
        graph = to_networkx(block)
        union.add_nodes_from(
            (f"{name}/{neuron}", {"block": name, "neuron": neuron, **attributes})
            for neuron, attributes in graph.nodes(data=True)
        )
        union.add_edges_from(
            (f"{name}/{i}", f"{name}/{j}", {"weight": int(w)}) for i, j, w in graph.edges(data="weight")
        )
    with replacing(path) as file:
        networkx.write_graphml(union, file)
