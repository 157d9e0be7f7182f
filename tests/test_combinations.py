"""Which targets make a combination, and which combinations are scored together."""

import itertools

import numpy as np
import pytest

from fvfast.objectives.combinations import Combinations


def term(targets, *, coupled=False):
    return Combinations.of_term(targets, couples_images=coupled)


def rows(combinations):
    return [tuple(row) for row in combinations.picks.tolist()]


def groups_of(combinations, column):
    """The combinations that a sub-objective scores together, as sets of rows."""
    found = {}
    for row, number in zip(rows(combinations), combinations.partners[:, column], strict=True):
        found.setdefault(int(number), set()).add(row)
    return sorted(map(sorted, found.values()))


def assert_in_blocks(combinations):
    """What is scored together lies in one block of ``group_size`` rows."""
    blocks = np.arange(len(combinations)) // combinations.group_size
    for column in combinations.partners.T:
        for number in np.unique(column):
            assert len(np.unique(blocks[column == number])) == 1


@pytest.mark.parametrize("counts", [(1,), (4,), (2, 3), (3, 1, 2), (2, 2, 2, 2)])
def test_without_groups_it_is_the_product_with_the_last_varying_fastest(counts):
    whole = term(counts[0])
    for count in counts[1:]:
        whole = whole.times(term(count))
    assert rows(whole) == list(itertools.product(*map(range, counts)))
    assert whole.group_size == 1
    for column in range(len(counts)):
        assert len(np.unique(whole.partners[:, column])) == len(whole)


COUPLED = [(0, 3), (3, 0), (2, 3, 0), (2, 0, 3), (0, 2, 3), (0, 0), (2, 0, 0)]
"""Sub-objectives by number of targets; 0 is one of four images that are scored together."""


@pytest.mark.parametrize("counts", COUPLED)
def test_groups_are_alike_in_all_other_terms(counts):
    terms = [term(count or 4, coupled=not count) for count in counts]
    whole = terms[0]
    for one in terms[1:]:
        whole = whole.times(one)
    sizes = [count or 4 for count in counts]
    assert sorted(rows(whole)) == list(itertools.product(*map(range, sizes)))
    assert whole.group_size == 4 ** counts.count(0)
    assert_in_blocks(whole)
    for column, count in enumerate(counts):
        expected = {}
        for row in rows(whole):
            others = row[:column] + row[column + 1 :]
            expected.setdefault(others if count == 0 else row, []).append(row)
        assert groups_of(whole, column) == sorted(map(sorted, expected.values()))


@pytest.mark.parametrize("counts", COUPLED)
def test_it_does_not_matter_which_sum_is_made_first(counts):
    terms = [term(count or 4, coupled=not count) for count in counts]
    left, right = terms[0], terms[-1]
    for one in terms[1:]:
        left = left.times(one)
    for one in terms[-2::-1]:
        right = one.times(right)
    assert sorted(rows(left)) == sorted(rows(right))
    for column in range(len(counts)):
        assert groups_of(left, column) == groups_of(right, column)


def test_groups_come_in_the_order_in_which_they_begin():
    whole = term(2, coupled=True).times(term(3))
    assert rows(whole) == [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)]


def test_zipped_terms():
    whole = term(4).beside(term(4, coupled=True))
    assert rows(whole) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert whole.group_size == 4
    assert len(groups_of(whole, 1)) == 1
    twice = term(2).times(whole)
    assert rows(twice) == [(one, row, row) for one in range(2) for row in range(4)]
    assert twice.group_size == 4
    assert_in_blocks(twice)


def test_groups_of_two_sizes_side_by_side_make_larger_ones():
    """Blocks of 2 and of 3 among 12 rows: every six belong together."""
    twos = term(6).times(term(2, coupled=True))
    threes = term(4).times(term(3, coupled=True))
    whole = twos.beside(threes)
    assert whole.group_size == 6
    assert_in_blocks(whole)


def test_only_equally_many_are_zipped():
    with pytest.raises(ValueError, match=r"equally many combinations.* got 2 and 3\. `\+`"):
        term(2).beside(term(3))


def test_a_part_of_a_group_is_refused():
    whole = term(2).times(term(3, coupled=True))
    assert whole.partners_of([3, 4, 5], 1) == [1, 1, 1]
    assert whole.partners_of([5, 0, 1, 3, 2, 4], 1) == [1, 0, 0, 1, 0, 1]
    for some in ([0, 1, 2, 4], [4], [0, 0, 0]):
        with pytest.raises(ValueError, match=r"scored together, but only some .* were given"):
            whole.partners_of(some, 1)
