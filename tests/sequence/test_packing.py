"""The order of a mixture and first-fit packing, as properties."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipt.sequence.packing import FirstFit, MixtureOrder, Pack, exact_counts

SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=4)


@st.composite
def mixtures(draw: st.DrawFn) -> MixtureOrder:
    sizes = draw(SIZES)
    weights = draw(st.lists(st.floats(0.5, 2.0), min_size=len(sizes), max_size=len(sizes)))
    rows = draw(st.none() | st.integers(4 * len(sizes), 80))
    names = [f"part-{number}" for number in range(len(sizes))]
    return MixtureOrder(
        draw(st.integers(0, 9)), names, sizes, weights, max(4 * len(sizes), sum(sizes)) if rows is None else rows
    )


@given(mixtures())
def test_every_epoch_has_exact_rows_and_no_row_comes_again_before_its_turn(order: MixtureOrder) -> None:
    taken = [Counter[int]() for _ in order.names]
    for epoch in range(3):
        places = [order[position] for position in range(epoch * order.epoch_rows, (epoch + 1) * order.epoch_rows)]
        assert Counter(place.part for place in places) == dict(enumerate(order.counts))
        for place in places:
            taken[place.part][place.row] += 1
        for counts, size in zip(taken, order.sizes, strict=True):
            uses = [counts[row] for row in range(size)]
            assert max(uses) - min(uses) <= 1


def test_a_turn_is_one_way_through_all_rows() -> None:
    order = MixtureOrder(1, ["a", "b"], [7, 5], [1.0, 1.0])
    seen = Counter((place.part, place.row, place.turn) for place in map(order.__getitem__, range(35 * 12)))
    assert set(seen.values()) == {1}


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 10_000))
def test_counts_add_up_and_are_within_one_of_their_share(weights: list[float], total: int) -> None:
    shares = [weight / sum(weights) * total for weight in weights]
    if min(shares) < 1:
        return
    counts = exact_counts(weights, total)
    assert sum(counts) == total
    assert all(abs(count - share) < 1 for count, share in zip(counts, shares, strict=True))


def test_one_to_one_is_exactly_half_each_in_every_epoch() -> None:
    assert exact_counts([1, 1], 2 * 17079) == (17079, 17079)
    assert exact_counts([1, 2], 10) == (3, 7)


def test_the_shuffle_depends_on_seed_and_epoch_only() -> None:
    def rows(seed: int, *, start: int) -> list[int]:
        order = MixtureOrder(seed, ["a"], [50], [1.0])
        return [order[start + offset].row for offset in range(50)]

    assert rows(1, start=0) == rows(1, start=0)
    assert rows(1, start=0) != rows(1, start=50) and rows(1, start=0) != rows(2, start=0)


def test_bad_mixtures_are_refused() -> None:
    with pytest.raises(ValueError, match="positive numbers"):
        exact_counts([1.0, 0.0], 10)
    with pytest.raises(ValueError, match="leaves a part without rows"):
        exact_counts([1.0, 1e-6], 10)
    with pytest.raises(ValueError, match="different names"):
        MixtureOrder(0, ["a", "a"], [1, 1], [1, 1])
    with pytest.raises(ValueError, match="without samples: b"):
        MixtureOrder(0, ["a", "b"], [1, 0], [1, 1])


LENGTHS = st.lists(st.integers(1, 100), max_size=60)


def packed(lengths: list[int], budget: int = 100, open_packs: int = 3, max_items: int | None = None) -> list[Pack[int]]:
    packer: FirstFit[int] = FirstFit(budget, open_packs, max_items)
    closed = [packer.add(number, length) for number, length in enumerate(lengths)]
    packs = [pack for pack in closed if pack is not None]
    while (pack := packer.close_oldest()) is not None:
        packs.append(pack)
    return packs


@given(LENGTHS, st.integers(1, 4))
def test_every_item_is_packed_once_within_the_budget(lengths: list[int], open_packs: int) -> None:
    packs = packed(lengths, open_packs=open_packs)
    assert sorted(item for pack in packs for item in pack.items) == list(range(len(lengths)))
    for pack in packs:
        assert pack.tokens == sum(lengths[item] for item in pack.items) <= 100
        assert pack.items == sorted(pack.items)


@given(LENGTHS, st.integers(1, 4), st.integers(1, 5))
def test_packs_hold_no_more_items_than_allowed_and_small_items_fill_them(
    lengths: list[int], open_packs: int, most: int
) -> None:
    packs = packed(lengths, open_packs=open_packs, max_items=most)
    assert sorted(item for pack in packs for item in pack.items) == list(range(len(lengths)))
    assert all(len(pack.items) <= most for pack in packs)
    small = packed([1] * len(lengths), open_packs=open_packs, max_items=most)
    assert [len(pack.items) for pack in small] == [most] * (len(lengths) // most) + [len(lengths) % most][
        : len(lengths) % most > 0
    ]
    assert packed(lengths, open_packs=open_packs, max_items=100) == packed(lengths, open_packs=open_packs)


@given(LENGTHS, st.integers(1, 4))
def test_a_pack_is_closed_only_when_something_fitted_nowhere(lengths: list[int], open_packs: int) -> None:
    packer: FirstFit[int] = FirstFit(100, open_packs)
    for number, length in enumerate(lengths):
        before = [pack.tokens for pack in packer.open]
        closed = packer.add(number, length)
        assert len(packer.open) <= open_packs
        if closed is not None:
            assert len(before) == open_packs and all(tokens + length > 100 for tokens in before)
            assert closed.tokens == max(before)


def published_packs(
    lengths: list[int], expected: int, most: int, prefer: int = 16384, kept: int = 50
) -> list[list[int]]:
    """The loop of BAGEL's ``PackedDataset.__iter__`` without mandatory groups, over a stream that ends."""
    packs, pack, buffer, stream = [], [], [], iter(range(len(lengths)))
    while True:
        tokens = sum(lengths[item] for item in pack)
        buffered = tokens < prefer and bool(buffer)
        item = buffer.pop(0) if buffered else next(stream, None)
        if item is None:
            return [*packs, pack] if pack else packs
        if tokens + lengths[item] > most:
            if len(buffer) < kept and not buffered:
                buffer.append(item)
            else:
                packs, pack = [*packs, pack], []
            continue
        pack.append(item)
        if tokens + lengths[item] >= expected:
            packs, pack = [*packs, pack], []


@pytest.mark.parametrize("length", [5_600, 7_300, 9_700, 10_800, 15_200, 16_900, 19_300])
def test_with_the_published_target_packs_hold_what_the_release_packs(length: int) -> None:
    """At the lengths of the tasks' samples: two of 15,200 tokens are a pack, which a limit of 24,576 alone makes one."""
    lengths = [length] * 120
    published = {len(pack) for pack in published_packs(lengths, 24_576, 32_768)[:-1]}
    packer: FirstFit[int] = FirstFit(32_768, 4, target=24_576)
    ours = {len(pack.items) for number, each in enumerate(lengths) if (pack := packer.add(number, each))}
    expected = {5_600: 5, 7_300: 4, 9_700: 3, 10_800: 3, 15_200: 2, 16_900: 1, 19_300: 1}
    assert ours == published == {expected[length]}


@given(LENGTHS, st.integers(1, 4), st.integers(1, 100))
def test_a_pack_that_reaches_the_target_is_closed_at_once(lengths: list[int], open_packs: int, target: int) -> None:
    packer, closed = FirstFit[int](100, open_packs, target=target), []
    for number, length in enumerate(lengths):
        closed.append(packer.add(number, length))
        assert len(packer.open) <= open_packs and all(pack.tokens < target for pack in packer.open)
    packs = [*(pack for pack in closed if pack), *packer.open]
    assert sorted(item for pack in packs for item in pack.items) == list(range(len(lengths)))
    assert all(pack.tokens == sum(lengths[item] for item in pack.items) <= 100 for pack in packs)


@given(LENGTHS, st.data())
def test_the_open_packs_are_the_whole_state(lengths: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(lengths)))
    packer, resumed = FirstFit[int](100, 3), FirstFit[int](100, 3)
    for number, length in enumerate(lengths[:cut]):
        packer.add(number, length)
    resumed.open = [Pack(list(pack.items), pack.tokens) for pack in packer.open]
    for number, length in enumerate(lengths[cut:]):
        assert packer.add(number, length) == resumed.add(number, length)
    assert packer.open == resumed.open


def test_what_cannot_be_packed_is_refused() -> None:
    for tokens in (0, 101):
        with pytest.raises(ValueError, match=f"a sample of {tokens} tokens does not fit into packs of 100"):
            FirstFit[int](100, 2).add(0, tokens)
    with pytest.raises(ValueError, match="positive budget"):
        FirstFit[int](0, 2)
