"""Principal components of one layer's hidden states, the same every time.

Shapes: N tokens, D width, C components.
"""

from dataclasses import dataclass

import numpy as np

COMPONENTS = 2


@dataclass(frozen=True)
class Components:
    """The leading components.

    Attributes:
        points_NC: float64, each token along each component; the mean is the origin.
        explained: each component's share of the total variance.
    """

    points_NC: np.ndarray
    explained: tuple[float, ...]


def principal_components(states_ND: np.ndarray, components: int = COMPONENTS) -> Components:
    """PCA by the singular value decomposition of the centred states, in float64.

    A component's sign is free; here its entry of greatest magnitude is positive, so that the same
    states give the same picture.

    Raises:
        ValueError: fewer tokens or dimensions than components, or states that are all equal.
    """
    centred_ND = states_ND.astype(np.float64) - states_ND.mean(axis=0, dtype=np.float64)
    if min(centred_ND.shape) < components:
        tokens, width = centred_ND.shape
        raise ValueError(f"{tokens} tokens of width {width} have no {components} components")
    _, singular, axes = np.linalg.svd(centred_ND, full_matrices=False)
    variance = singular**2
    if not variance.sum() > 0:
        raise ValueError("all hidden states are equal: there is no variance to explain")
    axes_CD = axes[:components]
    largest = np.abs(axes_CD).argmax(axis=1)
    axes_CD = axes_CD * np.sign(axes_CD[np.arange(components), largest])[:, None]
    shares = variance[:components] / variance.sum()
    return Components(centred_ND @ axes_CD.T, tuple(shares.tolist()))
