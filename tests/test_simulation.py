"""Whole simulations in memory: against closed forms, gradient descent by hand, and what recording must not do."""

import math

import numpy as np
import pytest
from closed_forms import Network

import particles as pt
from particles import simulation
from particles.errors import ArgumentError, DivergenceError, StepError
from particles.losses import Loss
from particles.record import Quantity, Recorder, at_times, every, log_spaced
from particles.scaling import Scaling

SCALINGS = [pt.NTK, pt.MEAN_FIELD, Scaling(0.75), Scaling(0.5, 3.0)]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.name)
EPS = np.finfo(float).eps


def samples(n=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 2))
    return pt.Data(x, np.sin(2 * x[:, 0]) + x[:, 1])


def cloud_of(m, unit="tanh", seed=0, **options):
    return pt.Cloud.gaussian(m, 2, unit=unit, seed=seed, **options)


def simulate(cloud, data, scaling, t_end, trigger=None, quantities=None, **options):
    recorders = None if trigger is None else Recorder(trigger, quantities)
    return pt.simulate(cloud, data, scaling=scaling, t_end=t_end, recorders=recorders, progress=False, **options)


# Gradient descent.


@each_scaling
@pytest.mark.parametrize("m", [1, 2, 1000])
def test_euler_is_gradient_descent(backend, scaling, m):
    """θ ← θ - η ∇R(φ(θ)), ten times, in NumPy."""
    data, cloud = samples(), cloud_of(m, dtype=backend.dtype)
    network = Network("tanh", scaling.alpha(m))
    rate = 0.1 / (m * scaling.alpha(m) ** 2)
    theta = cloud.theta.astype(float)
    for _ in range(10):
        theta = theta - rate * network.risk_gradient(theta, data.x, network.output(theta, data.x) - data.y)
    dt = scaling.time_of_gradient_descent(rate, m)
    run = simulate(cloud, data, scaling, 10 * dt, every(steps=1), ["theta"], flow=pt.Euler(dt), backend=backend.name)
    assert run.step.tolist() == list(range(11))
    # φ is right to some ε α Σ|c|, which moves a particle, in all the time of 1, by μ as much: some ε mean|c|. As much
    # comes from rounding θ and δ themselves.
    error = 100 * backend.eps
    np.testing.assert_allclose(run.theta[-1], theta, rtol=0, atol=error)
    assert abs(theta - cloud.theta).max() > 1e3 * error  # something happened


# The linearised flow.


@pytest.fixture(scope="module")
def linear():
    """A problem with the eigenvalues of its kernel: K = U diag(λ) U'."""
    data, cloud = samples(n=6), cloud_of(60)
    kernel = Network("tanh").kernel(cloud.theta, data.x)
    values, vectors = np.linalg.eigh(kernel)
    return data, cloud, kernel, values / data.n, vectors


def closed_form(linear, scaling, t):
    """φ(t) = y + e^{-Kt/n}(φ_0 - y), (times, n)."""
    data, cloud, _, rates, vectors = linear
    gap = Network("tanh", scaling.alpha(cloud.m)).output(cloud.theta, data.x) - data.y
    return data.y + np.exp(-np.outer(t, rates)) * (vectors.T @ gap) @ vectors.T


@each_scaling
def test_the_linearised_flow_is_the_exponential_of_the_kernel(linear, scaling):
    data, cloud, kernel, _, _ = linear
    tol = 1e-7
    flow = pt.Adaptive(rtol=tol, atol=tol)
    run = simulate(
        cloud, data, scaling, 30.0, log_spaced(4), ["prediction", "displacement_rms"], flow=flow, linearised=True
    )
    assert run.linearised
    # A step adds at most tol·(rms|δ| + μ) to the rms of the particles (the flow contracts what was there before), and
    # φ̄ sees a move of δ as α <∇g, δ> ≤ α √(m K(x, x)) √m rms. The same again between steps, where a cubic is fitted.
    per_rms = scaling.alpha(cloud.m) * cloud.m * np.sqrt(kernel.diagonal().max())
    error = 2 * run.step[-1] * tol * (run.displacement_rms.max() + scaling.mobility(cloud.m)) * per_rms
    np.testing.assert_allclose(run.prediction, closed_form(linear, scaling, run.t), rtol=0, atol=error)
    assert error < 0.02 * abs(data.y).max()


def test_the_linearised_flow_on_new_inputs(linear):
    """φ_0(x) + K_x K^{-1} (I - e^{-Kt/n}) (y - φ_0)."""
    data, cloud, kernel, _, _ = linear
    x_test = np.random.default_rng(5).standard_normal((4, 2))
    data = pt.Data(data.x, data.y, x_test, np.zeros(4))
    seen = Quantity("seen", lambda now: now.field.output(now.delta, now.field.x_test), ("new",), {"new": 4})
    t = 2.0
    run = simulate(cloud, data, pt.NTK, t, at_times([t]), [seen], flow=pt.RungeKutta4(2.0**-6), linearised=True)
    network = Network("tanh", pt.NTK.alpha(cloud.m))
    start, gap = network.output(cloud.theta, data.x), closed_form(linear, pt.NTK, [t])[0]
    cross = network.kernel(cloud.theta, x_test, data.x)
    exact = network.output(cloud.theta, x_test) + cross @ np.linalg.solve(kernel, gap - start)
    # RK4: (λ dt)^4/120 a unit of λt, λ dt ≤ 0.02; K^-1 is of the condition of K, some 10^3.
    np.testing.assert_allclose(run.seen[-1], exact, rtol=0, atol=1e-7)


@each_scaling
def test_linearised_gradient_descent_is_a_power_of_a_matrix(linear, scaling):
    """φ_k = y + (I - dt K/n)^k (φ_0 - y)."""
    data, cloud, kernel, _, _ = linear
    dt, steps = 0.5, 40
    run = simulate(cloud, data, scaling, steps * dt, every(steps=1), ["prediction"], flow=pt.Euler(dt), linearised=True)
    step = np.eye(data.n) - dt / data.n * kernel
    gap = run.prediction[0] - data.y
    for k in range(steps + 1):
        np.testing.assert_allclose(run.prediction[k], data.y + gap, rtol=0, atol=(10 + k) * 100 * EPS)
        gap = step @ gap


@each_scaling
def test_the_risk_decays_between_the_rates_of_the_slowest_and_the_fastest_mode(linear, scaling):
    """e^{-2 λ_max t/n} ≤ risk/risk_0 ≤ e^{-2 λ_min t/n}."""
    data, cloud, _, rates, _ = linear
    run = simulate(cloud, data, scaling, 20.0, log_spaced(10), ["risk"], flow=pt.RungeKutta4(2.0**-5), linearised=True)
    ratio = run.risk / run.risk[0]
    assert (ratio <= np.exp(-2 * rates[0] * run.t) * (1 + 1e-9)).all()
    assert (ratio >= np.exp(-2 * rates[-1] * run.t) * (1 - 1e-9)).all()
    assert rates[0] > 0


# The network itself.


@each_scaling
def test_a_linear_network_of_two_layers(scaling):
    """s(t) = s* e^{2μs*t}/(e^{2μs*t} - 1 + s*/s_0) for φ = s x, c_i = w_i, x = ±1: ds/dt = 2 μ s (s* - s)."""
    m, target = 5, 1.5
    weights = np.linspace(0.2, 0.6, m)
    cloud = pt.Cloud(np.column_stack([weights, weights]), "identity", bias=False)
    start = scaling.alpha(m) * (weights**2).sum()
    data = pt.Data([[1.0], [-1.0]], [target, -target])
    flow = pt.RungeKutta4(2.0**-6 / scaling.mobility(m))
    run = simulate(
        cloud, data, scaling, 2.0 / scaling.mobility(m), log_spaced(5), ["prediction", "theta"], flow=flow,
        backend="reference",
    )  # fmt: skip
    growth = np.exp(2 * scaling.mobility(m) * target * run.t)
    exact = target * growth / (growth - 1 + target / start)
    # RK4 with 2 μ s* dt = 0.05: (0.05)^4/120 a unit of time, two of them, with derivatives of the logistic curve ≤ 24.
    np.testing.assert_allclose(run.prediction, np.outer(exact, [1, -1]), rtol=1e-6)
    np.testing.assert_allclose(run.theta[:, :, 0], run.theta[:, :, 1], rtol=1e-12)  # balanced for ever
    assert exact[-1] > 0.9 * target


COSH = Loss("cosh", lambda f, y: math.cosh(f - y) - 1.0, lambda f, y: math.sinh(f - y))


@pytest.mark.parametrize("loss", ["squared", "huber", "huber(0.3)", "logistic", COSH], ids=str)
@pytest.mark.parametrize("flow", ["adaptive", "euler", "rk4"])
def test_every_loss_decreases_along_every_flow(loss, flow):
    data = samples()
    data = pt.Data(data.x, np.sign(data.y))
    run = simulate(cloud_of(60), data, pt.NTK, 5.0, every(steps=1), ["risk"], flow=flow, loss=loss)
    assert (np.diff(run.risk) < 0).all()
    assert run.risk[-1] < 0.7 * run.risk[0]


def test_the_energy_lost_is_the_way_gone():
    """R_0 - R_T = m α² ∫ Σ_i |dθ_i/dt|² dt, by Simpson's rule on the steps of RK4."""
    data, cloud, scaling = samples(), cloud_of(20), Scaling(0.75, 1.3)
    speed = Quantity("speed", lambda now: float((now.field.velocity(now.delta) ** 2).sum()))
    dt, steps = 2.0**-6, 128
    run = simulate(cloud, data, scaling, dt * steps, every(steps=1), ["risk", speed], flow=pt.RungeKutta4(dt))
    weights = np.r_[1, np.tile([4, 2], steps // 2)[:-1], 1] * dt / 3
    lost = cloud.m * scaling.alpha(cloud.m) ** 2 * weights @ run.speed
    # Simpson's and RK4's errors are dt^4 = 6e-8 times derivatives of order 1 to 10.
    assert lost == pytest.approx(run.risk[0] - run.risk[-1], rel=1e-6)


# Steps that are too long.


def test_a_step_beyond_the_limit_is_refused_before_anything_is_done():
    data, cloud = samples(), cloud_of(60)
    fastest = np.linalg.eigvalsh(Network("tanh").kernel(cloud.theta, data.x) / data.n)[-1]
    with pytest.raises(StepError) as caught:
        simulate(cloud, data, pt.NTK, 100.0, flow=pt.Euler(3 / fastest))
    said = float(caught.value.problem.split("limit ")[1].split()[0])
    assert said == pytest.approx(2 / fastest, rel=0.02)


def test_a_divergence_names_its_time_and_keeps_the_frames_before(monkeypatch):
    data, cloud = samples(), cloud_of(60)
    stores = []

    class Kept(simulation.MemoryStore):
        def __init__(self, *parts, **options):
            super().__init__(*parts, **options)
            stores.append(self)

    monkeypatch.setattr(simulation, "MemoryStore", Kept)
    fastest = np.linalg.eigvalsh(Network("tanh").kernel(cloud.theta, data.x) / data.n)[-1]
    dt = 3 / fastest
    with pytest.raises(DivergenceError, match=r"diverged to .* after t=(\S+) \(step (\d+)\): take a smaller") as caught:
        simulate(
            cloud, data, pt.NTK, 1000 * dt, every(steps=1), ["risk", "theta"], flow=pt.Euler(dt), linearised=True,
            check_stability=False,
        )  # fmt: skip
    t, step = str(caught.value).split("after t=")[1].split("): ")[0].split(" (step ")
    risk, times = stores[0].read("risk"), stores[0].read("t")
    # (1 - 3)^2k = 4^k reaches 10³ times the start, at most, after 5 steps and as many as its small part needs.
    assert 5 <= int(step) < 30
    assert stores[0].read("step").tolist() == list(range(int(step)))  # all before the step that diverged
    assert times[-1] + dt == pytest.approx(float(t), rel=1e-5)
    assert np.isfinite(risk).all()
    assert np.isfinite(stores[0].read("theta")).all()
    assert risk[-1] > 100 * risk.min()


# Recording.

ALL = ["risk", "theta", "displacement", "kernel_drift"]
RECORDERS = {
    "nothing in between": Recorder(at_times([]), ["risk"]),
    "every step": Recorder(every(steps=1), ALL),
    "dense times": Recorder(every(time=0.013), ALL),
    "two series": [Recorder(log_spaced(7), ALL), Recorder(every(steps=3), ["second_moment"], "slow")],
    "the standard ones": None,
}


@pytest.mark.parametrize("flow", [pt.Adaptive(), pt.Euler(0.05), pt.RungeKutta4(0.1)], ids=lambda flow: flow.name)
@pytest.mark.parametrize("linearised", [False, True])
def test_recording_changes_no_bit_of_the_flow(flow, linearised):
    ends = []
    for recorders in RECORDERS.values():
        run = pt.simulate(
            cloud_of(60), samples(), scaling=pt.NTK, t_end=3.0, flow=flow, linearised=linearised,
            recorders=recorders, progress=False,
        )  # fmt: skip
        assert run.t[-1] >= 3.0 - 1e-12
        ends.append((run.step[-1], run.t[-1], run.risk[-1]))
    assert all(end == ends[0] for end in ends)


def test_the_frames_of_one_recorder_are_those_it_has_beside_another():
    alone, beside = (
        pt.simulate(cloud_of(60), samples(), scaling=pt.NTK, t_end=3.0, recorders=recorders, progress=False)
        for recorders in (
            Recorder(log_spaced(7), ALL),
            [Recorder(log_spaced(7), ALL), Recorder(every(time=0.1), ["second_moment"], "slow")],
        )
    )
    for name in ("t", "step", *ALL):
        assert np.array_equal(getattr(alone, name), getattr(beside, name)), name
    assert beside.times("second_moment").tolist() == [0.1 * k for k in range(31)]


def frames(trigger, flow, t_end=1.0):
    run = simulate(cloud_of(60), samples(), pt.NTK, t_end, trigger, ["risk"], flow=flow)
    return run.step.tolist(), run.t.tolist()


FIXED = pt.Euler(0.1)


@pytest.mark.parametrize(
    ("trigger", "t_end", "steps"),
    [
        (every(steps=4), 1.0, [0, 4, 8, 10]),  # and the end
        (every(steps=5), 1.0, [0, 5, 10]),  # the end is a goal: once
        (every(steps=20), 1.0, [0, 10]),
        (every(steps=3), 0.95, [0, 3, 6, 9, 10]),  # the first step at or after the end
        (every(time=0.3), 1.0, [0, 3, 6, 9, 10]),  # 0.1·3 is not 0.3 in floating point
        (every(time=0.25), 1.0, [0, 3, 5, 8, 10]),  # seen at the first step at or after
        (every(time=0.04), 0.5, [0, 1, 2, 3, 4, 5]),  # several goals within one step are one frame
        (at_times([0.1, 0.5, 0.55, 0.58]), 1.0, [0, 1, 5, 6, 10]),
        (at_times([0.5, 7.0]), 1.0, [0, 5, 10]),  # beyond the end: not of this run
        (log_spaced(1, start=0.1), 5.0, [0, 1, 10, 50]),
        (log_spaced(3, start=0.02), 1.0, [0, 1, 2, 5, 10]),  # 0.02, 0.043, 0.093, 0.2, 0.43, 0.93
    ],
    ids=lambda value: None if isinstance(value, list) else str(value),
)
def test_which_frames_a_fixed_flow_records(trigger, t_end, steps):
    assert frames(trigger, FIXED, t_end) == (steps, [k * 0.1 for k in steps])


@pytest.mark.parametrize(
    ("trigger", "times"),
    [
        (every(time=0.3), [0, 0.3, 0.6, 0.3 * 3, 1.0]),
        (every(time=0.25), [0, 0.25, 0.5, 0.75, 1.0]),
        (at_times([0.2, 0.21, 5.0]), [0, 0.2, 0.21, 1.0]),
        (log_spaced(2, start=0.1), [0, 0.1, 0.1 * 10**0.5, 1.0]),
    ],
    ids=str,
)
def test_an_adaptive_flow_records_at_the_times_themselves(trigger, times):
    steps, t = frames(trigger, pt.Adaptive(first_step=0.5))
    assert t == times
    assert steps[0] == 0
    assert steps == sorted(steps)


def test_an_adaptive_flow_records_its_own_steps():
    steps, t = frames(every(steps=2), pt.Adaptive(first_step=0.01))
    last = steps.pop()
    assert steps == list(range(0, last, 2))[: len(steps)]
    assert t[-1] == 1.0
    assert t == sorted(set(t))


def test_series_whose_goals_coincide_are_both_recorded():
    recorders = [Recorder(every(steps=2), ["risk"]), Recorder(every(time=0.2), ["second_moment"], "other")]
    run = pt.simulate(
        cloud_of(60), samples(), scaling=pt.NTK, t_end=1.0, flow=FIXED, recorders=recorders, progress=False
    )
    assert run.step.tolist() == run.steps("second_moment").tolist() == [0, 2, 4, 6, 8, 10]


def test_a_frame_between_two_steps_is_as_good_as_the_steps():
    """Dense output of the adaptive flow against RK4 at the same times."""
    data, cloud, tol = samples(), cloud_of(60), 1e-5
    dense, fine = (
        simulate(cloud, data, pt.MEAN_FIELD, 4.0, every(time=0.125), ["theta", "displacement_rms"], flow=flow)
        for flow in (pt.Adaptive(rtol=tol, atol=tol), pt.RungeKutta4(2.0**-5))
    )
    assert dense.t.tolist() == fine.t.tolist()
    assert len(set(dense.step[1:])) < len(dense.t) - 1  # some frames share a step
    gap = np.sqrt(np.mean(np.sum((dense.theta - fine.theta) ** 2, axis=2), axis=1))
    assert (gap <= np.maximum(dense.step, 1) * tol * (dense.displacement_rms.max() + 1)).all()


def test_a_quantity_of_ones_own_is_recorded_by_name():
    mine = Quantity("mean_c", lambda now: now.theta[:, 0].mean(), description="mean of c")
    run = simulate(cloud_of(60), samples(), pt.NTK, 1.0, every(time=0.5), [mine, "theta"])
    np.testing.assert_allclose(run.mean_c, run.theta[:, :, 0].mean(axis=1), rtol=1e-12)


# Precision.


@pytest.mark.parametrize("linearised", [True, False])
def test_a_very_lazy_particle_moves_in_float32_as_in_float64(linearised):
    """s = 10⁴: each step of a particle is less than the last digit of a θ of order 1."""
    scaling, data, m = Scaling(0.5, 1e4), samples(), 1000
    single, double = (
        pt.simulate(
            cloud_of(m, symmetric=True, dtype=dtype),
            data,
            scaling=scaling,
            t_end=2.0,
            flow=pt.Euler(0.005),
            linearised=linearised,
            recorders=Recorder(every(steps=50), ["displacement"]),
            progress=False,
        )
        for dtype in ("float32", "float64")
    )
    eps = np.finfo(np.float32).eps
    assert double.displacement[1].max() / 50 < eps
    assert (single.displacement[1] > 0).mean() > 0.99
    # The linearised model sees δ itself: all is right to some ε of its sums, of which at most 256 terms are added
    # before float64. The network sees θ_0 + δ rounded to ε/2, each parameter by itself, which moves φ by
    # α √m |∇g| ε/2 = s √K ε/2, some s ε; and that is to be compared with the y that it is to reach.
    error = 256 * eps if linearised else 10 * scaling.factor * eps / np.sqrt(np.mean(data.y**2))
    scale = double.displacement[1:].max(axis=1, keepdims=True)
    np.testing.assert_allclose(single.displacement[1:] / scale, double.displacement[1:] / scale, rtol=0, atol=error)


# What it is asked for.


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, "soon", None])
def test_the_end_is_a_positive_time(bad):
    with pytest.raises(ArgumentError, match="t_end is"):
        simulate(cloud_of(4), samples(), pt.NTK, bad)


def test_a_run_in_memory_knows_its_problem():
    data, cloud = samples(), cloud_of(60)
    run = simulate(cloud, data, pt.NTK, 0.5, flow=pt.Heun(0.1))
    assert (run.m, run.n, run.d, run.p, run.unit) == (60, 12, 2, 4, "tanh")
    assert run.scaling == pt.NTK
    assert run.setup["flow"] == {"name": "heun", "dt": 0.1}
    assert run.path is None
    assert np.array_equal(run.theta[0], cloud.theta)
    assert np.array_equal(run.data.y, data.y)
    np.testing.assert_allclose(run.displacement, np.linalg.norm(run.theta - cloud.theta, axis=2), rtol=0, atol=1e-14)
