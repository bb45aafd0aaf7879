"""Who is simulated: where the contacts of the depth electrodes lie, which sources they see, and what leads to what.

Shape legend: C channel, K node (a source of activity; node 0 is the onset zone).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# half axes of an ellipsoid about the size of a brain, metres (left–right, back–front, down–up)
HEAD_M = np.array([0.065, 0.085, 0.060])
CONTACT_STEP_M = (0.0035, 0.005)
CONTACTS = (5, 12)
# conduction along a link
SPEED_M_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Person:
    """A simulated person.

    Attributes
    ----------
    names : tuple of str
        Contacts as in the clinic: shaft letter and number from the tip, "A01".
    positions : array, shape (C, 3), metres
        Of the contacts.
    nodes : array, shape (K, 3), metres
        Of the sources.
    gains : array, shape (K, C)
        What a contact sees of a source: 1 / (1 + (distance / reach)²).
    parent : array, shape (K,), int
        Directed links as a tree: the node that leads to this one, −1 for node 0.
    weight, lag_s, spread_s : array, shape (K,)
        Of the link from the parent: strength between seizures, conduction time, and how long a seizure takes to
        recruit the node after its parent.
    recruitment : float
        Probability that a seizure passes a link.
    first_hz, last_hz : float
        Typical discharge frequency at a seizure's start and end.
    amplitude : float
        Of seizures at their source, relative to the background's standard deviation.
    duration_s : float
        Typical length of a seizure.
    fast : bool
        Whether seizures begin with low fast activity instead of discharges.
    spikes_hz : float
        Interictal spikes per second.
    exponent : float
        Of the background's power spectrum, 1/f^exponent.
    gain : array, shape (C,)
        Of each contact.
    """

    names: tuple[str, ...]
    positions: np.ndarray
    nodes: np.ndarray
    gains: np.ndarray
    parent: np.ndarray
    weight: np.ndarray
    lag_s: np.ndarray
    spread_s: np.ndarray
    recruitment: float
    first_hz: float
    last_hz: float
    amplitude: float
    duration_s: float
    fast: bool
    spikes_hz: float
    exponent: float
    gain: np.ndarray

    def paths(self) -> tuple[np.ndarray, np.ndarray]:
        """Weight and lag in seconds of the path from node i to node j, both (K, K); weight 0 where there is none."""
        n = len(self.parent)
        weight, lag = np.eye(n), np.zeros((n, n))
        for j in range(1, n):
            up = int(self.parent[j])
            reached = weight[:, up] > 0
            weight[reached, j] = weight[reached, up] * self.weight[j]
            lag[reached, j] = lag[reached, up] + self.lag_s[j]
        return weight, lag


def shafts(rng: np.random.Generator, n_channels: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and positions (C, 3) in metres of the contacts of straight electrodes that enter from the surface."""
    names: list[str] = []
    positions: list[np.ndarray] = []
    shaft = 0
    while len(names) < n_channels:
        n = min(int(rng.integers(CONTACTS[0], CONTACTS[1] + 1)), n_channels - len(names))
        outward = rng.standard_normal(3)
        entry = HEAD_M * outward / np.linalg.norm(outward)
        target = HEAD_M * rng.uniform(-0.45, 0.45, 3)
        along = (entry - target) / np.linalg.norm(entry - target)
        step = rng.uniform(*CONTACT_STEP_M)
        letter = chr(ord("A") + shaft % 26) + ("" if shaft < 26 else chr(ord("a") + shaft // 26 - 1))
        names += [f"{letter}{i + 1:02d}" for i in range(n)]
        positions += [target + along * step * i for i in range(n)]
        shaft += 1
    return tuple(names), np.array(positions)


def make_person(choices: Mapping[str, Any], subject: int) -> Person:
    """Draw a person; everything follows from the seed and the number."""
    rng = np.random.default_rng([choices["seed"], 10, subject])
    n_channels = int(rng.integers(choices["channels"][0], choices["channels"][1] + 1))
    names, positions = shafts(rng, n_channels)
    n = choices["n_nodes"]
    # electrodes are put where seizures are suspected: the onset zone and every other node lie near a contact
    nodes = HEAD_M * rng.uniform(-0.6, 0.6, (n, 3))
    for k in range(0, n, 2):
        nodes[k] = positions[rng.integers(n_channels)] + rng.normal(0, 0.003, 3)
    distance = np.linalg.norm(nodes[:, None] - positions[None], axis=-1)
    parent = np.array([-1, *(int(rng.integers(k)) for k in range(1, n))])
    lag_s = np.array([0.0, *(np.linalg.norm(nodes[k] - nodes[parent[k]]) / SPEED_M_S for k in range(1, n))])
    first_hz = float(rng.uniform(*choices["frequency_hz"]))
    return Person(
        names=names,
        positions=positions,
        nodes=nodes,
        gains=1 / (1 + (distance / choices["reach_m"]) ** 2),
        parent=parent,
        weight=np.array([0.0, *rng.uniform(0.4, 0.9, n - 1)]),
        lag_s=lag_s,
        spread_s=np.array([0.0, *rng.uniform(choices["spread_s"][0], choices["spread_s"][1], n - 1)]),
        recruitment=float(rng.uniform(*choices["recruitment"])),
        first_hz=first_hz,
        last_hz=first_hz * float(rng.uniform(0.45, 0.8)),
        amplitude=float(rng.uniform(*choices["amplitude"])),
        duration_s=float(rng.uniform(*choices["seizure_s"])),
        fast=bool(rng.random() < choices["fast_fraction"]),
        spikes_hz=float(rng.uniform(*choices["spikes_hz"])),
        exponent=float(rng.uniform(*choices["exponent"])),
        gain=np.exp(0.25 * rng.standard_normal(n_channels)),
    )
