"""What the tests of this folder walk: a small form of every model, what to vary of it, and every objective.

A new model needs an entry in `SMALL` and one in `VARIANTS`, a new objective one in `OBJECTIVE_CASES`.
"""

import torch

from neurofm.models import MODELS
from neurofm.schema.batch import Events, NeuralBatch, StreamValues
from neurofm.schema.facts import Facts

ELSEWHERE = {"braindecode"}
"""Needs a package that tests do without."""

_TOKENIZER = dict(patch_samples=16, dim=16, n_layers=1, n_decoder_layers=1, n_heads=2, n_codes=8, code_dim=4)
SMALL = {
    "log_covariance": dict(patch_samples=8, band_hz=(60, 256)),
    "brainbert": dict(
        window_samples=32, n_bins=9, hop_samples=8, trim_frames=2, dim=16, n_layers=2, n_heads=4, ffn_dim=24
    ),
    "cbramod": dict(
        patch_samples=8, dim=16, n_layers=2, n_heads=4, ffn_dim=24, n_maps=5, position_kernel=(5, 3), dropout=0.0
    ),
    "du_in": dict(
        patch_samples=8, stride=4, n_shared=8, conv_dim=6, n_layers=2, n_heads=2, head_dim=4, ffn_dim=8, dropout=0.0
    ),
    "du_in_tokenizer": dict(
        patch_samples=8,
        stride=4,
        n_shared=8,
        conv_dim=6,
        n_layers=2,
        n_decoder_layers=1,
        n_heads=2,
        head_dim=4,
        ffn_dim=8,
        dropout=0.0,
        n_codes=5,
        code_dim=4,
    ),
    "parcel_tokenizer": dict(patch_samples=8, dim=16, n_codes=5, code_dim=4, n_levels=2),
    "lipcot": dict(patch_samples=8, order=3, n_codes=5, dim=16, n_layers=2, n_heads=2, ffn_dim=24, dropout=0.0),
    "labram": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
    "labram_tokenizer": _TOKENIZER,
    "mvpformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4, n_kv_heads=2),
    "nice": dict(n_filters=4, kernel=5, pool=11, spatial_dropout=0.0),
    "atm": dict(n_filters=4, kernel=5, pool=11, ffn_dim=8),
    "speech_decoder": dict(n_virtual=5, n_frequencies=3, dim=8, n_layers=3, sensor_dropout=0.1),
    "meg_image": dict(n_virtual=5, n_frequencies=2, hidden=8, dim=6, n_layers=2, sensor_dropout=0.1),
    "mindbridge": dict(n_pooled=9, dim=8, n_blocks=2, bottleneck=4),
    "mindeye": dict(dim=8, n_blocks=2),
    "mtam": dict(dim=8, head_dim=4, ffn_dim=8),
    "loongx": dict(
        eeg_samples=64, eeg_pyramid=[4, 8], eeg_pooled=4, state_dim=6, hidden=8, tokens=4, width=4, dim=8, gate_hidden=8
    ),
    "braincorl": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=16),
    "ndt": dict(dim=16, n_layers=2, n_heads=2, ffn_dim=32),
    "neuroformer": dict(dim=16, n_heads=2, current_s=8 / 512, history_s=8 / 512, step_s=2 / 512),
    "neurorvq_backbone": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
    "neurorvq_tokenizer": {**_TOKENIZER, "n_levels": 2},
    "eegnet": dict(patch_samples=8, kernel=5, separable_kernel=3, dropout=0.0),
    "pooled_cnn": dict(patch_samples=8, dim=16, n_layers=2),
    "population_decoder": dict(dim=16, depth=2, head_dim=8, latent_step_s=1 / 64),
    "stimulus_filters": dict(history_s=4 / 256, own_s=3 / 256, dim=6, hidden=8),
    "token_transformer": dict(patch_samples=8, dim=16, n_layers=2, n_heads=4),
}
"""Choices under which each registered model runs in milliseconds."""

LOONGX_STREAMS = {
    "fnirs": dict(channels=3, samples=20, pyramid=[4], pooled=4),
    "ppg": dict(channels=2, samples=20, pyramid=[4], pooled=4),
    "motion": dict(channels=2, samples=12, pyramid=[4], pooled=4),
}

VARIANTS = {
    "log_covariance": [{}, dict(dim=2, band_hz=(1, 100), shrinkage=0.3, start="random")],
    "brainbert": [{}, dict(spectrogram="superlet", superlet_hz=(20.0, 200.0, 5), pooling="mean", norm_bias=1.0)],
    "cbramod": [{}, dict(scale=0.1, position_kernel=(1, 1))],
    "du_in": [{}, dict(n_channels=9, n_positions=7)],
    "du_in_tokenizer": [{}],
    "parcel_tokenizer": [{}, dict(quantizer="vector", n_layers=0), dict(quantizer="finite", space="coordinates")],
    "lipcot": [{}, dict(order=4, warp=0.0)],
    "labram": [
        {},
        dict(space="coordinates", layer_scale=None, n_positions=9),
        dict(space="none", patch_samples=200, dim=200, n_heads=10),
    ],
    "labram_tokenizer": [{}, dict(phase="sincos", scaling="window")],
    "neurorvq_backbone": [{}, dict(space="coordinates", first_taps=(9, 5), second_taps=(5, 3))],
    "neurorvq_tokenizer": [{}, dict(phase="angle", scaling="none", level_dropout=True, patch_samples=7)],
    "mvpformer": [
        {},
        dict(tokenizer="wavelet"),
        dict(causal=False, mask_token=True),
        dict(channel_embedding=True, scale_by_layer=True),
        dict(content_window=1, backend="sdpa"),
        dict(channel_distance="coordinates", use_time=False),
        dict(use_channel=False),
    ],
    "nice": [{}, dict(spatial="attention"), dict(spatial="graph")],
    "atm": [{}, dict(subject_token=True)],
    "speech_decoder": [{}, dict(n_axes=3, n_frequencies=2, lag_s=0.1), dict(subject_dropout=0.5, glu_every=0)],
    "meg_image": [{}, dict(n_axes=2, subject_layer=False)],
    "mindbridge": [{}, dict(pooling="average")],
    "mindeye": [{}, dict(subject_dropout=0.5)],
    "mtam": [{}, dict(bands_hz=[[4, 8], [8, 30]], n_heads=2)],
    "loongx": [{}, dict(streams=LOONGX_STREAMS), dict(streams={"motion": LOONGX_STREAMS["motion"]})],
    "braincorl": [{}],
    "ndt": [{}, dict(back_bins=3, forward_bins=0)],
    "neuroformer": [
        {},
        dict(stimulus={"stream": "frames", "columns": 12, "size": [4, 3], "kernel": [2, 2, 3]}),
        dict(stimulus={"stream": "frames", "columns": 12}, behaviours={"speed": 1}),
    ],
    "eegnet": [{}, dict(n_temporal=3, n_spatial=1)],
    "pooled_cnn": [{}, dict(kernel=3, n_layers=1)],
    "population_decoder": [{}, dict(delimiters=False, latents_per_step=2)],
    "stimulus_filters": [
        {},
        dict(stimulus={"stream": "frames", "columns": 12, "per_bin": 2}),
        dict(stimulus={"stream": "speed", "mean": 0.5, "scale": 2.0}, own_s=0.0, n_layers=0),
    ],
    "token_transformer": [{}, dict(tokenizer="wavelet"), dict(causal=False, pooling="mean")],
}
"""What is changed of `SMALL`, one dict per case; {} is the model as it is there."""

MODEL_CASES = [(name, {**SMALL[name], **variant}) for name in MODELS.names() for variant in VARIANTS.get(name, [])]

OBJECTIVE_CASES = [
    ("next_state", {}),
    ("next_state", {"sampling": "published", "detach_targets": True}),
    ("next_state", {"kind": "regression"}),
    ("next_state", {"kind": "regression", "target": "samples", "residual": True}),
    ("masked_code", {"n_codes": [5, 7]}),
    ("masked_code", {"n_codes": [5, 7], "span": 2, "mask_ratio": [0.2, 0.6], "symmetric": False}),
    ("masked_code", {"n_codes": [5, 7], "policy": "segments"}),
    ("masked_code", {"n_codes": [5, 7], "policy": "channels", "tokenizer_channels": ["d", "a"]}),
    ("masked_region", {}),
    ("masked_patch", {}),
    ("masked_summary", {}),
    ("masked_summary", {"ratio": 0.8}),
    ("masked_patch", {"hide": "segments", "ratio": 0.3}),
    ("masked_spectrogram", {"time_probability": 0.3}),
    ("masked_region", {"hide_count": [1, 2]}),
    ("masked_region", {"skip": {"name": "ridge"}}),
    ("alignment", {}),
    ("alignment", {"loss": "soft_clip", "regression_weight": 1.0, "own_regression_head": True, "readout": "tokens"}),
    ("alignment", {"stimulus_head": "residual"}),
    ("alignment", {"loss": "siglip", "learn_temperature": True, "head": "mlp"}),
    ("alignment", {"loss": "bi_mix_co", "transport_weight": 1.0, "head": "factorised", "rank": 3}),
    ("alignment", {"transport": "sinkhorn", "transport_weight": 1.0, "normalise": "target", "head": "residual"}),
    ("forecast", {}),
    ("forecast", {"horizon": 6}),
    ("in_context", {"context": [1, 2]}),
    ("behaviour", {"stream": "velocity"}),
    ("behaviour", {"stream": "velocity", "max_outputs": 3, "keep_units": [1, 2, 3], "scale": [2.0, 3.0]}),
    ("behaviour", {"stream": "velocity", "readout": "pool"}),
    ("masked_counts", {}),
    ("masked_counts", {"modes": {"random": 1.0, "co_smooth": 1.0, "forward": 2.0}, "held_out": ["a", "b"]}),
    ("spike_sequence", {}),
    ("spike_sequence", {"contrastive_weight": 0.0, "unit_weight": 1.0}),
    ("supervised", {}),
    ("supervised", {"readout": "mlp", "hidden_dim": 6, "norm": True}),
    ("tokenizer", {}),
    ("supervised", {"readout": "flatten", "label_smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0]}),
]
"""Objectives by name, with choices for six windows of twelve samples; `test_objectives.NETWORKS` says on which model."""


def facts_for(choices: dict) -> Facts:
    """Four patches at 512 Hz; four windows of the transform for models of spectrograms; a second at 256 Hz for models without."""
    names = tuple("abcdef")
    common = dict(max_channels=6, channels=names, subjects=tuple("ABCDEF"), sessions=("d1", "d2"), embedding_shape=(8,))
    if "current_s" in choices:
        return Facts(rate_hz=512.0, window_s=max(8 / 128, choices["current_s"] + choices["history_s"]), **common)
    samples = choices.get("patch_samples") or choices.get("window_samples", 0)
    patch_s = choices.get("patch_s") or samples / 512
    if not patch_s:
        return Facts(rate_hz=256.0, window_s=1.0, **common)
    return Facts(rate_hz=512.0, window_s=4 * patch_s, **common)


def make_batch(facts: Facts, n_valid: tuple[int, ...], *, pad_to: int | None = None, seed: int = 0) -> NeuralBatch:
    C, n = pad_to or max(n_valid), facts.window_samples
    mask = torch.arange(C) < torch.tensor(n_valid)[:, None]
    rows = [torch.randn(6, n, generator=torch.Generator().manual_seed(seed + i)) for i in range(len(n_valid))]
    signal = torch.zeros(len(n_valid), C, n)
    for i, k in enumerate(n_valid):
        signal[i, :k] = rows[i][:k]
    B = len(n_valid)

    def drawn(*shape: int) -> torch.Tensor:
        """Row by row, so that a window's numbers do not depend on how many there are."""
        return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed + i)) for i in range(B)])

    def stream(n_samples: int, n_channels: int) -> StreamValues:
        time_s = (torch.arange(n_samples) + 0.5).expand(B, -1) * (facts.window_s / n_samples)
        return StreamValues(drawn(n_samples, n_channels), time_s, torch.ones(B, n_samples, dtype=torch.bool))

    events = [spikes_of(i, k, facts.window_s, seed) for i, k in enumerate(n_valid)]
    return NeuralBatch(
        signal=signal,
        channel_mask=mask,
        time_mask=torch.ones(B, n, dtype=torch.bool),
        rate_hz=facts.rate_hz,
        positions=torch.arange(3.0 * C).view(C, 3).square().expand(B, -1, -1),
        channel_ids=torch.arange(1, C + 1).expand(B, -1) * mask,
        # each window another person's: where people are each other's context, neighbours must not be
        subject=torch.arange(1, B + 1),
        session=torch.ones(B, dtype=torch.long),
        events=Events(
            torch.cat([u for u, _ in events]), torch.cat([t for _, t in events]),
            torch.tensor([0, *(len(u) for u, _ in events)]).cumsum(0),
        ),
        streams={
            "fnirs": stream(18, 3), "ppg": stream(20, 2), "motion": stream(30, 2),
            "frames": stream(6, 12), "speed": stream(6, 1), "velocity": stream(6, 2),
        },
        stimulus_embedding={"image": drawn(8)},
    )  # fmt: skip


def spikes_of(number: int, n_units: int, window_s: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Spikes of one window, ten per unit; the same whatever it is batched with."""
    g = torch.Generator().manual_seed(1000 + seed + number)
    time_s = (torch.rand(10 * n_units, generator=g) * window_s).sort().values
    return torch.randint(n_units, (10 * n_units,), generator=g), time_s


def build(name: str, choices: dict) -> tuple[torch.nn.Module, Facts]:
    torch.manual_seed(0)
    facts = facts_for(choices)
    return MODELS.build(name, facts, **choices), facts
