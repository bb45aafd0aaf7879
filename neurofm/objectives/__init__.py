"""What is learned: targets, masks, heads and metrics."""

from neurofm.schema.registry import Registry

OBJECTIVES = Registry(
    "objective",
    {
        "next_state": "neurofm.objectives.next_state:NextState",
        "masked_patch": "neurofm.objectives.masked_patch:MaskedPatch",
        "masked_spectrogram": "neurofm.objectives.masked_spectrogram:MaskedSpectrogram",
        "masked_region": "neurofm.objectives.masked_region:MaskedRegion",
        "supervised": "neurofm.objectives.supervised:Supervised",
    },
)
"""Short name → factory(model, facts, **choices) → module obeying `objectives.base.Objective`."""
