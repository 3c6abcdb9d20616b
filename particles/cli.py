"""The command `particles`: run | resume | info | animate | bench | list | doctor.

Nothing heavy is imported before it is needed, so that --help answers at once. A mistake of the user's is one line on
stderr and exit code 2; Ctrl-C is exit code 130, SIGTERM 143, SIGHUP 129, and one line that says how to go on. Over
ranks of MPI every rank runs the command, and the first of them speaks for all.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import particles
from particles import signals
from particles.errors import ArgumentError, ParticlesError

OK, NOT_ALL_HOLD, WRONG = 0, 1, 2
FOLDER = Path("runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [word for word in argv if word != "--debug"]
    try:
        with _one_voice():
            options = _parser(argv).parse_args(argv)
            with signals.raised():
                return options.act(options) or OK
    except KeyboardInterrupt as interrupt:
        said = str(interrupt) or "Nothing is lost that was written before."
        with contextlib.suppress(OSError):  # the terminal may have gone
            _end(signals.exit_code(interrupt), f"\nstopped. {said}")
        return signals.exit_code(interrupt)
    except SystemExit as end:  # of a command line that argparse does not understand
        if end.code and _over_ranks():
            world().end(end.code)
        raise
    except BrokenPipeError:  # the reader of our output has gone, as in `particles list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except (ParticlesError, MemoryError) as error:
        if debug:
            raise
        text = str(error) or "not enough memory: take fewer particles or samples"
        return _end(WRONG, f"particles: {' '.join(text.split())}")


def run_script(module: str) -> None:
    """Run a simulation as `python -m sims.NAME` does."""
    leave(main(["run", module.removeprefix("sims."), *sys.argv[1:]]))


def leave(code: int) -> None:
    """Exit with a code, and over ranks all of them."""
    if code and _over_ranks():
        world().end(code)
    sys.exit(code)


def _over_ranks() -> bool:
    """Whether this is one of several ranks; NumPy is loaded only where it may be."""
    return "mpi4py" in sys.modules and world().size > 1


def world():
    """The ranks that this process belongs to."""
    from particles.distributed import world

    return world()


@contextlib.contextmanager
def _one_voice() -> Iterator[None]:
    """Let the first rank alone print, and show its progress."""
    if not _over_ranks() or world().rank == 0:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


def _end(code: int, text: str) -> int:
    """Say what went wrong; over ranks end them all, for the others may wait for this one."""
    if _over_ranks():
        world().end(code, text)
    print(text, file=sys.stderr)
    return code


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="particles",
        description="Shallow neural networks as clouds of interacting particles: lazy and moving, side by side.",
        epilog="Begin with: particles run lazy_vs_moving",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"particles {particles.__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser("run", help="run a simulation", allow_abbrev=False, add_help=False)
    run.add_argument("name", metavar="NAME", nargs="?", help="its name, as `particles list` shows it, or all")
    _add_run_options(run, argv)

    resume = commands.add_parser("resume", help="go on with a run or a study that was stopped", allow_abbrev=False)
    resume.add_argument("folder", metavar="DIR", help="the folder of the run or of the study")
    resume.add_argument("--t-end", type=float, help="the time to stop at (a run only); default: as it was started")
    resume.add_argument("--backend", help="another back end to go on with, as cuda or cpu (a run only)")
    resume.set_defaults(act=_resume)

    info = commands.add_parser("info", help="say what a folder holds", allow_abbrev=False)
    info.add_argument("folder", metavar="DIR")
    info.set_defaults(act=_info)

    animate = commands.add_parser("animate", help="animate the clouds of one run or several", allow_abbrev=False)
    animate.add_argument("folders", metavar="DIR", nargs="+", help="runs, or one study that holds some")
    animate.add_argument("--out", default="clouds.gif", help="a .gif or .mp4 file (default: %(default)s)")
    animate.add_argument("--seconds", type=float, default=8.0, help="its length (default: %(default)s)")
    animate.add_argument("--force", action="store_true", help="replace the file if it exists")
    animate.set_defaults(act=_animate)

    bench = commands.add_parser(
        "bench", help="measure the speed of this machine, ours and the peers'", allow_abbrev=False
    )
    _add_bench_options(bench, argv)

    commands.add_parser("list", help="list the simulations", allow_abbrev=False).set_defaults(act=_list)
    commands.add_parser("doctor", help="check what works here", allow_abbrev=False).set_defaults(act=_doctor)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return parser


def _add_run_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """The options every simulation takes, then those of the one that is named on this command line."""
    parser.add_argument("-h", "--help", action="store_true", help="show this help")
    parser.add_argument("--out", type=Path, help="the folder for its runs, figures and summary (default: runs/NAME)")
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--quick", action="store_true", help="a small version that ends in a few seconds")
    level.add_argument("--full", action="store_true", help="as large as in the paper")
    parser.add_argument("--seed", type=int, default=0, help="of all random numbers (default: %(default)s)")
    parser.add_argument("--dtype", default="float64", help="float64 or float32 (default: %(default)s)")
    parser.add_argument(
        "--backend",
        default="auto",
        help="auto, cpu, planar, tree, reference, cuda or cuda-planar (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes for the cells of a sweep, where it is one (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=int, help="of the kernels in each worker (default: the cores over the workers)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the study in the folder")
    parser.add_argument("--force", action="store_true", help="replace the study in the folder")
    parser.set_defaults(act=lambda options: _run(options, parser))
    if argv[:1] != ["run"] or len(argv) == 1:
        return
    from particles.study import script, scripts

    known = {**scripts(), "all": ""}
    name = next((word for word in argv[1:] if word in known), argv[1])
    if name != "all" and (name in known or not name.startswith("-")):
        module = script(name)
        parser.description = module.__doc__
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_options(parser.add_argument_group(f"options of {name}"))


def _add_bench_options(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    parser.description = (
        "Measure this machine's limits, then every regime beside NumPy, PyTorch, JAX and KeOps as far as they are "
        "installed (the extra `bench`); writes bench.json and bench.png. With --backend cuda the limits are those of "
        "the GPU, and PyTorch and JAX compute there too."
    )
    families = "relu, smooth, steps, plane, tree, sweep, on a GPU native"
    parser.add_argument("--only", nargs="+", metavar="REGIME", help=f"of {families}; or names, as 'relu-d*-float32'")
    level = parser.add_mutually_exclusive_group()
    level.add_argument("--quick", action="store_true", help="small problems, about 20 seconds (default: 3 minutes)")
    level.add_argument("--full", action="store_true", help="every size and precision: says first how long")
    parser.add_argument("--dtype", help="float64 or float32 alone (default: both)")
    parser.add_argument("--backend", default="auto", help="one of ours, or cuda (default: those of each regime)")
    parser.add_argument("--threads", type=int, help="cores, for ours and the peers (default: all there are)")
    parser.add_argument("--out", type=Path, help="the folder for the numbers and the figure (default: runs/bench)")
    parser.add_argument("--force", action="store_true", help="replace what is in the folder")
    parser.set_defaults(act=_bench, words=argv)


def _bench(options: argparse.Namespace) -> None:
    if _over_ranks():
        raise ArgumentError("the benchmark is of one process", "start it without mpiexec")
    from particles.bench.cores import confined

    chosen = {k: v for k, v in vars(options).items() if k in ("only", "quick", "full", "dtype", "backend", "force")}
    with confined(options.threads):
        _use_threads(options.threads)
        from particles.bench.command import bench

        bench(options.out or FOLDER / "bench", words=["particles", *options.words], **chosen)


def _run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if options.help or options.name is None:
        parser.print_help()
        if options.name is None and not options.help:
            raise ArgumentError("no simulation is named", "choose one that `particles list` shows")
        return OK
    from particles.study import Study, script, verdicts

    if options.name == "all":
        return _run_all(options)
    module = script(options.name)
    _use_threads(options.threads)
    shared = {"name", "act", "help", "debug", "out", "resume", "force", "workers", "threads"}
    chosen = {key: value for key, value in vars(options).items() if key not in shared}
    folder = options.out or FOLDER / options.name
    how = {name: getattr(options, name) for name in ("resume", "force", "workers", "threads")}
    study = Study(options.name, folder, chosen, **how)
    try:
        with _resumable(folder):
            summary = module.run(study, argparse.Namespace(**chosen))
    except ParticlesError:
        study.abandon()
        raise
    if summary["claims"]:
        print(verdicts(summary["claims"]))
    print(f"{folder}: {', '.join(sorted(p.name for p in folder.iterdir() if not p.name.startswith('.')))}")
    return OK


def _run_all(options: argparse.Namespace) -> int:
    """Every simulation with the options they share, each in its own folder; then the table of verdicts."""
    from particles.gallery import all_hold, overview, summaries
    from particles.study import flags, scripts

    folder = options.out or FOLDER
    passed = ("quick", "full", "seed", "dtype", "backend", "workers", "threads")
    words = flags({name: getattr(options, name) for name in passed})
    how = flags({"resume": options.resume, "force": options.force})
    codes = []
    for name, claim in scripts().items():
        if options.resume and name in summaries(folder):
            continue
        print(f"\n{name}: {claim}", flush=True)
        codes.append(main(["run", name, *words, *how, "--out", str(folder / name)]))
        if codes[-1] > signals.ENDED:
            again = ["particles", "run", "all", *words, "--resume", "--out", str(folder)]
            print(f"Go on with the rest: {shlex.join(again)}", file=sys.stderr)
            return codes[-1]
    found = summaries(folder)
    print(f"\n{overview(found)}")
    hold = all(all_hold(summary["claims"]) for summary in found.values())
    return max(codes, default=OK) if any(codes) else OK if hold else NOT_ALL_HOLD


def _resume(options: argparse.Namespace) -> int:
    from particles.study import read_summary

    summary = read_summary(options.folder)
    if summary is None:
        with _resumable(options.folder):
            print(particles.resume(options.folder, options.t_end, backend=options.backend))
        return OK
    if options.t_end is not None or options.backend is not None:
        raise ArgumentError("--t-end and --backend go with a run", f"resume one of the runs in {options.folder}")
    return main([*shlex.split(summary["command"])[1:], "--out", str(options.folder), "--resume"])


@contextlib.contextmanager
def _resumable(folder: str | Path) -> Iterator[None]:
    """Let whoever stops the work in here read how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        interrupt.args = (f"Go on with: particles resume {shlex.quote(str(folder))}",)
        raise


def _info(options: argparse.Namespace) -> None:
    from particles.study import read_summary, table, verdicts

    summary = read_summary(options.folder)
    if summary is None:
        _info_run(options.folder)
        return
    state = f"finished in {summary['seconds']:.1f} s" if summary.get("finished") else "not finished"
    print(f"{summary['name']}, {state}\n{summary['command']}")
    pair = {kind: summary[kind] for kind in ("lazy", "moving") if kind in summary}
    if pair:
        print(table(pair))
    if summary.get("claims"):
        print(verdicts(summary["claims"]))
    for folder in _runs_in(options.folder):
        print(f"\n{particles.open(folder)}")


def _info_run(folder: str) -> None:
    run = particles.open(folder)
    print(run)
    for name in run.names:
        shape = " x ".join(str(length) for length in getattr(run, name).shape)
        print(f"  {name:24}{shape}")


def _runs_in(folder: str | Path) -> list[Path]:
    return sorted(p.parent for p in Path(folder).glob("*/zarr.json"))


def _animate(options: argparse.Namespace) -> None:
    folders = [Path(folder) for folder in options.folders]
    if len(folders) == 1 and not (folders[0] / "zarr.json").is_file() and _runs_in(folders[0]):
        folders = _runs_in(folders[0])
    out = Path(options.out)
    if out.exists() and not options.force:
        raise ArgumentError(f"{out} exists", "choose another name with --out, or replace it with --force")
    print(particles.animate([particles.open(folder) for folder in folders], out, seconds=options.seconds))


def _list(options: argparse.Namespace) -> None:
    from particles.study import scripts

    names = scripts()
    width = max(map(len, names))
    for name, claim in names.items():
        print(f"{name:{width}}  {claim}")


def _doctor(options: argparse.Namespace) -> int:
    from particles.doctor import report

    text, healthy = report()
    print(text)
    return OK if healthy else 1


def _use_threads(count: int | None) -> None:
    if count is not None:
        from particles.kernels import threads

        threads.use(count)
