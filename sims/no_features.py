"""Is lazy good or bad? A lazy network learns what its kernel does; only a moving cloud finds a direction.

Inputs x are uniform on the sphere of radius √d, the target is y = |<e, x>|, one neuron of an unknown direction e.
A lazy network is linear learning in the RKHS of K̄ (lecture notes, "is this good or bad?"): it fits the training data,
and what it makes of new inputs is what kernel regression with K̄ makes of them. The space is that of no direction in
particular. With n samples it holds polynomials of degree k only where n ≥ d^k (Ghorbani, Mei, Misiakiewicz,
Montanari, 2019), and |<e, x>| is even, so that with n = 10 d samples it learns less and less as d grows, at last
nothing. In mean field particles turn towards ±e (Bach, Chizat, 2020); the error grows with d too when n = 10 d, but is
ten to forty times smaller. The path norm α Σ |c_i| |w_i| of what is learnt stays near that of the target, which
is 2 in any d, since |z| = max(z, 0) + max(-z, 0) (Bach, 2017).

Risks are shares of that of the best constant. How far a cloud is turned is the root mean square cosine of w_i and e
with weights |c_i| |w_i|: 1/√d by chance, where particles start. Under NTK scaling w_i moves by δ_i of the order of
μ = m^-1/2, odd in c_i to first order, so that the mean square cosine rises by the order of μ² = 1/m alone. Outputs
differ from those of the limit by the order of K_0 - K̄, m^-1/2. Both are measured over m at one d and n, the outputs
against the flow of the kernel, K̄ (I - e^{-K̄ t/n}) K̄^-1 y, at the time t = 2n where all runs end: the least
eigenvalue of K̄ is of the order of 1, the slowest rate of 1/n. Test risks of narrow lazy networks scatter about that of
kernel regression, so that the two are held against each other at the largest m.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import particles as pt
from particles.checks import count_of
from particles.cli import run_script
from particles.fits import Exponent, exponent
from particles.plot.style import COLORS, INK, RC, START, faint_grid, slide
from particles.progress import Progress
from particles.study import Study, seeds_of
from particles.theory.limit import KernelLimit
from particles.theory.spaces import KernelRegression, path_norm

REGIMES = {"lazy": pt.NTK, "moving": pt.MEAN_FIELD}
RATIO = 10  # samples a dimension, as d grows
TIME = 2.0  # t_end/n
TARGET_NORM = 2.0
QUANTITIES = ["risk", "test_risk", "theta", "displacement_rms", "displacement_median", "displacement_max"]


@dataclass(frozen=True)
class Size:
    """How large the study is: dimensions at n = 10 d, sample numbers at one d, and widths at one d and n."""

    m: int
    seeds: int
    dimensions: tuple[int, ...]
    samples: tuple[int, ...]
    samples_d: int
    widths: tuple[int, ...]
    widths_seeds: int


QUICK = Size(300, 2, (5, 10, 20), (25, 50, 100, 200), 10, (256, 1024, 4096), 3)
DEFAULT = Size(1000, 3, (5, 10, 20, 30), (50, 100, 200, 400), 20, (512, 2048, 8192), 6)
FULL = Size(2000, 5, (5, 10, 20, 40, 60), (50, 100, 200, 400, 800), 20, (512, 2048, 8192, 32_768), 10)
WIDTHS_D, WIDTHS_N = 10, 60


def add_options(parser: argparse._ArgumentGroup) -> None:
    """The options of this simulation."""
    parser.add_argument("--m", type=int, help="particles (default: 1000; with --quick 300, with --full 2000)")
    parser.add_argument("--seeds", type=int, help="data and clouds a point (default: 3; with --quick 2, with --full 5)")


def run(study: Study, options: argparse.Namespace) -> dict:
    """Train both networks on growing d, n and m, beside kernel regression (--full: a quarter of an hour)."""
    size = QUICK if options.quick else FULL if options.full else DEFAULT
    m = count_of("--m", size.m if options.m is None else options.m, least=2) // 2 * 2
    seeds = seeds_of(options, size.seeds)
    by_d = [(d, RATIO * d) for d in size.dimensions]
    by_n = [(size.samples_d, n) for n in size.samples]
    points = list(dict.fromkeys(by_d + by_n))
    total = len(seeds) * len(points) + size.widths_seeds * len(size.widths)
    with Progress(study.name, total, "problems") as bar:
        rows = {}
        for k, (d, n) in enumerate(points):
            rows[d, n] = [compared(d, n, m, seed, options) for seed in seeds]
            bar.update(len(seeds) * (k + 1))
        scan = against_width(size, options, lambda done: bar.update(len(seeds) * len(points) + done))
    tables = {"d": table(by_d, rows), "n": table(by_n, rows)}
    fits = {name: exponent(size.widths, scan[name]) for name in ("gap", "rise")}
    claim_kernel(study, scan, tables, fits)
    claim_moving(study, tables)
    study.save(drawn(size, tables, scan, fits), "no_features.png")
    last = rows[by_d[-1]][0]["numbers"]
    fitted = {name: asdict(fit) for name, fit in fits.items()}
    return study.finish(size=asdict(size), points=points, tables=tables, scan=scan, fits=fitted, **last)


def problem(d: int, n: int, seed: int, n_test: int = 1000) -> pt.Data:
    """Samples of y = |<e, x>| on the sphere of radius √d; the teacher's row holds e."""
    data = pt.data.teacher_student(n, d, 1, unit="abs", inputs="sphere", n_test=n_test, seed=seed)
    arrays = (d**0.5 * each for each in (data.x, data.y, data.x_test, data.y_test))
    return pt.Data(*arrays, teacher=data.teacher, name="one direction")


def cloud_of(m: int, d: int, seed: int, options: argparse.Namespace) -> pt.Cloud:
    """Particles c ~ N(0, 1), w ~ N(0, I/d), so that <w, x> is of order 1, in pairs, so that φ = 0."""
    return pt.Cloud.gaussian(
        m, d, unit="relu", bias=False, variance_w=1 / d, symmetric=True, seed=seed, dtype=options.dtype
    )


def trained(cloud: pt.Cloud, data: pt.Data, scaling: pt.Scaling, options: argparse.Namespace) -> pt.Run:
    """The network at t = 2n."""
    t_end = TIME * data.n
    recorder = pt.record.Recorder(pt.at_times([t_end]), QUANTITIES)
    return pt.simulate(
        cloud, data, scaling=scaling, t_end=t_end, backend=options.backend, recorders=recorder, progress=False
    )


def alignment(theta: np.ndarray, direction: np.ndarray) -> float:
    """The root mean square cosine of w_i and a direction, with weights |c_i| |w_i|."""
    c, w = theta[:, 0], theta[:, 1:]
    norm = np.linalg.norm(w, axis=1)
    return float(np.sqrt(np.sum(abs(c) / norm * (w @ direction) ** 2) / np.sum(abs(c) * norm)))


def compared(d: int, n: int, m: int, seed: int, options: argparse.Namespace) -> dict:
    """Test risks of the two networks and of kernel regression, and what became of the clouds."""
    data, cloud = problem(d, n, seed), cloud_of(m, d, seed, options)
    direction = data.teacher[0, 1:]
    constant = 0.5 * np.var(data.y_test)
    kernel = KernelRegression(KernelLimit("relu", variance_w=1 / d), data.x, data.y)
    row = {"kernel": 0.5 * np.mean((kernel.predict(data.x_test) - data.y_test) ** 2) / constant, "numbers": {}}
    for name, scaling in REGIMES.items():
        run = trained(cloud, data, scaling, options)
        row["numbers"][name] = run.summary() | {"test_risk_end": float(run.test_risk[-1])}
        row[name] = float(run.test_risk[-1] / constant)
        row[f"{name} training"] = float(run.risk[-1] / constant)
        row[f"{name} cosine"] = alignment(run.theta[-1], direction)
        row[f"{name} path norm"] = path_norm(cloud.replace(run.theta[-1]), scaling)
    return row


def table(points: Sequence[tuple], rows: Mapping[tuple, list]) -> dict[str, np.ndarray]:
    """The measurements at some points as arrays (seeds, points)."""
    keys = [key for key in rows[points[0]][0] if key != "numbers"]
    return {key: np.array([[row[key] for row in rows[point]] for point in points]).T for key in keys}


def against_width(size: Size, options: argparse.Namespace, done: Callable[[int], None]) -> dict[str, np.ndarray]:
    """Of lazy networks of several widths: the gap of their outputs to the kernel's, and the rise of their alignment.

    And their test risks, over that of kernel regression.
    """
    shape = (size.widths_seeds, len(size.widths))
    gap, rise, risk = np.empty(shape), np.empty(shape), np.empty(shape)
    for s, k in np.ndindex(shape):
        data = problem(WIDTHS_D, WIDTHS_N, options.seed * shape[0] + s)
        cloud = cloud_of(size.widths[k], WIDTHS_D, options.seed * shape[0] * shape[1] + s * shape[1] + k, options)
        run = trained(cloud, data, pt.NTK, options)
        ends = [alignment(theta, data.teacher[0, 1:]) ** 2 for theta in (run.theta[0], run.theta[-1])]
        flow = kernel_flow(data, TIME * data.n)
        gap[s, k] = np.linalg.norm(outputs(run, data.x_test) - flow) / np.linalg.norm(flow)
        rise[s, k] = ends[1] - ends[0]
        kernel = KernelRegression(KernelLimit("relu", variance_w=1 / data.d), data.x, data.y)
        risk[s, k] = run.test_risk[-1] / (0.5 * np.mean((kernel.predict(data.x_test) - data.y_test) ** 2))
        done(s * shape[1] + k + 1)
    return {"gap": gap, "rise": rise, "risk": risk}


def outputs(run: pt.Run, x: np.ndarray) -> np.ndarray:
    """φ(x) at the end of a run."""
    field = pt.field.Field(run.cloud0, run.data, run.scaling, backend=run.setup["backend"])
    return field.output(run.theta[-1] - run.cloud0.theta, x.astype(run.cloud0.dtype))


def kernel_flow(data: pt.Data, t: float) -> np.ndarray:
    """K̄(x, X) (I - e^{-K̄ t/n}) K̄^-1 y on the test inputs: gradient flow with the limit of the kernel."""
    limit = KernelLimit("relu", variance_w=1 / data.d)
    values, vectors = np.linalg.eigh(limit(data.x))
    grown = -np.expm1(-values * t / data.n) / values
    return limit(data.x_test, data.x) @ (vectors @ (grown * (vectors.T @ data.y)))


def claim_kernel(study: Study, scan: Mapping, tables: Mapping[str, dict], fits: Mapping[str, Exponent]) -> None:
    """What is claimed of the lazy network: it is kernel regression, and that learns less as d grows."""
    notes, rows = 'lecture notes, "is this good or bad?"', tables["d"]
    odd = "derived: δ is odd in c to first order, and μ² = 1/m"
    study.at_most(
        "optimisation is not the bottleneck: the largest training risk of the lazy networks, over the target's",
        notes,
        bound=0.05,
        measured=max(table["lazy training"].mean(axis=0).max() for table in tables.values()),
    )
    logs = np.log(scan["risk"][:, -1])
    study.agrees(
        "the lazy network of the largest m has the test risk of kernel regression: their ratio, a geometric mean",
        notes,
        expected=1.0,
        measured=np.exp(logs.mean()),
        standard_error=error_of(logs),
        within=0.05,  # at t = 2n the flow of K̄ itself has a test risk some 2 % above that of kernel regression
    )
    for name, what, source, expected, rival in (
        ("gap", "the outputs of a lazy network tend to those of the limit kernel like m^-1/2", notes, -0.5, -0.75),
        ("rise", "no features are learnt: the mean square cosine of a lazy cloud rises like m^-1", odd, -1.0, -0.5),
    ):
        study.agrees(
            what,
            source,
            expected=expected,
            measured=fits[name].value,
            standard_error=fits[name].standard_error,
            within=0.1,  # the next order: networks depart from their linearisation by m^-3/4, with the kinks of ReLU
            rival=rival,
        )
    growth = rows["lazy"][:, -1] / rows["lazy"][:, 0]
    study.at_least(
        "with n = 10 d the lazy network learns less as d grows: its test risk, over that at the least d",
        "Ghorbani, Mei, Misiakiewicz, Montanari (2019)",
        bound=1.5,
        measured=growth.mean(),
        standard_error=error_of(growth),
    )


def claim_moving(study: Study, tables: Mapping[str, dict]) -> None:
    """What is claimed of the moving network beside the lazy one."""
    rows = tables["d"]
    ratio = rows["moving"] / rows["lazy"]
    worst = ratio.mean(axis=0).argmax()
    study.at_most(
        "with n = 10 d the moving network's test risk is below a fifth of the lazy one's, at every d",
        "Bach, Chizat (2020); Ghorbani et al. (2019)",
        bound=0.2,
        measured=ratio[:, worst].mean(),
        standard_error=error_of(ratio[:, worst]),
    )
    ahead = tables["n"]["moving"][:, -1] / tables["n"]["lazy"][:, -1]
    study.at_most(
        "it needs fewer samples: its test risk over the lazy one's at the largest n, with d fixed",
        "Bach, Chizat (2020); Ghorbani et al. (2019)",
        bound=0.1,
        measured=ahead.mean(),
        standard_error=error_of(ahead),
    )
    turned = rows["moving cosine"][:, -1] / rows["lazy cosine"][:, -1]
    study.at_least(
        "only the moving cloud finds the direction: its rms cosine over the lazy one's at the largest d",
        "Bach, Chizat (2020)",
        bound=2.0,
        measured=turned.mean(),
        standard_error=error_of(turned),
    )
    worst = rows["moving path norm"].mean(axis=0).argmax()
    study.at_most(
        "the path norm of the moving network is of the order of the target's, at every d",
        "Bach (2017), section 2",
        bound=2 * TARGET_NORM,
        measured=rows["moving path norm"][:, worst].mean(),
        standard_error=error_of(rows["moving path norm"][:, worst]),
    )


def error_of(values: np.ndarray) -> float | None:
    """The standard error of the mean over seeds."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def drawn(size: Size, tables: Mapping[str, dict], scan: Mapping, fits: Mapping[str, Exponent]) -> Figure:
    """Test risks against d and n, the alignment against d, and lazy networks against their width."""
    with rc_context(RC):
        figure = slide()
        axes = figure.subplots(2, 2)
        risks(axes[0, 0], size.dimensions, tables["d"], r"input dimension $d$,  with $n = 10\,d$ samples")
        axes[0, 0].set_title(r"Target $|\langle e, x\rangle|$: lazy is kernel regression", loc="left")
        risks(axes[0, 1], size.samples, tables["n"], rf"samples $n$,  with $d = {size.samples_d}$")
        axes[0, 1].set_title("The moving network needs fewer samples", loc="left")
        bottom = min(table["moving"].min() for table in tables.values())
        for ax in axes[0]:
            ax.set_ylim(0.6 * bottom, 2)
        axes[0, 1].legend(loc="lower left")
        cosines(axes[1, 0], size.dimensions, tables["d"])
        wide(axes[1, 1], size.widths, scan, fits)
    return figure


def risks(ax: Axes, x: Sequence[int], rows: Mapping[str, np.ndarray], label: str) -> None:
    """Test risks of the three, the mean over seeds and every seed."""
    looks = {"lazy": (COLORS["lazy"], "o-"), "moving": (COLORS["moving"], "o-"), "kernel": (INK, "s--")}
    words = {"kernel": r"kernel regression with $\bar K$"}
    for name, (color, mark) in looks.items():
        ax.plot(x, rows[name].mean(axis=0), mark, color=color, linewidth=2, label=words.get(name, name))
        ax.plot(np.tile(x, len(rows[name])), rows[name].ravel(), ".", color=color, alpha=0.4)
    ax.axhline(1, color=START, linewidth=1.2, zorder=0)
    axis(ax, x, label, "test risk / best constant's")


def cosines(ax: Axes, x: Sequence[int], rows: Mapping[str, np.ndarray]) -> None:
    """How far the clouds are turned towards the direction, against chance."""
    for name in ("moving", "lazy"):
        values = rows[f"{name} cosine"]
        ax.plot(x, values.mean(axis=0), "o-", color=COLORS[name], linewidth=2, label=name)
        ax.plot(np.tile(x, len(values)), values.ravel(), ".", color=COLORS[name], alpha=0.4)
    ax.plot(x, np.array(x) ** -0.5, "--", color=INK, linewidth=1.8, label=r"chance, $1/\sqrt{d}$")
    axis(ax, x, r"input dimension $d$,  with $n = 10\,d$ samples", r"rms cosine of $w_i$ and $e$")
    ax.set_yscale("linear")
    ax.set_ylim(0, 1)
    ax.set_title("Only the moving cloud finds the direction", loc="left")
    ax.legend(loc="lower left", ncols=3, columnspacing=1.2)


def wide(ax: Axes, widths: Sequence[int], scan: Mapping[str, np.ndarray], fits: Mapping[str, Exponent]) -> None:
    """What is left of the lazy networks' difference from the kernel as m grows, beside the expected powers of m."""
    m = np.array(widths, dtype=float)
    for name, words, mark, expected in (
        ("gap", "outputs against the kernel's", "o", -0.5),
        ("rise", "rise of the mean square cosine", "^", -1.0),
    ):
        middle = np.exp(np.log(scan[name]).mean(axis=0))
        label = rf"{words}:  $m^{{\,{fits[name].value:.2f}}}$"
        ax.plot(m, middle, mark, color=COLORS["lazy"], markersize=8, label=label)
        ax.plot(np.tile(m, len(scan[name])), scan[name].ravel(), ".", color=COLORS["lazy"], alpha=0.35, markersize=4)
        centre = np.exp(np.log(middle).mean())
        ax.plot(m, centre * (m / np.exp(np.log(m).mean())) ** expected, "--", color=INK, linewidth=1.4)
    ax.set_ylim(scan["rise"].min() / 8, 1.5 * scan["gap"].max())
    axis(ax, widths, rf"width $m$,  with $d = {WIDTHS_D}$, $n = {WIDTHS_N}$", "gap, rise (lazy network)")
    ax.set_title(r"Lazy: to the kernel as $m^{-1/2}$, turned by $m^{-1}$", loc="left")
    ax.legend(loc="lower left")


def axis(ax: Axes, ticks: Sequence[int], x: str, y: str) -> None:
    """Log axes with their labels, and ticks at the points measured."""
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    faint_grid(ax)


if __name__ == "__main__":
    run_script(__spec__.name)
