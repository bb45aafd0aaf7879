"""Where recordings come from: one file per format or dataset layout."""

from neurofm.schema.registry import Registry

SOURCES = Registry(
    "source",
    {
        "aeon": "data_prep.sources.aeon:Aeon",
        "algonauts2023": "data_prep.sources.algonauts2023:Algonauts2023",
        "arrays": "data_prep.sources.arrays:Arrays",
        "bci_iv_2a": "data_prep.sources.bci_iv_2a:BciIv2a",
        "bids": "data_prep.sources.bids:Bids",
        "bids_fmri": "data_prep.sources.bids_fmri:BidsFmri",
        "brain_treebank": "data_prep.sources.brain_treebank:BrainTreebank",
        "chbmit": "data_prep.sources.chbmit:ChbMit",
        "deap": "data_prep.sources.deap:Deap",
        "dreamer": "data_prep.sources.dreamer:Dreamer",
        "du_in": "data_prep.sources.du_in:DuIn",
        "ecog_grip": "data_prep.sources.ecog_grip:EcogGrip",
        "files": "data_prep.sources.files:Files",
        "hcp": "data_prep.sources.hcp:Hcp",
        "hcp7": "data_prep.sources.hcp7:Hcp7",
        "mayo_fnusa": "data_prep.sources.mayo_fnusa:MayoFnusa",
        "nifti": "data_prep.sources.nifti:Nifti",
        "nsd": "data_prep.sources.nsd:Nsd",
        "physionet_mi": "data_prep.sources.physionet_mi:PhysionetMi",
        "seed": "data_prep.sources.seed:Seed",
        "siena": "data_prep.sources.siena:Siena",
        "simulated": "data_prep.sources.simulated:Simulated",
        "sleep_edf": "data_prep.sources.sleep_edf:SleepEdf",
        "speech_meeg": "data_prep.sources.speech_meeg:SpeechMeeg",
        "swec": "data_prep.sources.swec:Swec",
        "things_eeg2": "data_prep.sources.things_eeg2:ThingsEeg2",
        "things_meg": "data_prep.sources.things_meg:ThingsMeg",
        "tuh": "data_prep.sources.tuh:Tuh",
        "zuco": "data_prep.sources.zuco:Zuco",
    },
)
