"""Imports go down the layers, the heavy ones are made where they are used, and CUDA and MPI stay in their modules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import particles

ROOT = Path(particles.__file__).parent

# From the bottom up; names on one line do not import each other. Every module or package has its place.
LAYERS = [
    ["errors", "progress", "durable", "signals"],
    ["memory"],
    ["checks"],
    ["random", "units", "scaling", "fits"],
    ["losses", "laws"],
    ["cloud"],
    ["data"],
    ["kernels"],
    ["distributed"],
    ["workers"],
    ["field"],
    ["theory"],
    ["flows"],
    ["record"],
    ["simulation"],
    ["plot", "sweeps"],
    ["study", "bench"],
    ["doctor", "gallery"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

FILES = sorted(ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))


def layer_of(file):
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file):
    """(line, module, names) of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module, tuple(alias.name for alias in node.names)


def layers_imported(file):
    """(line, layer) of every import of this package: `particles.x.y`, or x from `particles`."""
    for line, module, names in imports(file):
        if module == "particles":
            yield from ((line, name) for name in names if name in RANK)
        elif module.startswith("particles."):
            yield line, module.split(".")[1]


def test_every_module_has_its_place():
    assert {layer_of(file) for file in FILES} - {"__init__"} <= RANK.keys()


@each_file
def test_imports_go_down(file):
    own = layer_of(file)
    if own == "__init__":
        assert not list(layers_imported(file)), "the package imports its modules when they are first used"
        return
    upward = [(line, other) for line, other in layers_imported(file) if other != own and RANK[other] >= RANK[own]]
    assert not upward


@pytest.mark.parametrize("file", sorted((ROOT / "kernels").rglob("*.py")), ids=lambda file: file.name)
def test_kernels_know_arrays_and_units_only(file):
    """No Cloud, no loss, no scaling, no time."""
    others = {layer for _, layer in layers_imported(file)}
    assert others <= {"kernels", "errors", "checks", "memory", "units"}


# What may be imported at all, besides the standard library and this package.
KNOWN = {
    "numpy",
    "numba",
    "llvmlite",
    "scipy",
    "zarr",
    "matplotlib",
    "tqdm",
    "sklearn",
    "imageio_ffmpeg",
    "PIL",
    "xarray",
    "sims",
}
ACCELERATORS = {"cupy", "cuda", "mpi4py"}
PEERS = {"torch", "jax", "pykeops"}  # what the benchmark measures beside us: nothing rests on them


@each_file
def test_cuda_and_mpi_stay_in_their_modules(file):
    if file.relative_to(ROOT).as_posix().startswith(("kernels/cuda/", "distributed/")):
        return
    for line, module, names in imports(file):
        words = set() if module.split(".")[0] == "particles" else {*module.split("."), *names}
        assert not words & ACCELERATORS, f"line {line}: {module}"
        top = module.split(".")[0]
        known = KNOWN | PEERS if file.relative_to(ROOT).as_posix() == "bench/peers.py" else KNOWN
        assert top in known | {"particles"} | sys.stdlib_module_names, f"line {line}: {module}"


@each_file
def test_nothing_is_pickled_but_compiled_kernels(file):
    """Files hold arrays and JSON; the cache of kernels is checked before it is read."""
    if file.relative_to(ROOT).as_posix() != "kernels/compile.py":
        assert not {module for _, module, _ in imports(file)} & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}


@each_file
def test_a_power_of_m_appears_in_scaling_only(file):
    """No m**γ, no sqrt(m) and no 1/√m elsewhere."""
    if layer_of(file) == "scaling":
        return
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        power = node.left if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) else None
        if isinstance(node, ast.Call) and getattr(node.func, "attr", None) == "sqrt" and node.args:
            power = node.args[0]
        named = getattr(power, "id", None) or getattr(power, "attr", None)
        assert named != "m", f"line {node.lineno}"


def modules_after(program):
    """The top-level modules that a fresh interpreter has loaded after a program."""
    program += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_importing_the_package_imports_nothing_heavy():
    loaded = modules_after("import particles; particles.Cloud; dir(particles)")
    assert not loaded & {"numba", "scipy", "matplotlib", "zarr", "xarray", "sklearn", "tqdm", *ACCELERATORS}


def test_a_simulation_in_memory_needs_no_disk_and_no_figure():
    program = """
import particles as pt
data = pt.data.teacher_student(n=8, d=2, seed=0)
cloud = pt.Cloud.gaussian(m=4, d=2, unit="tanh", seed=1)
pt.simulate(cloud, data, scaling=pt.NTK, t_end=0.1, backend="reference", progress=False)
"""
    assert not modules_after(program) & {"matplotlib", "zarr", "xarray", "sklearn", *ACCELERATORS}


@pytest.mark.parametrize("name", particles.__all__)
def test_every_name_of_the_package_is_there_when_asked_for(name):
    assert getattr(particles, name) is not None


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="no attribute 'partikel'"):
        particles.partikel  # noqa: B018
