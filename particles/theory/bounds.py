"""The theorems of Chizat, Oyallon and Bach on lazy training, with every constant computed.

h = Σ_i g(·; θ_i) is the unscaled model, φ = α h, R(f) = ½‖f - y‖², all in L²(ν). Their flow is that of F_α(w) =
R(αh(w))/α²: w' = -Dh(w)'(αh(w) - y)/α, on a clock that runs m times slower, t = m t_COB. Times here, in and out, are
the project's. Lipschitz constants are upper bounds on a ball that the theorem shows the flow not to leave: each bound
holds as it stands where its `conditions` do. Smooth units only: a kink makes Dh jump.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from particles.checks import number_of
from particles.cloud import Cloud
from particles.data import Data
from particles.errors import ArgumentError
from particles.field import MATRIX, Field
from particles.scaling import Scaling
from particles.theory import kernel
from particles.theory.laziness import jacobian_norm, size
from particles.theory.lipschitz import UNSCALED, Lipschitz, lipschitz, require_smooth

GROWTH = 1.02  # of the radius, from one trial to the next
TRIALS = 40


@dataclass(frozen=True)
class Theorem:
    """What a theorem says of one network.

    Arguments:
        alpha: α(m).
        conditions: what the theorem asks for, by name, and whether it is so.
    """

    alpha: float
    conditions: Mapping[str, bool]

    @property
    def valid(self) -> bool:
        """Whether all conditions hold, so that the bound does."""
        return all(self.conditions.values())


@dataclass(frozen=True)
class DisplacementBound(Theorem):
    """Theorem 2.2: sup_{s ≤ t} |θ(s) - θ_0| ≤ bound = √(T R(φ_0))/α, T = t/m.

    Arguments:
        time: t.
        risk: R(φ_0).
        bound: on the norm in R^{mp} of the displacement of the whole cloud.
        centred: whether φ_0 = 0. Then R(φ_0) does not depend on α, and the bound is O(1/α).
    """

    time: float
    risk: float
    bound: float
    centred: bool


@dataclass(frozen=True)
class GapBound(Theorem):
    """Theorem 2.3: ‖φ(t) - φ̄(t)‖ / ‖φ_0 - y‖ ≤ bound = (K²/α)(Lip(Dh)/Lip(h)²) ‖φ_0 - y‖.

    Arguments:
        time: t.
        normalised_time: K = Lip(h)² t/m.
        error: ‖φ_0 - y‖.
        lipschitz: Lip(h) and Lip(Dh), and the radius of the ball on which they hold.
        reach: K‖φ_0 - y‖/(α Lip(h)), how far the flow can have come; at most the radius where the bound is valid.
        bound: on the gap between the network and its linearisation, as a share of ‖φ_0 - y‖.
    """

    time: float
    normalised_time: float
    error: float
    lipschitz: Lipschitz
    reach: float
    bound: float


@dataclass(frozen=True)
class ConvergenceBound(Theorem):
    """Theorem 2.4: ‖φ(t) - y‖ ≤ ‖φ_0 - y‖ e^{-rate t} for all t.

    Arguments:
        sigma_min: the least singular value of Dh(θ_0)'.
        jacobian: ‖Dh(θ_0)‖.
        lipschitz: Lip(Dh) on the ball of radius σ_min/(2 Lip(Dh)), in which σ_min can at most halve.
        limit: C_0 = σ_min³/(32 ‖Dh(θ_0)‖ Lip(Dh)).
        start: ‖h(θ_0)‖, to be at most C_0.
        least_alpha: ‖y‖/C_0, to be exceeded by α.
        error: ‖φ_0 - y‖.
        rate: σ_min²/4 on the project's clock, λ_min(K_0)/(4n).
    """

    sigma_min: float
    jacobian: float
    lipschitz: Lipschitz
    limit: float
    start: float
    least_alpha: float
    error: float
    rate: float

    def bound(self, t: float | np.ndarray) -> float | np.ndarray:
        """The bound on ‖φ(t) - y‖ at times t."""
        return self.error * np.exp(-self.rate * np.asarray(t))


def theorem_2_2(cloud: Cloud, data: Data, scaling: Scaling, t: float) -> DisplacementBound:
    """How far the cloud can have come at time t, for the squared loss.

        sup_{s ≤ t} |θ(s) - θ_0| ≤ √(T R(φ_0))/α,      T = t/m,

    as ∫|w'|² = F_α(0) - F_α(T) ≤ R(φ_0)/α². It holds without a condition; φ_0 = 0 makes it O(1/α).

    Arguments:
        cloud: the cloud θ_0.
        data: the samples (x, y).
        scaling: α(m).
        t: the time, positive.

    Raises:
        ArgumentError: a unit with kinks, a time that is not positive.

    Source: Chizat, Oyallon, Bach (2019), theorem 2.2.
    """
    t, (alpha, f, _) = number_of("the time", t), _start(cloud, data, scaling)
    risk = 0.5 * size(f - data.y) ** 2
    bound = math.sqrt(scaling.cob_time(t, cloud.m) * risk) / alpha
    return DisplacementBound(alpha, {}, t, risk, bound, centred=not f.any())


def theorem_2_3(cloud: Cloud, data: Data, scaling: Scaling, t: float, radius: float | None = None) -> GapBound:
    """How far the network can be from its linearisation at time t, for the squared loss.

        ‖φ(t) - φ̄(t)‖/‖φ_0 - y‖ ≤ (K²/α)(Lip(Dh)/Lip(h)²) ‖φ_0 - y‖,      K = Lip(h)² t/m,

    as long as α ≥ K‖φ_0 - y‖/(r Lip(h)). With Lip(h) and Lip(Dh) at θ_0 itself this is the notes' t²κ.

    Arguments:
        cloud: the cloud θ_0.
        data: the samples (x, y).
        scaling: α(m).
        t: the time, positive.
        radius: r of the ball on which the Lipschitz constants hold; None: about the smallest that will do, or, where
            none is found, 0: the bound is then t²κ, and not valid.

    Raises:
        ArgumentError: a unit with kinks, a time or a radius that is not positive.

    Source: Chizat, Oyallon, Bach (2019), theorem 2.3; lecture notes, t²κ.
    """
    t, (alpha, f, x) = number_of("the time", t), _start(cloud, data, scaling)
    error, duration = size(f - data.y), scaling.cob_time(t, cloud.m)
    step = duration * error / alpha
    constants = lipschitz(cloud, x, 0.0 if radius is None else number_of("the radius", radius))
    if radius is None:
        constants = _ball_for(cloud, x, step, constants)
    reach = step * constants.h
    horizon = constants.h**2 * duration
    bound = horizon**2 / alpha * constants.dh / constants.h**2 * error
    conditions = {"α ≥ K‖φ_0 - y‖/(r Lip(h))": reach <= constants.radius}
    return GapBound(alpha, conditions, t, horizon, error, constants, reach, bound)


def theorem_2_4(cloud: Cloud, data: Data, scaling: Scaling) -> ConvergenceBound:
    """Whether the network converges to the targets for ever, at an exponential rate, for the squared loss.

        ‖φ(t) - y‖ ≤ ‖φ_0 - y‖ e^{-σ_min² t/(4m)}   if   ‖h(θ_0)‖ ≤ C_0 = σ_min³/(32 ‖Dh(θ_0)‖ Lip(Dh)),  α > ‖y‖/C_0

    (M = μ = 1 for this loss). The proof uses Lip(Dh) no further out than r = σ_min/(2 Lip(Dh)), where σ_min has at most
    halved: the flow does not go beyond (3/4)r.

    Arguments:
        cloud: the cloud θ_0.
        data: the samples (x, y).
        scaling: α(m).

    Raises:
        ArgumentError: a unit with kinks, a cloud whose tangent kernel is 0.

    Source: Chizat, Oyallon, Bach (2019), theorem 2.4.
    """
    alpha, f, x = _start(cloud, data, scaling)
    make = kernel.tangent_kernel if len(x) <= MATRIX else kernel.operator
    slowest = max(kernel.least(make(cloud, x)), 0.0) / data.n
    sigma = math.sqrt(slowest / scaling.kernel_weight(cloud.m))
    jacobian = jacobian_norm(cloud, x, UNSCALED)
    if not jacobian > 0:
        raise ArgumentError("Dh is 0 at the start", "draw a cloud that has a gradient on these inputs")
    constants = _halving_ball(cloud, x, sigma)
    limit = sigma**3 / (32 * jacobian * constants.dh) if constants.dh > 0 else (math.inf if sigma > 0 else 0.0)
    start, target = size(f) / alpha, size(data.y)
    conditions = {
        "σ_min > 0": sigma > 0,
        "‖h(θ_0)‖ ≤ C_0": start <= limit,
        "α > ‖y‖/C_0": alpha * limit > target,
    }
    least = target / limit if limit > 0 else math.inf
    return ConvergenceBound(
        alpha, conditions, sigma, jacobian, constants, limit, start, least, size(f - data.y), slowest / 4
    )


def _start(cloud: Cloud, data: Data, scaling: Scaling) -> tuple[float, np.ndarray, np.ndarray]:
    """α, φ_0 (n,) and the inputs of a network with a smooth unit, in float64."""
    field = Field(cloud.astype("float64") if isinstance(cloud, Cloud) else cloud, data, scaling)
    require_smooth(cloud)
    return field.alpha, field.output(np.zeros_like(field.theta0)), field.x


def _ball_for(cloud: Cloud, x: np.ndarray, step: float, centre: Lipschitz) -> Lipschitz:
    """The constants on a ball of radius r ≥ step·Lip(h), or those at its centre where no such ball is found.

    Lip(h) is ‖Dh(θ_0)‖ + r Lip(Dh) with Lip(Dh) growing with r: there is none once step·Lip(Dh) ≥ 1.
    """
    constants = centre
    for _ in range(TRIALS):
        if step * constants.dh >= 1:
            break
        constants = lipschitz(cloud, x, GROWTH * step * constants.h)
        if step * constants.h <= constants.radius:
            return constants
    return centre


def _halving_ball(cloud: Cloud, x: np.ndarray, sigma: float) -> Lipschitz:
    """The constants on a ball with 0.45 σ < r Lip(Dh) ≤ σ/2; Lip(Dh) grows with r, so r is found by bisection."""
    constants = lipschitz(cloud, x, 0.0)
    if not sigma > 0 or not constants.dh > 0:
        return constants
    inside, outside = 0.0, sigma / (2 * constants.dh)
    for _ in range(60):
        radius = outside if inside == 0 and constants.radius == 0 else 0.5 * (inside + outside)
        constants = lipschitz(cloud, x, radius)
        product = radius * constants.dh
        if 0.45 * sigma < product <= 0.5 * sigma:
            break
        inside, outside = (radius, outside) if product <= 0.5 * sigma else (inside, radius)
    return constants
