"""Speech decoding from M/EEG (Défossez et al., Nature Machine Intelligence 2023, arXiv:2208.12266).

Sensors of any layout → attention by position to virtual sensors → 1 × 1 convolution → the subject's own matrix →
dilated residual convolutions with gates. The last two 1 × 1 convolutions to the speech embedding are the objective's
head on tokens (``readout: tokens, head: mlp``). With 27 subjects and 1,024 features the whole has 9.57 M parameters.

Signals are to be scaled robustly per recording and clamped at ±20 by the data's transforms: in the authors' ablation
nothing matters as much (−34 points of 43 without the clamp).
"""

from __future__ import annotations

from torch import nn

from neurofm.models.base import Backbone, Encoded
from neurofm.models.layout import segment_tokens
from neurofm.models.vector import montage_size
from neurofm.nn.dilated_conv import DilatedConv
from neurofm.nn.montage import to_montage
from neurofm.nn.spatial_attention import SpatialAttention
from neurofm.nn.subject_linear import SubjectLinear, drop_subjects, rows_of, start_from_mean, tables_of
from neurofm.schema.batch import NeuralBatch
from neurofm.schema.errors import ConfigError, nearest
from neurofm.schema.facts import Facts

SENSORS = ("positions", "names")


class SpeechDecoder(Backbone):
    """Spatial attention, subject layer, dilated convolutions; one token per sample.

    Parameters
    ----------
    facts : Facts
        Subjects; names of the channels for `sensors` "names".
    sensors : str
        "positions": attention by position; "names": a fixed montage, each channel known by its name, for electrodes
        whose positions are not known (intracranial, a single cell). `n_virtual` is then their number.
    n_virtual : int
        Virtual sensors.
    n_axes, n_frequencies, sensor_dropout
        Of `SpatialAttention`: 2 = flat map of the head, 3 = positions as they are; radius of the disc blotted out.
    subject_layer : bool
        Whether each subject has a matrix of its own.
    subject_dropout : float
        Probability of training a sample on the average subject's row, which serves unseen subjects.
    dim, n_layers, kernel, period, glu_every
        Of `DilatedConv`.
    lag_s : float
        The brain is read this much later than the stimulus: samples are moved to earlier times, zeros follow.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        sensors: str = "positions",
        n_virtual: int = 270,
        n_axes: int = 2,
        n_frequencies: int | None = None,
        sensor_dropout: float = 0.2,
        subject_layer: bool = True,
        subject_dropout: float = 0.0,
        dim: int = 320,
        n_layers: int = 10,
        kernel: int = 3,
        period: int = 5,
        glu_every: int = 2,
        lag_s: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= subject_dropout < 1:
            raise ConfigError(f"subject_dropout={subject_dropout} must be from 0 to below 1")
        if not 0 <= lag_s < facts.window_s:
            raise ConfigError(f"lag_s={lag_s} must be from 0 to below the window of {facts.window_s:g} s")
        self.dim, self.subject_dropout, self.lag = dim, subject_dropout, round(lag_s * facts.rate_hz)
        if sensors not in SENSORS:
            raise ConfigError(f"speech_decoder: unknown sensors '{sensors}': {nearest(sensors, SENSORS)}")
        self.attention = None
        if sensors == "positions":
            self.attention = SpatialAttention(
                n_virtual=n_virtual, n_axes=n_axes, n_frequencies=n_frequencies, dropout_radius=sensor_dropout
            )
        else:
            n_virtual = montage_size("speech_decoder", facts)
        self.mix = nn.Conv1d(n_virtual, n_virtual, 1)
        self.subject_layer = None
        if subject_layer:
            self.subject_layer = SubjectLinear(n_subjects=len(facts.subjects), n_in=n_virtual, n_out=n_virtual)
        self.conv = DilatedConv(
            n_in=n_virtual, dim=dim, n_layers=n_layers, kernel=kernel, period=period, glu_every=glu_every
        )

    def encode(self, batch: NeuralBatch) -> Encoded:
        """Encode a batch: N = S tokens that belong to no channel."""
        # a sample that is not there must not reach its neighbours
        x = batch.signal * batch.time_mask[:, None]
        if self.lag:
            x = nn.functional.pad(x[..., self.lag :], (0, self.lag))
        if self.attention is None:
            n = self.mix.in_channels
            x = to_montage(x, batch.channel_mask, batch.channel_ids, n, model="speech_decoder")[0]
        else:
            x = self.attention(x, batch.positions, batch.channel_mask)
        x = self.mix(x)
        if self.subject_layer is not None:
            rows = rows_of(batch.subject, len(self.subject_layer.weight), len(x), x.device)
            if self.training:
                rows = drop_subjects(rows, self.subject_dropout)
            x = self.subject_layer(x.transpose(1, 2), rows).transpose(1, 2)
        return segment_tokens(self.conv(x).transpose(1, 2), batch, 1, mask=batch.time_mask)

    def subject_parameters(self) -> list[str]:
        """Return the table of subject matrices."""
        return tables_of(self)

    def start_new_subject(self) -> None:
        """Give whoever is not in the vocabulary the mean of the known subjects' matrices."""
        start_from_mean(self)
