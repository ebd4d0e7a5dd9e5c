"""The segmented cache, written to be obvious."""

from __future__ import annotations

from collections import OrderedDict


class Segmented:
    """Clusters of neurons in one least-recently-used list, single neurons in another."""

    def __init__(self, capacity: int, cluster_of: list[int], hot: dict[int, set[int]]) -> None:
        """`hot` has the hot clusters by planned batch size; the first of them applies at first."""
        self.capacity, self.cluster_of, self.plan = capacity, cluster_of, hot
        self.clusters: OrderedDict[int, None] = OrderedDict()
        self.neurons: OrderedDict[int, None] = OrderedDict()
        self.set_batch(min(hot))

    def members(self, clusters: set[int]) -> list[int]:
        """Return the neurons of some clusters."""
        return [neuron for neuron, cluster in enumerate(self.cluster_of) if cluster in clusters]

    def set_batch(self, batch: int) -> None:
        """Resize both regions."""
        below = [planned for planned in self.plan if planned <= batch]
        self.hot = self.plan[max(below) if below else min(self.plan)]
        self.hot_room = min(self.capacity, len(self.members(self.hot)))
        self.clusters = OrderedDict.fromkeys(cluster for cluster in self.clusters if cluster in self.hot)
        self.neurons = OrderedDict.fromkeys(n for n in self.neurons if self.cluster_of[n] not in self.hot)
        while len(self.neurons) > self.capacity - self.hot_room:
            self.neurons.popitem(last=False)

    def serve(self, row: list[int], admitted: list[bool]) -> list[bool]:
        """Return the hits of one row."""
        hits, loaded = [], set()
        for neuron, may_enter in zip(row, admitted, strict=True):
            cluster = self.cluster_of[neuron]
            if cluster in self.hot:
                hits.append(cluster in self.clusters and cluster not in loaded)
                size = len(self.members({cluster}))
                if cluster in self.clusters:
                    self.clusters.move_to_end(cluster)
                elif may_enter and size <= self.hot_room:
                    while len(self.members(set(self.clusters))) + size > self.hot_room:
                        self.clusters.popitem(last=False)
                    self.clusters[cluster] = None
                    loaded.add(cluster)
                continue
            hits.append(neuron in self.neurons)
            cold_room = self.capacity - self.hot_room
            if neuron in self.neurons:
                self.neurons.move_to_end(neuron)
            elif may_enter and cold_room:
                if len(self.neurons) == cold_room:
                    self.neurons.popitem(last=False)
                self.neurons[neuron] = None
        return hits

    def empty(self) -> None:
        """Forget everything but the batch size."""
        self.clusters.clear()
        self.neurons.clear()
