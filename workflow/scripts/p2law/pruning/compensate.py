"""Weights after a mask: what the kept ones become so that the layer's output changes least.

The removed set P of a row w and H^-1 give (multiple removal problem, APT 2410.15567)
    dw = -w_P ([H^-1]_PP)^-1 [H^-1]_P,:      L = 1/2 w_P ([H^-1]_PP)^-1 w_P^T
which is the least-squares optimum over all kept weights. SparseGPT (2301.00774) takes the columns
in order, one at a time, and changes only later ones. All functions take W ``[out, in]``.
"""

import torch

from p2law.pruning import masks
from p2law.pruning.curvature import Curvature, one_thread
from p2law.pruning.masks import Rule

COLUMNS = 128
STEP = 16
CHUNK_BYTES = 2**22
"""Small enough for caches and for the allocator to reuse: fresh pages cost more than the solve."""
CACHE_BYTES = 2**21
"""Of each of the handful of matrices that conjugate gradients walk over at every step."""


def sparsegpt(
    W: torch.Tensor, curvature: Curvature, kept: torch.Tensor | None, rule: Rule
) -> tuple[torch.Tensor, torch.Tensor]:
    """SparseGPT: new weights and mask; chooses the mask on the way where ``kept`` is None.

    Score w^2 / U_jj^2 on the weights as updated so far: per group for n:m, else per 128 columns.
    Works on W^T, so that a column of W is contiguous; a few columns are eliminated one by one,
    then all later ones are updated by one matrix product.
    """
    U, m = curvature.upper, rule.pattern[1] if rule.pattern else STEP
    V = W.T.clone(memory_format=torch.contiguous_format)
    keep = torch.ones_like(V, dtype=torch.bool) if kept is None else kept.T.contiguous()
    width, block = len(V), max(m, COLUMNS // m * m)
    error, diagonal = torch.zeros_like(V[:block]), U.diagonal()[:, None]
    for start in range(0, width, block):
        stop = min(start + block, width)
        if kept is None and rule.pattern is None:
            keep[start:stop] = _choose(V, U, start, stop, rule)
        for a in range(start, stop, m):
            b = min(a + m, stop)
            if kept is None and rule.pattern is not None:
                score = (V[a:b] / diagonal[a:b]).square_()
                keep[a:b] = masks.keep_of_each(score, rule.pattern[0])
            gone = ~keep[a:b] / diagonal[a:b]
            for j in range(a, b):
                e = torch.mul(V[j], gone[j - a], out=error[j - start])
                V[j:b].addr_(U[j, j:b], e, alpha=-1)
            V[b:stop].addmm_(U[a:b, b:stop].T, error[a - start : b - start], alpha=-1)
        V[stop:].addmm_(U[start:stop, stop:].T, error[: stop - start], alpha=-1)
    mask = keep.T.contiguous()
    return V.T.contiguous() * mask, mask


def _choose(V: torch.Tensor, U: torch.Tensor, start: int, stop: int, rule: Rule) -> torch.Tensor:
    """Mask of columns start..stop, such that the counts over all columns are exact."""
    score = (V[start:stop] / U.diagonal()[start:stop, None]).square().T

    def due(size: int) -> int:
        """What must go from these columns of ``size`` rows ranked together."""
        return round(rule.share * stop * size) - round(rule.share * start * size)

    if rule.scope == "row":
        return masks.keep_all_but(score, due(1)).T
    parts = [
        masks.keep_all_but(part.reshape(1, -1), due(len(part))).reshape(part.shape)
        for part in score.split(rule.rows)
    ]
    return torch.cat(parts).T


def mrp(W: torch.Tensor, curvature: Curvature, kept: torch.Tensor) -> torch.Tensor:
    """The exact optimum over all kept weights of every row: one Cholesky of [H^-1]_PP a row.

    Rows go in batches of like counts, their index sets padded with unit rows; fp64, since the
    sub-matrices of H^-1 are as badly conditioned as H.
    """
    inverse, width = curvature.inverse.double(), W.shape[1]
    counts = (~kept).sum(dim=1)
    multipliers = torch.zeros(W.shape, dtype=torch.float64, device=W.device)
    by_count = torch.argsort(counts, descending=True, stable=True)
    begin = 0
    while begin < len(W) and (most := int(counts[by_count[begin]])) > 0:
        size = max(1, CHUNK_BYTES // (8 * most * most))
        rows = by_count[begin : begin + size]
        begin += size
        # Removed columns first, in order; the tail of shorter rows is padding.
        at = torch.argsort(kept[rows].to(torch.uint8), dim=1, stable=True)[:, :most]
        real = torch.arange(most, device=W.device) < counts[rows, None]
        A = inverse[at[:, :, None], at[:, None, :]]
        if not real.all():
            A *= real[:, :, None] & real[:, None, :]
            A.diagonal(dim1=1, dim2=2).add_(~real)
        w = W[rows].double().gather(1, at) * real
        solved = _solve(A, w) * real
        spread = torch.zeros(len(rows), width, dtype=torch.float64, device=W.device)
        multipliers[rows] = spread.scatter_add_(1, at, solved)
    return (W - (multipliers @ inverse).to(W.dtype)) * kept


def _solve(A: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """x ``[B, k]`` of A x = b for positive definite A ``[B, k, k]``."""
    with one_thread():
        L = torch.linalg.cholesky(A)
        half = torch.linalg.solve_triangular(L, b[..., None], upper=False)
        return torch.linalg.solve_triangular(L.mT, half, upper=True)[..., 0]


def mrp_cg(
    W: torch.Tensor,
    curvature: Curvature,
    kept: torch.Tensor,
    start: torch.Tensor | None = None,
    tolerance: float = 1e-3,
    most: int = 100,
) -> torch.Tensor:
    """The same optimum by conjugate gradients, started from ``start`` (or W on the mask).

    Every row is its own system H_KK v_K = (w H)_K; rows go in batches that stay in a CPU's cache. A
    batch ends when a step lowers its loss by less than ``tolerance`` of it, or after ``most``
    steps. One matrix product a step; the loss never rises.
    """
    V = (W if start is None else start) * kept
    size = len(W) if W.is_cuda else max(1, CACHE_BYTES // (W.shape[1] * W.element_size()))
    for begin in range(0, len(W), size):
        rows = slice(begin, begin + size)
        _descend(V[rows], W[rows], kept[rows], curvature.H, tolerance, most)
    return V


def _descend(
    V: torch.Tensor,
    W: torch.Tensor,
    kept: torch.Tensor,
    H: torch.Tensor,
    tolerance: float,
    most: int,
) -> None:
    """Jacobi-preconditioned conjugate gradients on all rows of V at once, in place."""
    scale, change = H.diagonal(), W - V
    residual = change @ H
    loss = (residual * change).sum() / 2
    residual.mul_(kept)
    z = residual / scale
    direction, rz = z.clone(), (residual * z).sum(dim=1)
    for _ in range(most):
        Hp = (direction @ H).mul_(kept)
        curve = (direction * Hp).sum(dim=1)
        step = torch.where(curve > 0, rz / curve, 0.0)
        V.addcmul_(step[:, None], direction)
        gain = (step * rz).sum() / 2  # what this step takes off the loss, exactly
        loss -= gain
        if gain <= tolerance * loss:
            break
        residual.addcmul_(step[:, None], Hp, value=-1)
        torch.div(residual, scale, out=z)
        before, rz = rz, (residual * z).sum(dim=1)
        direction.mul_(torch.where(before > 0, rz / before, 0.0)[:, None]).add_(z)
