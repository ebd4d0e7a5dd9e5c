"""Labels beside marks: none covers another, a mark, or leaves the frame."""

from __future__ import annotations

from ripple_place.pages.label_places import place_labels

FRAME = (0.0, 100.0, 0.0, 100.0)


def test_a_label_stands_to_the_right_of_its_mark() -> None:
    """Unless that leaves the frame: then to the left."""
    assert place_labels([("5%", (50.0, 50.0))], [(50.0, 50.0)], [], FRAME) == [("5%", (58.0, 54.0))]
    [(_, (x, _))] = place_labels([("5%", (95.0, 50.0))], [(95.0, 50.0)], [], FRAME)
    assert x + 2 * 6.2 <= 90


def test_labels_make_room_for_marks_and_lines() -> None:
    """A mark is never covered; a line only where nothing else is free."""
    mark, beside = (50.0, 50.0), (63.0, 50.0)
    [(_, (x, _))] = place_labels([("5%", mark)], [mark, beside], [], FRAME)
    assert x < 50
    [(_, above)] = place_labels([("5%", mark)], [mark], [[(0.0, 50.0), (100.0, 50.0)]], FRAME)
    assert above[1] < 45
    everywhere = [[(0.0, float(y)), (100.0, float(y))] for y in range(0, 100, 4)]
    assert len(place_labels([("5%", mark)], [mark], everywhere, FRAME)) == 1


def test_of_labels_without_room_the_first_is_placed() -> None:
    """Rather none than two that nobody can read."""
    marks = [(50.0, 50.0)] * 20
    placed = place_labels([(str(i), at) for i, at in enumerate(marks)], marks, [], FRAME)
    assert 1 <= len(placed) < 20
    assert placed[0][0] == "0"
