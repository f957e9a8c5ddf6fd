"""Names of what regions send each other, and how much of it."""

import numpy as np
from jaxtyping import Float

MESSAGES = "messages"  # (trial, time, edge, message), with coordinates SOURCE and TARGET of the edges
INPUTS = "inputs"  # (trial, time, region, input)
ROUTING = "routing"  # (trial, time, edge), the share that an edge lets through
EFFECTS = "effects"  # (trial, time, edge), how far messages move the neurons of their targets
EFFECTOME = "effectome"  # (source, target)
SOURCE, TARGET = "source_of_edge", "target_of_edge"


def mean_norms(messages: Float[np.ndarray, "trial time edge message"]) -> Float[np.ndarray, "edge"]:
    """Mean norm of each edge's messages around their mean over trials and bins."""
    return np.linalg.norm(messages - messages.mean((0, 1)), axis=-1).mean((0, 1))


def effectome_of(
    messages: Float[np.ndarray, "trial time edge message"], edges: list[tuple[int, int]], n_regions: int
) -> Float[np.ndarray, "source target"]:
    """Matrix of mean norms of messages around their mean; 0 where there is no edge."""
    matrix = np.zeros((n_regions, n_regions))
    for (source, target), norm in zip(edges, mean_norms(messages), strict=True):
        matrix[source, target] = norm
    return matrix
