"""What an order costs a token, written down as the reader does it: runs, gaps, reads."""


def gap_cost(active, order, break_even_gap):
    """Return lambda x reads + neurons read per token, for rows of booleans by neuron."""
    gap = int(break_even_gap + 1e-9)
    total = 0.0
    for row in active:
        slots = [slot for slot, neuron in enumerate(order) if row[neuron]]
        reads = []
        for slot in slots:
            if reads and slot - reads[-1][1] - 1 <= gap:
                reads[-1][1] = slot
            else:
                reads.append([slot, slot])
        total += sum(break_even_gap + last - first + 1 for first, last in reads)
    return total / len(active)


def distances(active, order, slot):
    """Return, by token, the distances of the next active slots on either side of a boundary; None: nowhere."""
    left, right = [], []
    for row in active:
        before = [slot - place + 1 for place in range(slot + 1) if row[order[place]]]
        behind = [place - slot for place in range(slot + 1, len(order)) if row[order[place]]]
        left.append(min(before, default=None))
        right.append(min(behind, default=None))
    return left, right
