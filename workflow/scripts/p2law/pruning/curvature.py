"""The curvature of one layer's reconstruction error, factored once for all who need it.

H = 2/n X^T X + damping; U is the upper factor of its inverse, H^-1 = U^T U (SparseGPT's). From
H = R R^T with R upper (a Cholesky of H with its axes reversed) U = R^-1: no inverse in between.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch

from p2law.errors import UserError
from p2law.pruning.store import finite

log = logging.getLogger(__name__)
MOST_DAMP = 1.0
LEAF = 128


@contextmanager
def one_thread() -> Iterator[None]:
    """LAPACK's factorisations round by the number of threads; matrix products do not."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Curvature:
    """H of one input, damped and factored.

    ``dead`` bool ``[in]`` are the inputs that were never active. ``H`` is ``[in, in]``; ``damp``
    times the mean of the live inputs' H_jj is added to its diagonal (``added``), and the dead ones
    get that mean as H_jj (SparseGPT's code puts 1 there before it takes the mean, which then
    depends on the scale of the inputs). When the factorisation fails ``damp`` grows tenfold, which
    is logged, up to 1; then :class:`UserError` names the layer ``where``.
    """

    def __init__(self, hessian: torch.Tensor, damp: float, where: str) -> None:
        if not finite(hessian):
            raise UserError(f"{where}: its inputs on the calibration windows are too large (X^T X)")
        self.H = hessian.clone()
        diagonal = self.H.diagonal()
        self.dead = diagonal == 0
        mean = 1.0 if self.dead.all() else float(diagonal[~self.dead].mean())
        diagonal[self.dead] = mean
        self.damp, self.added = damp, 0.0
        while True:
            extra = self.damp * mean - self.added
            diagonal += extra
            self.added += extra
            try:
                self.upper = _upper(self.H)
                break
            except torch.linalg.LinAlgError:
                self._raise_damping(where)

    def _raise_damping(self, where: str) -> None:
        if self.damp >= MOST_DAMP:
            raise UserError(
                f"{where}: the Hessian of its inputs is not positive definite even with damping"
                f" {self.damp:g} x its mean diagonal; use more calibration windows"
            )
        self.damp = min(10 * self.damp, MOST_DAMP)
        log.warning("%s: Hessian not positive definite, damping %g", where, self.damp)

    @cached_property
    def inverse(self) -> torch.Tensor:
        """H^-1 ``[in, in]``."""
        return self.upper.T @ self.upper

    @cached_property
    def inverse_diagonal(self) -> torch.Tensor:
        """The diagonal of H^-1 ``[in]``."""
        return self.upper.square().sum(dim=0)

    def loss(self, change: torch.Tensor) -> torch.Tensor:
        """1/2 d H d^T of every row d of ``change [out, in]``: fp64 ``[out]``, damping included."""
        return ((change @ self.H) * change).sum(dim=1, dtype=torch.float64) / 2


def _upper(H: torch.Tensor) -> torch.Tensor:
    """U, upper triangular, of H^-1 = U^T U, by halves, so that matrix products do the work.

    H = R R^T with R = [A B; 0 C] gives C from H's lower half, B = H_12 C^-T and A from
    H_11 - B B^T; U = R^-1 = [A^-1  -A^-1 B C^-1; 0  C^-1]. Raises LinAlgError unless H is positive
    definite.
    """
    n = len(H)
    if n <= LEAF:
        with one_thread():
            R = torch.linalg.cholesky(H.flip(0, 1)).flip(0, 1)
            eye = torch.eye(n, dtype=H.dtype, device=H.device)
            return torch.linalg.solve_triangular(R, eye, upper=True)
    h, U = n // 2, torch.zeros_like(H)
    U[h:, h:] = _upper(H[h:, h:])
    B = H[:h, h:] @ U[h:, h:].T
    U[:h, :h] = _upper(H[:h, :h] - B @ B.T)
    U[:h, h:] = -U[:h, :h] @ (B @ U[h:, h:])
    return U
