"""Where recordings come from: one file per format or dataset layout."""

from neurofm.schema.registry import Registry

SOURCES = Registry(
    "source",
    {
        "aeon": "data_prep.sources.aeon:Aeon",
        "algonauts2023": "data_prep.sources.algonauts2023:Algonauts2023",
        "arrays": "data_prep.sources.arrays:Arrays",
        "bids": "data_prep.sources.bids:Bids",
        "bids_fmri": "data_prep.sources.bids_fmri:BidsFmri",
        "brain_treebank": "data_prep.sources.brain_treebank:BrainTreebank",
        "du_in": "data_prep.sources.du_in:DuIn",
        "ecog_grip": "data_prep.sources.ecog_grip:EcogGrip",
        "files": "data_prep.sources.files:Files",
        "hcp": "data_prep.sources.hcp:Hcp",
        "hcp7": "data_prep.sources.hcp7:Hcp7",
        "mayo_fnusa": "data_prep.sources.mayo_fnusa:MayoFnusa",
        "nifti": "data_prep.sources.nifti:Nifti",
        "nsd": "data_prep.sources.nsd:Nsd",
        "simulated": "data_prep.sources.simulated:Simulated",
        "speech_meeg": "data_prep.sources.speech_meeg:SpeechMeeg",
        "swec": "data_prep.sources.swec:Swec",
        "things_meg": "data_prep.sources.things_meg:ThingsMeg",
    },
)
