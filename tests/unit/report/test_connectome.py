"""The drawing of a directed map: every number in its rows, and the links it calls planted."""

import numpy as np
import pytest

from neurofm.report.figures_connectome import connectome
from neurofm.schema.errors import DataError

NAMES = ["A", "B", "C", "D"]


def test_every_pair_is_a_row_and_the_text_counts_planted_links():
    weights = np.array([[9, 5, 0, 1], [0, 9, 4, 0], [0.5, 0, 9, 0], [0, 0, 3, 9]], dtype=float)
    truth = np.zeros((4, 4), bool)
    truth[0, 1] = truth[3, 2] = truth[0, 2] = True
    drawing = connectome(weights, names=NAMES, truth=truth, name="links-x")
    assert len(drawing.rows) == 12  # no channel onto itself
    by_pair = {r["series"]: r for r in drawing.rows}
    assert by_pair["A → B"]["y"] == 5
    assert by_pair["A → B"]["label"] == "linked"
    assert by_pair["B → C"]["label"] == "not linked"
    # three arrows, as many as planted: A → B, B → C, D → C, of which two are
    assert "3 strongest links" in drawing.alt
    assert "2 of them are planted" in drawing.alt
    assert drawing.png[:4] == b"\x89PNG"


def test_unknown_positions_fall_back_on_a_circle():
    places = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [np.nan] * 3])
    weights = np.ones((4, 4))
    assert connectome(weights, names=NAMES, positions=places).svg == connectome(weights, names=NAMES).svg
    assert connectome(weights, names=NAMES, positions=np.eye(4, 3)).svg != connectome(weights, names=NAMES).svg


@pytest.mark.parametrize("wrong", [np.ones((3, 3)), np.full((4, 4), np.nan), -np.ones((4, 4))])
def test_no_map_is_refused(wrong):
    with pytest.raises(DataError, match="connectome"):
        connectome(wrong, names=NAMES)
