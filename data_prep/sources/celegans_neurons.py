"""The 300 neurons of the hermaphrodite C. elegans in canonical order: one and the same in every animal.

Names after White et al. 1986, in alphabetical order, without CANL and CANR, which Cook et al. 2019 count as end organs.
"""

from __future__ import annotations

import re

# left and right
PAIRS = [
    "ADA",
    "ADE",
    "ADF",
    "ADL",
    "AFD",
    "AIA",
    "AIB",
    "AIM",
    "AIN",
    "AIY",
    "AIZ",
    "ALM",
    "ALN",
    "ASE",
    "ASG",
    "ASH",
    "ASI",
    "ASJ",
    "ASK",
    "AUA",
    "AVA",
    "AVB",
    "AVD",
    "AVE",
    "AVF",
    "AVH",
    "AVJ",
    "AVK",
    "AWA",
    "AWB",
    "AWC",
    "BAG",
    "BDU",
    "FLP",
    "HSN",
    "I1",
    "I2",
    "IL1",
    "IL2",
    "LUA",
    "M2",
    "M3",
    "MC",
    "NSM",
    "OLL",
    "PDE",
    "PHA",
    "PHB",
    "PHC",
    "PLM",
    "PLN",
    "PVC",
    "PVD",
    "PVN",
    "PVP",
    "PVQ",
    "PVW",
    "RIA",
    "RIB",
    "RIC",
    "RIF",
    "RIG",
    "RIM",
    "RIP",
    "RIV",
    "RMD",
    "RME",
    "RMF",
    "RMG",
    "RMH",
    "SDQ",
    "URB",
    "URX",
]
# dorsal and ventral, left and right
FOURS = ["CEP", "IL1", "IL2", "OLQ", "RMD", "SAA", "SIA", "SIB", "SMB", "SMD", "URA", "URY"]
SINGLES = [
    "ALA",
    "AQR",
    "AVG",
    "AVL",
    "AVM",
    "DVA",
    "DVB",
    "DVC",
    "I3",
    "I4",
    "I5",
    "I6",
    "M1",
    "M4",
    "M5",
    "MI",
    "PDA",
    "PDB",
    "PQR",
    "PVM",
    "PVR",
    "PVT",
    "RID",
    "RIH",
    "RIR",
    "RIS",
    "RMED",
    "RMEV",
    "SABD",
    "SABVL",
    "SABVR",
]
# motor neurons of the ventral cord, numbered from 1
SERIES = {"AS": 11, "DA": 9, "DB": 7, "DD": 6, "VA": 12, "VB": 11, "VC": 6, "VD": 13}

NEURONS: tuple[str, ...] = tuple(
    sorted(
        [n + side for n in PAIRS for side in "LR"]
        + [n + place for n in FOURS for place in ("DL", "DR", "VL", "VR")]
        + SINGLES
        + [f"{n}{i}" for n, last in SERIES.items() for i in range(1, last + 1)]
    )
)


def canonical_neuron(name: str) -> str:
    """Return a name as it stands in the canonical order, ``DB02`` as ``DB2``; "" when it is none of the 300."""
    plain = re.sub(r"(?<=[A-Z])0+(?=\d)", "", name.strip().upper())
    return plain if plain in NEURONS else ""
