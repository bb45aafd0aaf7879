"""Classes of distance: against a loop over pairs, and what a user relies on."""

import math

import pytest
import torch

from neurofm.nn.channel_distance import BINS, distance_classes
from neurofm.schema.errors import DataError

NAN = float("nan")


def layout(*sizes, seed=0, pad_to=None):
    """Random electrodes of several people, padding last and NaN."""
    g = torch.Generator().manual_seed(seed)
    C = pad_to or max(sizes)
    mask = torch.arange(C) < torch.tensor(sizes)[:, None]
    places = torch.full((len(sizes), C, 3), NAN)
    for i, k in enumerate(sizes):
        places[i, :k] = torch.randn(k, 3, generator=g) * 0.05
    return places, mask


def loop(places, mask):
    """The definition, one pair at a time, in Python's floats."""
    out = torch.zeros(*mask.shape, mask.shape[1], dtype=torch.long)
    for b in range(len(mask)):
        valid = mask[b].nonzero().flatten().tolist()
        where = {i: places[b, i].tolist() for i in valid}
        largest = max(math.dist(where[i], where[j]) for i in valid for j in valid)
        for i in valid:
            for j in valid:
                out[b, i, j] = round(math.dist(where[i], where[j]) / largest * (len(valid) - 1)) if largest else 0
    return out


def test_against_the_loop():
    places, mask = layout(9, 4, 1, seed=3)
    assert torch.equal(distance_classes(places, mask), loop(places, mask))


def test_equal_spacing_on_a_line_gives_the_published_distance():
    direction = torch.tensor([0.3, -0.2, 0.8])
    places = torch.arange(12.0)[:, None] * 0.0035 * direction + torch.tensor([0.01, 0.02, -0.05])
    order = torch.arange(12)
    classes = distance_classes(places[None], torch.ones(1, 12, dtype=torch.bool))
    assert torch.equal(classes[0], (order[:, None] - order[None]).abs())


def test_goes_with_the_channels_is_symmetric_and_ignores_padding_frame_and_unit():
    places, mask = layout(7, 5, seed=1)
    classes = distance_classes(places, mask)
    assert torch.equal(classes, classes.mT)
    assert (classes.diagonal(dim1=1, dim2=2) == 0).all()
    assert classes[0].max() == 6
    assert classes[1].max() == 4
    shuffled = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    moved = distance_classes(places[:, shuffled], mask[:, shuffled])
    assert torch.equal(moved, classes[:, shuffled][:, :, shuffled])
    wider = distance_classes(*layout(7, 5, seed=1, pad_to=11))
    assert torch.equal(wider[:, :7, :7], classes)
    assert (wider[:, 7:] == 0).all()
    assert torch.equal(distance_classes(places * 1000 + 40, mask), classes)


def test_unknown_positions_are_refused_or_far_when_asked():
    places, mask = layout(5, 3, seed=4)
    places[0, 2, 1] = NAN
    with pytest.raises(DataError, match=r"channel 2 of window 0.*missing_positions=far"):
        distance_classes(places, mask)
    classes = distance_classes(places, mask, missing="far")
    others = torch.tensor([0, 1, 3, 4])
    assert (classes[0, 2, others] == 4).all()
    assert (classes[0, others, 2] == 4).all()
    assert classes[0, 2, 2] == 0
    # the known ones keep their order of distance, now in classes up to 4
    assert classes[0][others][:, others].max() == 4
    assert torch.equal(classes[1], distance_classes(places[1:], mask[1:])[0])


def test_sensors_at_one_place_and_single_channels():
    places, mask = torch.zeros(1, 3, 3), torch.ones(1, 3, dtype=torch.bool)
    assert (distance_classes(places, mask) == 0).all()
    nowhere = torch.full((1, 2, 3), NAN)
    classes = distance_classes(nowhere, torch.tensor([[True, True]]), missing="far")
    assert classes.tolist() == [[[0, 1], [1, 0]]]
    assert distance_classes(nowhere, torch.tensor([[True, False]]), missing="far").tolist() == [[[0, 0], [0, 0]]]


def rank_loop(places, mask):
    """The definition by rank, one pair at a time: no sample of these has ties."""
    out = torch.zeros(*mask.shape, mask.shape[1], dtype=torch.long)
    for b in range(len(mask)):
        valid = mask[b].nonzero().flatten().tolist()
        apart = {(i, j): math.dist(places[b, i], places[b, j]) for i in valid for j in valid if i != j}
        top = max(apart.values())
        closer = {pair: sum(d < own - 1e-4 * top for d in apart.values()) for pair, own in apart.items()}
        for pair, n in closer.items():
            out[b][pair] = 1 + round(n / max(1, *closer.values()) * (len(valid) - 2))
    return out


def test_by_rank_against_the_loop():
    places, mask = layout(9, 5, 3, 2, seed=3)
    assert torch.equal(distance_classes(places, mask, bins="rank"), rank_loop(places.double(), mask))


def test_by_rank_classes_are_equally_full_however_distances_are_distributed():
    # two clusters far apart: uniform classes leave the middle empty
    g = torch.Generator().manual_seed(5)
    places = torch.randn(1, 24, 3, generator=g) * 0.004
    places[:, 12:, 0] += 0.3
    mask = torch.ones(1, 24, dtype=torch.bool)
    pairs = torch.triu_indices(24, 24, 1)
    count = {bins: distance_classes(places, mask, bins=bins)[0][*pairs].bincount(minlength=24) for bins in BINS}
    assert (count["uniform"] == 0).sum() > 15
    assert count["rank"][0] == 0
    inner = count["rank"][2:-1]
    assert inner.max() - inner.min() <= 1


def test_by_rank_goes_with_the_channels_and_ignores_padding_unit_and_ties_in_the_last_digit():
    places, mask = layout(7, 5, seed=1)
    classes = distance_classes(places, mask, bins="rank")
    assert torch.equal(classes, classes.mT)
    assert (classes.amax((1, 2)) == torch.tensor([6, 4])).all()
    shuffled = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    moved = distance_classes(places[:, shuffled], mask[:, shuffled], bins="rank")
    assert torch.equal(moved, classes[:, shuffled][:, :, shuffled])
    assert torch.equal(distance_classes(*layout(7, 5, seed=1, pad_to=11), bins="rank")[:, :7, :7], classes)
    assert torch.equal(distance_classes(places * 1000, mask, bins="rank"), classes)
    line = torch.arange(12.0)[:, None] * 0.0035 * torch.tensor([0.3, -0.2, 0.8])
    by_rank = distance_classes(line[None], torch.ones(1, 12, dtype=torch.bool), bins="rank")[0]
    order = (torch.arange(12)[:, None] - torch.arange(12)[None]).abs()
    assert all(len(by_rank[order == n].unique()) == 1 for n in range(12))


def test_by_rank_unknown_positions_are_far_and_one_place_is_no_distance():
    places, mask = layout(5, 1, seed=2)
    places[0, 1] = NAN
    classes = distance_classes(places, mask, bins="rank", missing="far")
    assert (classes[0, 1] == torch.tensor([4, 0, 4, 4, 4])).all()
    assert (classes[1] == 0).all()
    together = distance_classes(torch.zeros(1, 4, 3), torch.ones(1, 4, dtype=torch.bool), bins="rank")
    assert (together == 0).all()
