"""What misses cost and what each neuron adds to it, written down as it is said."""

from tests.reference.gap_cost import gap_cost


def row_costs(active, hit, order, break_even_gap):
    """Return lambda x reads + neurons read of each row, for dense booleans by neuron."""
    return [
        gap_cost([[a and not h for a, h in zip(*row, strict=True)]], order, break_even_gap)
        for row in zip(active, hit, strict=True)
    ]


def read_shares(active, pinned, order, break_even_gap):
    """Return, by neuron, how much less the rest costs if a neuron is pinned than if it is not."""
    shares = []
    for neuron in range(len(order)):
        cost = []
        for more in ({neuron}, set()):
            resident = (set(pinned) - {neuron}) | more
            missing = [[a and j not in resident for j, a in enumerate(row)] for row in active]
            cost.append(gap_cost(missing, order, break_even_gap) * len(active))
        shares.append(cost[1] - cost[0])
    return shares
