"""The relative scale κ: 1/α for scaled models, λ^-r for homogeneous ones, 1/√m + 1/(m α) for wide ones.

    κ = ‖φ(θ_0) - f*‖ ‖D²φ(θ_0)‖ / ‖Dφ(θ_0)‖²                    lecture notes, "When does the lazy regime happen?"

(i) Scaled models, φ → sφ. D²φ is multiplied by s and (Dφ)² by s²: κ_s = ‖sφ_0 - f*‖ h/(s j²). With the doubling trick
φ_0 = 0 and κ_s = κ_1/s exactly. Without it κ_s → ‖φ_0‖ h/j²: a large factor alone does not make a network lazy, as it
enlarges the error it starts with as well.

(ii) Homogeneous models, φ(λθ) = λ^r φ(θ). D²φ goes like λ^(r-2) and (Dφ)² like λ^(2r-2): κ = λ^-r κ_1 where φ_0 = 0, so
long as θ takes all parameters: r = 2 for ReLU, 3 for relu². ReLU has no D²φ at its kinks; its κ is that of the Hessian
almost everywhere.

(iii) Width, α = m^-γ. ‖φ_0‖² has the mean m α² ‖g‖² over clouds, ‖Dφ‖² is m α² λ with λ = λ_max(K̄)/n, ‖D²φ‖ at most α h
with h = sup ‖D²g‖ over the law μ_0:

    E κ ≤ √(m α²‖g‖² + ‖f*‖²) h/(m α λ) ≤ C_1/√m + C_2/(m α),      C_1 = ‖g‖ h/λ,  C_2 = ‖f*‖ h/λ.

So κ → 0 where m α → ∞, like m^(γ-1) for γ from 1/2 to 1, but never faster than m^-1/2. The law is bounded here, c = ±1
and |w| = 1: over Gaussian clouds the worst particle, and h with it, would grow like √log m. The signs of c change no
norm of a derivative but scatter φ_0, so that κ is meaned over many draws of them for the same w.

κ is computed in float64: --dtype rounds the start alone. With --full about five minutes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial

import numpy as np
from matplotlib import rc_context

import particles as pt
from particles.cli import run_script
from particles.fits import exponent
from particles.plot.style import BETWEEN, INK, LAZY, LINEARISED, MOVING, RC, faint_grid, slide
from particles.study import Study, seeds_of
from particles.theory.curvature import hessian_norm
from particles.theory.laziness import jacobian_norm, relative_scale

SIGNS = 64  # draws of the signs of c, for one draw of w
GAMMAS = {0.25: LINEARISED, 0.5: LAZY, 0.75: BETWEEN, 1.0: MOVING}
NAMES = {0.25: "1/4", 0.5: "1/2", 0.75: "3/4", 1.0: "1"}
UNSCALED = pt.Scaling(0.0)
# What another exponent might be: m^(γ-1) itself at 1/4, where it is wrong, and elsewhere that of the γ before.
RIVALS = {0.25: -0.75, 0.5: -0.75, 0.75: -0.5, 1.0: -0.25}
SOURCE = "lecture notes, when does the lazy regime happen, "
WIDTHS = {"quick": (5, 10, 8), "default": (6, 13, 10), "full": (6, 17, 20)}  # powers of 2 from, to, and clouds a width


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--seeds", type=int, help="clouds a width (default: 10; with --quick 8, with --full 20)")
    parser.add_argument("--unit", default="tanh", help="the unit σ of (i) and (iii) (default: %(default)s)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Measure κ in the three cases, and draw each beside what is expected."""
    data = problem(options.seed)
    scaled = scaled_models(data, options)
    homogeneous = homogeneous_models(data, options)
    wide = wide_models(data, study, options)
    with rc_context(RC):
        figure = slide()
        left, middle, right = figure.subplots(1, 3)
        draw_scaled(left, scaled)
        draw_homogeneous(middle, homogeneous)
        draw_wide(right, wide)
        figure.suptitle(
            r"The relative scale $\kappa$: small where a network is lazy", x=0.01, ha="left", fontsize=17, weight="bold"
        )
    study.save(figure, f"{study.name}.png")
    claim_scaled(study, scaled)
    claim_homogeneous(study, homogeneous)
    claim_wide(study, wide)
    return study.finish(scaled=scaled, homogeneous=homogeneous, wide=wide)


def problem(seed: int) -> pt.Data:
    """Inputs on the unit circle and targets of a teacher, of mean square 1."""
    data = pt.data.circle(32, unit="relu", seed=seed)
    return pt.data.arrays(data.x, data.y / np.sqrt(np.mean(data.y**2)))


def cloud_of(m: int, unit: str, options: argparse.Namespace, seed: int | None = None, **given) -> pt.Cloud:
    """A cloud of the bounded law: c = ±1, w uniform on the unit circle."""
    seed = options.seed if seed is None else seed
    return pt.Cloud.sphere(m, 2, unit=unit, bias=False, seed=seed, dtype=options.dtype, **given)


def scaled_models(data: pt.Data, options: argparse.Namespace) -> dict:
    """(i): κ against the factor s of α = s/√m, with and without the doubling trick."""
    factors = np.logspace(-1, 3, 9)
    clouds = {kind: cloud_of(200, options.unit, options, symmetric=kind == "doubled") for kind in ("doubled", "plain")}
    kappa = {
        kind: np.array([kappa_of(cloud, data, pt.Scaling(0.5, factor=s), options) for s in factors])
        for kind, cloud in clouds.items()
    }
    plain = clouds["plain"]
    start = pt.NTK.alpha(plain.m) * pt.kernels.load("reference", plain.unit).predict(plain.theta.astype(float), data.x)
    size, slope = np.sqrt(np.mean(start**2)), jacobian_norm(plain, data.x, pt.NTK)
    plateau = size * hessian_norm(plain, data.x, pt.NTK) / slope**2
    # ‖sφ_0 - f*‖/s is within ‖f*‖/s of ‖φ_0‖, and ‖f*‖ = 1.
    return {"factor": factors, **kappa, "plateau": plateau, "within": 1 / (size * factors[-1])}


def homogeneous_models(data: pt.Data, options: argparse.Namespace) -> dict:
    """(ii): κ against the factor λ on all parameters, for models of degree 2 and 3."""
    factors = np.logspace(-1, 1, 7)
    kappa = {}
    for unit in ("relu", "relu_squared"):
        cloud = cloud_of(200, unit, options, symmetric=True)
        kappa[unit] = np.array([kappa_of(cloud.scaled(factor), data, pt.NTK, options) for factor in factors])
    return {"factor": factors, **kappa}


def wide_models(data: pt.Data, study: Study, options: argparse.Namespace) -> dict:
    """(iii): κ (γ, seeds, widths), meaned over signs of c, and the constants C_1 and C_2 of the notes' bound."""
    low, high, seeds = WIDTHS["quick" if options.quick else "full" if options.full else "default"]
    widths = 2 ** np.arange(low, high)
    clouds = seeds_of(options, seeds)
    measure = partial(mean_over_signs, data=data, options=options)
    found = study.sweep("wide", measure, {"m": widths}, clouds, cost="m")["value"]
    kappa = found.transpose().copy()
    c1, c2 = constants(data, options)
    alpha = {gamma: np.array([pt.Scaling(gamma).mobility(int(m)) for m in widths]) for gamma in GAMMAS}
    start = c1 * np.array([pt.NTK.mobility(int(m)) for m in widths])  # C_1/√m
    law = np.array([np.hypot(start, c2 * alpha[gamma]) for gamma in GAMMAS])
    bound = np.array([start + c2 * alpha[gamma] for gamma in GAMMAS])
    return {"widths": widths, "gammas": [*GAMMAS], "kappa": kappa, "c1": c1, "c2": c2, "law": law, "bound": bound}


def mean_over_signs(m: int, seed: int, *, data: pt.Data, options: argparse.Namespace) -> list[float]:
    """κ for each γ, the mean over signs of c: they change φ_0 and no norm of a derivative, which is computed once."""
    cloud = cloud_of(m, options.unit, options, seed)
    signs = np.random.default_rng([seed, cloud.m]).choice([-1.0, 1.0], (SIGNS, cloud.m))
    start = signs @ cloud.unit(cloud.w.astype(float) @ data.x.T)
    curvature = hessian_norm(cloud, data.x, UNSCALED) / jacobian_norm(cloud, data.x, UNSCALED) ** 2
    alphas = [pt.Scaling(gamma).alpha(cloud.m) for gamma in GAMMAS]
    errors = [np.sqrt(np.mean((alpha * start - data.y) ** 2, axis=1)) for alpha in alphas]
    return [float(error.mean() * curvature / alpha) for error, alpha in zip(errors, alphas, strict=True)]


def constants(data: pt.Data, options: argparse.Namespace) -> tuple[float, float]:
    """C_1 and C_2 of the law, from directions w evenly on the circle: the sign of c changes none of the norms."""
    angles = np.linspace(0, 2 * np.pi, 1 << 12, endpoint=False)
    even = pt.Cloud(np.column_stack([np.ones_like(angles), np.cos(angles), np.sin(angles)]), options.unit, bias=False)
    size = np.sqrt(np.mean(even.unit(even.w @ data.x.T) ** 2))
    slope = jacobian_norm(even, data.x, UNSCALED) ** 2 * pt.NTK.kernel_weight(even.m)
    worst = hessian_norm(even, data.x, UNSCALED) / slope
    return float(size * worst), float(np.sqrt(np.mean(data.y**2)) * worst)


def kappa_of(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> float:
    """κ, on the back end of the options."""
    return relative_scale(cloud, data, scaling, backend=options.backend)


def draw_scaled(ax, scaled: dict) -> None:
    """κ against s, with 1/s and the plateau."""
    factor = scaled["factor"]
    ax.plot(factor, scaled["doubled"][0] * factor[0] / factor, color=LAZY, label=r"$\propto 1/s$")
    ax.axhline(scaled["plateau"], color=INK, linestyle="--", linewidth=1.5)
    ax.plot(factor, scaled["doubled"], "o", color=LAZY, markersize=8, label=r"$\varphi_0 = 0$ (doubled)")
    ax.plot(factor, scaled["plain"], "s", color=INK, markersize=7, fillstyle="none", label=r"$\varphi_0 \neq 0$")
    plateau = r"$\|\varphi_0\|\,\|D^2\varphi\|/\|D\varphi\|^2$"
    ax.text(factor[-1], 1.2 * scaled["plateau"], plateau, va="bottom", ha="right")
    finish(ax, r"output factor $s$  ($\alpha = s/\sqrt{m}$)", r"relative scale $\kappa$", "(i) scaled")
    ax.legend(loc="upper right")


def draw_homogeneous(ax, homogeneous: dict) -> None:
    """κ against λ, with λ^-2 and λ^-3."""
    factor = homogeneous["factor"]
    for (unit, r), color, mark in zip(DEGREES.items(), (LAZY, LINEARISED), "os", strict=True):
        middle = homogeneous[unit][len(factor) // 2]
        ax.plot(factor, middle * factor ** -float(r), color=color, label=rf"$\propto \lambda^{{-{r}}}$")
        ax.plot(factor, homogeneous[unit], mark, color=color, markersize=8, label=LABELS[unit])
    finish(ax, r"factor $\lambda$ on all parameters", None, "(ii) homogeneous")
    ax.legend(loc="upper right")


def draw_wide(ax, wide: dict) -> None:
    """κ against m for each γ, with the notes' bound."""
    widths = wide["widths"]
    for k, (gamma, color) in enumerate(GAMMAS.items()):
        for row in wide["kappa"][k]:
            ax.plot(widths, row, ".", color=color, alpha=0.3, markersize=4)
        ax.plot(widths, wide["kappa"][k].mean(axis=0), "o", color=color, markersize=7)
        ax.plot(widths, wide["bound"][k], color=color, linewidth=1.8)
        ax.text(widths[-1] * 1.25, wide["bound"][k][-1], rf"$\gamma = {NAMES[gamma]}$", color=color, va="center")
    ax.set_xlim(widths[0] / 1.3, widths[-1] * 5)
    ax.plot([], [], "o", color=INK, label="mean over clouds")
    ax.plot([], [], color=INK, label=r"$C_1/\sqrt{m} + C_2/(m\,\alpha)$")
    ax.legend(loc="lower left")
    finish(ax, "width $m$ (particles)", None, r"(iii) wide, $\alpha = m^{-\gamma}$")


def finish(ax, xlabel: str, ylabel: str | None, title: str) -> None:
    """Log axes, labels and a grid."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(xlabel)
    if ylabel:
        ax.set_ylabel(ylabel)
    ax.set_title(title, loc="left")
    faint_grid(ax)


DEGREES = {"relu": 2, "relu_squared": 3}
LABELS = {"relu": "ReLU", "relu_squared": "ReLU²"}


def claim_scaled(study: Study, scaled: dict) -> None:
    """(i)."""
    study.agrees(
        "the relative scale of a scaled model goes like 1/s where φ_0 = 0",
        SOURCE + "(i)",
        expected=-1.0,
        measured=exponent(scaled["factor"], scaled["doubled"]).value,
        within=1e-6,  # exact but for rounding and the tolerance of eigenvalues
    )
    study.agrees(
        "where φ_0 is not 0, a large factor leaves κ at ‖φ_0‖ ‖D²φ‖/‖Dφ‖²: ratio of the two",
        SOURCE + "(i), with s to infinity",
        expected=1.0,
        measured=scaled["plain"][-1] / scaled["plateau"],
        within=scaled["within"],  # ‖f*‖/(s‖φ_0‖), the triangle inequality
    )


def claim_homogeneous(study: Study, homogeneous: dict) -> None:
    """(ii)."""
    for unit, r in DEGREES.items():
        almost = "" if pt.units.unit(unit).smooth else " with its a.e. Hessian"
        study.agrees(
            f"the relative scale of a model of degree {r} goes like λ^-{r} ({unit}{almost}, φ_0 = 0)",
            SOURCE + "(ii)",
            expected=-float(r),
            measured=exponent(homogeneous["factor"], homogeneous[unit]).value,
            within=1e-6,  # exact but for rounding and the tolerance of eigenvalues
        )


def claim_wide(study: Study, wide: dict) -> None:
    """(iii)."""
    mean, count = wide["kappa"].mean(axis=1), wide["kappa"].shape[1]
    error = wide["kappa"].std(axis=1, ddof=1) / np.sqrt(count) if count > 1 else np.zeros_like(mean)
    study.at_most(
        "over clouds the mean of κ is at most C_1/√m + C_2/(m α): largest ratio, less three standard errors",
        SOURCE + "(iii)",
        bound=1.0,
        measured=((mean - 3 * error) / wide["bound"]).max(),
    )
    for k, gamma in enumerate(wide["gammas"]):
        measured = exponent(wide["widths"], wide["kappa"][k])
        study.agrees(
            f"for α = m^-{NAMES[gamma]} the exponent of κ in m is that of √(C_1²/m + C_2²/(m α)²)",
            SOURCE + "(iii)",
            expected=exponent(wide["widths"], wide["law"][k]).value,
            measured=measured.value,
            standard_error=measured.standard_error,
            within=0.03,  # λ_max of the kernel and the worst particle at the least of the widths
            rival=RIVALS[gamma],
        )
    wide["fits"] = [asdict(exponent(wide["widths"], rows)) for rows in wide["kappa"]]


if __name__ == "__main__":
    run_script(__spec__.name)
