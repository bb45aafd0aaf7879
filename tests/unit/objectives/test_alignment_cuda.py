"""The alignment objective on a CUDA device gives what it gives on the CPU."""

import pytest
import torch

from neurofm.models import MODELS
from neurofm.objectives import OBJECTIVES
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.facts import Facts

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

FACTS = Facts(
    rate_hz=128.0, window_s=1.0, max_channels=6, channels=tuple("abcdef"), subjects=("s", "t"), embedding_shape=(8,)
)
SMALL = {
    "nice": dict(n_filters=4, dropout=0.0, spatial="graph", spatial_dropout=0.0),
    "atm": dict(n_filters=4, ffn_dim=8, dropout=0.0, conv_dropout=0.0),
    "speech_decoder": dict(n_virtual=5, n_frequencies=3, dim=8, n_layers=3, sensor_dropout=0.0),
    "meg_image": dict(n_virtual=5, n_frequencies=2, hidden=8, dim=6, n_layers=2, sensor_dropout=0.0),
    "mindbridge": dict(n_pooled=9, dim=8, bottleneck=4, embedder_dropout=0.0, dropout=0.0),
    "mindeye": dict(dim=8, dropout=0.0),
    "mtam": dict(dim=8, head_dim=4, ffn_dim=8, dropout=0.0),
    "loongx": dict(
        eeg_samples=64, eeg_pyramid=[4], eeg_pooled=4, state_dim=6, hidden=8, tokens=4, width=4, dim=8, dropout=0.0
    ),
    "braincorl": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=16),
}


def batch_of(n):
    g = torch.Generator().manual_seed(0)
    return NeuralBatch(
        signal=torch.randn(n, 6, 128, generator=g), channel_mask=torch.ones(n, 6, dtype=torch.bool),
        time_mask=torch.ones(n, 128, dtype=torch.bool), channel_ids=torch.arange(1, 7).expand(n, -1),
        positions=0.1 * torch.randn(1, 6, 3, generator=g).expand(n, -1, -1), rate_hz=128.0,
        subject=torch.arange(n) % 2 + 1, stimulus=torch.arange(1, n + 1),
        stimulus_embedding={"image": torch.randn(n, 8, generator=g)},
    )  # fmt: skip


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize("loss", ["info_nce", "bi_mix_co"])
def test_cuda_is_the_cpu(name, loss):
    choices = {"context": [2, 3]} if name == "braincorl" else {"loss": loss, "transport_weight": 0.1}
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        model = MODELS.build(name, FACTS, **SMALL[name])
        objective = OBJECTIVES.build("in_context" if name == "braincorl" else "alignment", model, FACTS, **choices)
        model.to(device), objective.to(device)
        out = objective(model, batch_of(8).to(device), torch.Generator().manual_seed(0)).total
        out.backward()
        results.append(out.detach().cpu())
    torch.testing.assert_close(results[1], results[0], rtol=2e-3, atol=1e-4)
