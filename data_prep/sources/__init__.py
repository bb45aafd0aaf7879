"""Where recordings come from: one file per format or dataset layout."""

from neurofm.schema.registry import Registry

SOURCES = Registry(
    "source",
    {
        "aeon": "data_prep.sources.aeon:Aeon",
        "arrays": "data_prep.sources.arrays:Arrays",
        "bci_iv_2a": "data_prep.sources.bci_iv_2a:BciIv2a",
        "bids": "data_prep.sources.bids:Bids",
        "chbmit": "data_prep.sources.chbmit:ChbMit",
        "deap": "data_prep.sources.deap:Deap",
        "dreamer": "data_prep.sources.dreamer:Dreamer",
        "ecog_grip": "data_prep.sources.ecog_grip:EcogGrip",
        "files": "data_prep.sources.files:Files",
        "hcp7": "data_prep.sources.hcp7:Hcp7",
        "physionet_mi": "data_prep.sources.physionet_mi:PhysionetMi",
        "seed": "data_prep.sources.seed:Seed",
        "siena": "data_prep.sources.siena:Siena",
        "simulated": "data_prep.sources.simulated:Simulated",
        "sleep_edf": "data_prep.sources.sleep_edf:SleepEdf",
        "things_eeg2": "data_prep.sources.things_eeg2:ThingsEeg2",
        "tuh": "data_prep.sources.tuh:Tuh",
        "zuco": "data_prep.sources.zuco:Zuco",
    },
)
