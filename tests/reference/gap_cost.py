"""What an order costs a token, written down as the reader does it: runs, gaps, reads."""


def reads_of(row, order, gap):
    """Return the reads of one token as [first slot, last slot]; gaps of up to `gap` slots are read through."""
    reads = []
    for slot, neuron in enumerate(order):
        if not row[neuron]:
            continue
        if reads and slot - reads[-1][1] - 1 <= gap:
            reads[-1][1] = slot
        else:
            reads.append([slot, slot])
    return reads


def gap_cost(active, order, break_even_gap):
    """Return lambda x reads + neurons read per token, for rows of booleans by neuron."""
    gap = int(break_even_gap + 1e-9)
    reads = [read for row in active for read in reads_of(row, order, gap)]
    return sum(break_even_gap + last - first + 1 for first, last in reads) / len(active)


def distances(active, order, slot):
    """Return, by token, the distances of the next active slots on either side of a boundary; None: nowhere."""
    left, right = [], []
    for row in active:
        before = [slot - place + 1 for place in range(slot + 1) if row[order[place]]]
        behind = [place - slot for place in range(slot + 1, len(order)) if row[order[place]]]
        left.append(min(before, default=None))
        right.append(min(behind, default=None))
    return left, right
