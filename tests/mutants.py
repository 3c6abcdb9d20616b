"""Tests of the tests: edits of the sources, each of which a named test must notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
PARTS = ("particles", "sims", "tests", "pyproject.toml")


class Mutant(NamedTuple):
    """An edit: in a file below `particles` a text, which occurs there once, is replaced; a test below `tests` fails."""

    name: str
    file: str
    old: str
    new: str
    test: str

    @property
    def source(self) -> str:
        return (ROOT / "particles" / self.file).read_text()


MUTANTS = [
    # What is computed.
    Mutant(
        "swap the scalings",
        "scaling.py",
        "MEAN_FIELD = Scaling(gamma=1.0)\nNTK = Scaling(gamma=0.5)",
        "MEAN_FIELD = Scaling(gamma=0.5)\nNTK = Scaling(gamma=1.0)",
        "test_scaling.py::test_the_two_regimes",
    ),
    Mutant(
        "drop the clock's m",
        "scaling.py",
        'count_of("m", m) * _any("the time", t_cob)',
        '_any("the time", t_cob)',
        "test_scaling.py::test_clocks_there_and_back",
    ),
    Mutant(
        "forget the output factor in μ",
        "scaling.py",
        "self.gamma - 1) / self.factor",
        "self.gamma - 1)",
        "test_scaling.py::test_definitions",
    ),
    Mutant(
        "μ² for μ",
        "field.py",
        "(-self.mobility / self.data.n) * residual",
        "(-self.mobility**2 / self.data.n) * residual",
        "test_field.py::test_the_velocity_is_minus_the_gradient_of_the_risk",
    ),
    Mutant(
        "forget the factor 1/n",
        "flows/compiled.py",
        "weight=float(-field.mobility / len(x))",
        "weight=float(-field.mobility)",
        "flows/test_many.py::test_compiled_together_or_not_the_bits_are_the_same",
    ),
    Mutant(
        "take gradients of the linearised model where the cloud is",
        "field.py",
        "    def _point(self, displacement: Array) -> Array:\n        return self.theta0",
        "    def _point(self, displacement: Array) -> Array:\n        return self.theta(displacement)",
        "test_field.py::test_the_linearised_velocity_keeps_the_gradients_of_the_start",
    ),
    Mutant(
        "skip the bias's gradient",
        "kernels/cpu.py",
        "                        f[d + 1, lane] += a\n",
        "",
        "kernels/test_sums.py::test_drift[cpu-float64-1-7-tanh]",
    ),
    Mutant(
        "transpose push: u and θ exchanged",
        "kernels/reference.py",
        "f[half] += u_c @ self.unit(z) + c @ (self.unit.derivative(z) * u_z)",
        "f[half] += c @ self.unit(z) + u_c @ (self.unit.derivative(z) * u_z)",
        "kernels/test_sums.py::test_drift_and_push_are_adjoint",
    ),
    Mutant(
        "reassociate a sum",
        "kernels/cpu.py",
        "term(c1, theta, u1, u, i1, x, j)\n                            total += term(c2",
        "term(c1, theta, u1, u, i1, x, j) + term(c2",
        "kernels/test_cpu.py::test_the_terms_of_a_block_are_added_first_to_last[float64]",
    ),
    Mutant(
        "add the blocks in another order",
        "kernels/groups.py",
        "return block * FLUSH, min((block + 1) * FLUSH, first)",
        "return (blocks - 1 - block) * FLUSH, min((blocks - block) * FLUSH, first)",
        "test_ranks.py::test_kernels_have_the_bits_of_one_process",
    ),
    Mutant(
        "add groups one after another, not by the tree",
        "kernels/tiles.py",
        "        width *= 2",
        "        width += 1",
        "test_ranks.py::test_the_tree_is_that_of_its_definition",
    ),
    Mutant(
        "sum over ranks in the order of ranks",
        "distributed/sums.py",
        "    return finished(held, np.empty(n), share, among)",
        "    return sum(among.every(sums.sum(axis=0)))",
        "test_ranks.py::test_the_sum_over_ranks_has_the_bits_of_one",
    ),
    Mutant(
        "compute float32 kernels with float64 constants",
        "kernels/compile.py",
        "            return real(value)\n",
        "            return value\n",
        "kernels/test_compile.py::test_every_unit_compiles_to_its_own_precision_and_no_higher",
    ),
    Mutant(
        "drop the random streams' names",
        "random.py",
        "/{text_of('the stream', stream)}/",
        "//",
        "test_random.py::test_streams_of_different_keys_are_uncorrelated",
    ),
    Mutant(
        "draw every block of a cloud alike",
        "random.py",
        "yield draw(generator(seed, stream, block=block), BLOCK)",
        "yield draw(generator(seed, stream), BLOCK)",
        "test_random.py::test_each_block_can_be_drawn_alone",
    ),
    Mutant(
        "give symmetric twins one sign",
        "laws.py",
        "            theta[middle:, 0] *= -1\n",
        "",
        "test_cloud.py::test_symmetric_clouds_are_pairs_of_opposite_outputs",
    ),
    Mutant(
        "weigh the dense output wrongly",
        "flows/adaptive.py",
        "h * s * (1 - s) ** 2",
        "h * s * (1 - s)",
        "flows/test_flows.py::test_between_steps_a_cubic_is_seen_exactly",
    ),
    Mutant(
        "sum time instead of counting steps",
        "flows/fixed.py",
        "return state.step * self.dt",
        "return sum([self.dt] * state.step)",
        "flows/test_flows.py::test_time_is_steps_times_dt_and_not_a_sum",
    ),
    Mutant(
        "see the stability limit of Euler twice as far",
        "flows/tableau.py",
        "EULER = Tableau(a=((),), b=(1.0,), order=1, stability=2.0)",
        "EULER = Tableau(a=((),), b=(1.0,), order=1, stability=4.0)",
        "flows/test_flows.py::test_the_stability_limit_is_where_a_step_stops_shrinking",
    ),
    Mutant(
        "choose the next step as if the error were of order 2",
        "flows/control.py",
        "return max(0.2, min(4.0, 0.9 * ratio ** (-1 / 3))) if ratio > 0 else 4.0",
        "return max(0.2, min(4.0, 0.9 * ratio ** (-1 / 2))) if ratio > 0 else 4.0",
        "flows/test_flows.py::test_the_next_step_is_the_one_the_order_of_the_error_predicts",
    ),
    Mutant(
        "take the test risk on the training data",
        "field.py",
        "self._risk_and_residual(f, self.y_test)[0]",
        "self._risk_and_residual(f, self.y[: len(f)])[0]",
        "test_field.py::test_the_test_risk_is_that_of_the_test_samples",
    ),
    Mutant(
        "halve the logistic loss's slope",
        "losses.py",
        "return -y * (1.0 / (1.0 + e)",
        "return -0.5 * y * (1.0 / (1.0 + e)",
        "test_losses.py::test_the_slope_is_the_derivative",
    ),
    Mutant(
        "sort the samples on the axis to the wrong end of the circle",
        "kernels/planar.py",
        "slope[points[:, 1] == 0] = -np.inf",
        "slope[points[:, 1] == 0] = np.inf",
        "kernels/test_planar.py::test_samples_on_kinks_duplicates_and_zeros_are_handled",
    ),
    Mutant(
        "hand a task to two threads",
        "kernels/threads.py",
        "executor.submit(_part, kernel, cuts[k], cuts[k + 1], [arrays])",
        "executor.submit(_part, kernel, cuts[k] - 1, cuts[k + 1], [arrays])",
        "kernels/test_cpu.py::test_work_is_shared_among_the_threads_in_runs_of_tasks",
    ),
    Mutant(
        "give a rank's own largest displacement for that of all",
        "record/quantities.py",
        "return problem.world.max(float(own.max()) if len(own) else 0.0)",
        "return float(own.max()) if len(own) else 0.0",
        "test_ranks.py::test_a_run_has_the_bits_of_one_process",
    ),
    Mutant(
        "write what comes from other ranks in the wrong order",
        "record/pieces.py",
        "np.concatenate([part, *tail], axis)",
        "np.concatenate([part, *tail[::-1]], axis)",
        "record/test_shared.py::test_the_files_are_those_of_one_process",
    ),
    Mutant(
        "let a sweep ignore the seeds",
        "sweeps.py",
        "return {key: dict(zip(self.axes, key, strict=True)) for key",
        "return {key: dict(zip(self.axes, (*key[:-1], 0), strict=True)) for key",
        "test_sweeps.py::test_a_number_is_a_value_and_keeps_its_type",
    ),
    Mutant(
        "forget the finished cells of a sweep",
        "sweeps.py",
        "for key in keys if key not in self.done}",
        "for key in keys}",
        "test_sweeps.py::test_what_is_kept_is_not_computed_again_and_axes_may_grow",
    ),
    # What is recorded.
    Mutant(
        "fire a period in steps one step late",
        "record/triggers.py",
        "return Goal(step=k * self.steps)",
        "return Goal(step=k * self.steps + 1)",
        "record/test_triggers.py::test_every_so_many_steps",
    ),
    Mutant(
        "read one frame too many",
        "record/store.py",
        "return self._frames(name, min(wanted), max(wanted) + 1)[:: wanted.step]",
        "return self._frames(name, min(wanted), max(wanted) + 2)[:: wanted.step]",
        "record/test_store.py::test_frames_can_be_read_in_part",
    ),
    Mutant(
        "commit before the data",
        "record/disk.py",
        "            self._write()\n            self._replace_head(head.with_frames(self._written))",
        "            ahead = {series: n + len(self._buffer[series]) for series, n in self._written.items()}\n"
        "            self._replace_head(head.with_frames(ahead))\n            self._write()",
        "record/test_disk.py::test_the_record_is_the_last_file_of_a_commit",
    ),
    Mutant(
        "write the checkpoint over the valid one",
        "record/disk.py",
        '1 - head.checkpoint["slot"]',
        'head.checkpoint["slot"]',
        "record/test_disk.py::test_the_valid_checkpoint_is_never_touched",
    ),
    Mutant(
        "do not check a checkpoint's CRC",
        "record/checkpoint.py",
        "        if crc != expected:",
        "        if crc < 0:",
        "record/test_disk.py::test_a_damaged_checkpoint_is_found",
    ),
    Mutant(
        "do not check the record's checksum",
        "record/head.py",
        'if attributes.pop("checksum", None) != _checksum(document):',
        'if attributes.pop("checksum", None) is None:',
        "record/test_damage.py::test_a_flipped_bit_is_found",
    ),
    Mutant(
        "write chunks without a checksum",
        "record/layout.py",
        "compressors=[Crc32cCodec()]",
        "compressors=None",
        "record/test_disk.py::test_every_chunk_ends_in_its_checksum_and_none_is_huge",
    ),
    Mutant(
        "drop the barrier: rename files that are not synced",
        "record/files.py",
        "        durable.write(aside, self._waiting[key])\n        durable.sync(aside)\n",
        "        durable.write(aside, self._waiting[key])\n",
        "record/test_crash.py::test_a_power_cut_leaves_a_whole_promised_state",
    ),
    Mutant(
        "drop the lock",
        "record/files.py",
        "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "record/test_disk.py::test_a_second_writer_is_refused",
    ),
    Mutant(
        "leave what lies beyond the record",
        "record/disk.py",
        "                durable.remove(file)\n",
        "                pass\n",
        "record/test_disk.py::test_a_resume_sweeps_what_lies_beyond_the_record",
    ),
    Mutant(
        "resume without a rewind",
        "simulation.py",
        "        store.rewind(fired)\n",
        "",
        "test_matrix.py::test_to_t_and_on_is_to_2t[adaptive-NTK-relu-squared-float64-planar-times-network]",
    ),
    Mutant(
        "resume with the first goals",
        "simulation.py",
        "            s.next_goal = goals[s.name]\n",
        "            pass\n",
        "test_matrix.py::test_to_t_and_on_is_to_2t[euler-mean field-relu-logistic-float32-cpu-times-network]",
    ),
    Mutant(
        "forget the adaptive step that comes next",
        "flows/adaptive.py",
        "return AdaptiveState(**{name: parts[name] for name in AdaptiveState.__dataclass_fields__})",
        "state = AdaptiveState(**{name: parts[name] for name in AdaptiveState.__dataclass_fields__})\n"
        "        state.h = 0.01\n        return state",
        "test_golden.py::test_a_golden_run_is_resumed[adaptive]",
    ),
    Mutant(
        "let another problem go on with a run",
        "record/setup.py",
        "if setup.get(key) != mine.get(key):",
        "if key in mine and key not in digests and setup.get(key) != mine.get(key):",
        "test_restart.py::test_a_resume_keeps_its_back_end_and_its_test_set",
    ),
    Mutant(
        "record what diverged",
        "simulation.py",
        "        self.field.check_risk(moment.risk)\n",
        "",
        "test_restart.py::test_a_divergence_keeps_the_frames_before_it",
    ),
]


def table(results) -> str:
    """Lines of a name, a test, what came of it and its seconds."""
    return "\n".join(f"{m.name:58} {m.test:100} {verdict:8} {seconds:5.1f} s" for m, verdict, seconds in results)


def planted(folder: Path, mutant: Mutant | None = None) -> Path:
    """A copy of the tree, with one edit."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    if mutant is not None:
        (folder / "particles" / mutant.file).write_text(mutant.source.replace(mutant.old, mutant.new))
    return folder


def verdict(tree: Path, *tests: str) -> tuple[str, float]:
    """What comes of some tests in a tree, and in how many seconds: green, red by an assertion, or why neither."""
    began = time.perf_counter()
    words = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--junitxml=report.xml"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    subprocess.run(
        [sys.executable, *words, *(f"tests/{test}" for test in tests)], cwd=tree, env=environment, capture_output=True
    )
    report = ElementTree.parse(tree / "report.xml").getroot().find("testsuite")
    failures = [failure.get("message") for failure in report.iter("failure")]
    if report.find(".//error") is not None or not int(report.get("tests")):
        found = "broken: " + next((error.get("message") for error in report.iter("error")), "no test was run")
    elif not failures:
        found = "green"
    else:
        asserted = failures[0].startswith(("AssertionError", "assert ", "Failed: "))
        found = "red" if asserted else f"broken: {failures[0]}"
    return found, time.perf_counter() - began
