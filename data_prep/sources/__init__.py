"""Where recordings come from: one file per format or dataset layout."""

from neurofm.schema.registry import Registry

SOURCES = Registry(
    "source",
    {
        "aeon": "data_prep.sources.aeon:Aeon",
        "arrays": "data_prep.sources.arrays:Arrays",
        "bids": "data_prep.sources.bids:Bids",
        "ecog_grip": "data_prep.sources.ecog_grip:EcogGrip",
        "files": "data_prep.sources.files:Files",
        "hcp7": "data_prep.sources.hcp7:Hcp7",
        "simulated": "data_prep.sources.simulated:Simulated",
        "simulated_ieeg": "data_prep.sources.simulated_ieeg:SimulatedIeeg",
    },
)
