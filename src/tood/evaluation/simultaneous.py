"""Quantiles of Student's t, for one difference and for several that share a baseline.

k differences to a common baseline are all within their intervals with the wanted confidence if the quantile is that of
the largest of k correlated t values (Dunnett 1955). Their correlation is 1/2, as it is where all rows have as many runs
and vary alike.
"""

from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln, ndtr, ndtri, stdtrit

_NEARLY_NORMAL = 1e6
"""Degrees of freedom from which on t is the normal distribution to seven digits."""
_Z_NODES, _Z_WEIGHTS = np.polynomial.legendre.leggauss(80)
_S_NODES, _S_WEIGHTS = np.polynomial.legendre.leggauss(160)
_REACH = 9.0
"""How many standard deviations of a normal variable are integrated over; the rest is below 1e-18."""


def t_quantile(confidence: float, freedom: float) -> float:
    """The q with P(|t| <= q) = ``confidence`` for Student's t of ``freedom`` degrees."""
    tail = 0.5 * (1.0 + confidence)
    return float(ndtri(tail) if freedom > _NEARLY_NORMAL else stdtrit(freedom, tail))


@lru_cache(maxsize=1024)
def simultaneous_quantile(confidence: float, comparisons: int, freedom: float) -> float:
    """The q that all of ``comparisons`` t values with a common baseline stay within, with ``confidence``."""
    single = t_quantile(confidence, freedom)
    if comparisons == 1:
        return single
    bonferroni = t_quantile(1.0 - (1.0 - confidence) / comparisons, freedom)
    found: float = brentq(lambda q: _all_within(q, comparisons, freedom) - confidence, single, bonferroni, xtol=1e-10)
    return found


def _all_within(quantile: float, comparisons: int, freedom: float) -> float:
    """P(max |T_i| <= quantile), T_i = (Z_i - Z_0) / sqrt(2) / s with one estimated standard deviation s for all."""
    z = _REACH * _Z_NODES
    density = _REACH * _Z_WEIGHTS * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
    if freedom > _NEARLY_NORMAL:
        spread, share = np.ones(1), np.ones(1)
    else:
        spread, share = _estimated_spread(freedom)
    bound = np.sqrt(2.0) * quantile * spread[:, None]
    inside = (ndtr(z + bound) - ndtr(z - bound)) ** comparisons
    return float(share @ (inside @ density))


def _estimated_spread(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and probabilities of s = sqrt(chi2 / freedom), an estimated standard deviation whose true value is 1.

    In u = log s, whose density is smooth for any ``freedom``: exp(freedom * (u - exp(2u) / 2)) up to a constant.
    """
    width = 1.0 / np.sqrt(2.0 * freedom)
    low, high = -max(12.0 * width, 45.0 / freedom), min(12.0 * width, np.log1p(12.0 * width))
    u = low + 0.5 * (high - low) * (_S_NODES + 1.0)
    log_constant = np.log(2.0) + 0.5 * freedom * np.log(0.5 * freedom) - gammaln(0.5 * freedom)
    density = np.exp(log_constant + freedom * (u - 0.5 * np.exp(2.0 * u)))
    return np.exp(u), 0.5 * (high - low) * _S_WEIGHTS * density
