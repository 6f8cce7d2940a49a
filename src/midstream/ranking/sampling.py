"""Which requests are of a sample: decided by the seed of the request alone, so that a rerun decides the same."""

_MASK = (1 << 64) - 1
LOGGED, COUNTED, WATCHED = 1, 2, 3
"""What a sample is for: each draws its own, independent of the others and of what else the seed decides."""


def is_sampled(seed: int, share: float, purpose: int) -> bool:
    """Return whether a request is among a share of all, 0 to 1.

    Reference: G. Steele, D. Lea and C. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014 (SplitMix64).
    """
    value = (seed + purpose * 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return (value ^ (value >> 31)) < share * (_MASK + 1)
