"""What is done to one recording, block by block; each stage is usable alone.

A stage is built from plain keyword arguments and then driven by `start(info)`, `push(block)`, `flush()`:
a whole recording is one push and a flush, a live stream is many pushes. Stages of events (spikes) have `apply(stream)`.
"""

from neurofm.schema.registry import Registry

STAGES = Registry(
    "stage",
    {
        "average": "data_prep.stages.average:Average",
        "bad_channels": "data_prep.stages.bad_channels:BadChannels",
        "copied_channels": "data_prep.stages.copied_channels:CopiedChannels",
        "demean": "data_prep.stages.demean:Demean",
        "detrend": "data_prep.stages.detrend:Detrend",
        "epoch": "data_prep.stages.epoch:Epoch",
        "filter": "data_prep.stages.filter:Filter",
        "iir": "data_prep.stages.iir:Iir",
        "interpolated": "data_prep.stages.interpolated:Interpolated",
        "montage": "data_prep.stages.montage:Montage",
        "notch": "data_prep.stages.notch:Notch",
        "parcels": "data_prep.stages.parcels:Parcels",
        "quality": "data_prep.stages.quality:Quality",
        "regions": "data_prep.stages.regions:Regions",
        "regress_out": "data_prep.stages.regress_out:RegressOut",
        "rereference": "data_prep.stages.rereference:Rereference",
        "resample": "data_prep.stages.resample:Resample",
        "run_filter": "data_prep.stages.run_filter:RunFilter",
        "smooth": "data_prep.stages.smooth:Smooth",
        "unit_rate": "data_prep.stages.unit_rate:UnitRate",
        "unit_repair": "data_prep.stages.unit_repair:UnitRepair",
    },
)
