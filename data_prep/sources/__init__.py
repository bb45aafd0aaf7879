"""Where recordings come from: one file per format or dataset layout."""

from neurofm.schema.registry import Registry

SOURCES = Registry(
    "source",
    {
        "aeon": "data_prep.sources.aeon:Aeon",
        "arrays": "data_prep.sources.arrays:Arrays",
        "bids": "data_prep.sources.bids:Bids",
        "celegans": "data_prep.sources.celegans:Celegans",
        "ecog_grip": "data_prep.sources.ecog_grip:EcogGrip",
        "falcon": "data_prep.sources.falcon:Falcon",
        "files": "data_prep.sources.files:Files",
        "hcp7": "data_prep.sources.hcp7:Hcp7",
        "neuroformer": "data_prep.sources.neuroformer:Neuroformer",
        "nlb": "data_prep.sources.nlb:Nlb",
        "nwb": "data_prep.sources.nwb:Nwb",
        "simulated": "data_prep.sources.simulated:Simulated",
    },
)
