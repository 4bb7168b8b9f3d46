"""The package as users get it: wheel, sdist, editable install, plain checkout."""

import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROBE = (
    "import magistral_mlx, magistral_mlx.convert as c, magistral_mlx.app as a; print(c.__file__)"
)
EVERY_MODULE = """
import importlib, pkgutil, magistral_mlx
names = [module.name for module in pkgutil.walk_packages(magistral_mlx.__path__, "magistral_mlx.")]
for name in names:
    if not name.endswith(("__main__", "pdf_worker")):  # these run when they are imported
        importlib.import_module(name)
print(len(names))
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that git has, links as links: what a clone gets."""
    folder = tmp_path_factory.mktemp("checkout") / "magistral-mlx"
    run("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def dist(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from the unpacked sdist."""
    folder = tmp_path_factory.mktemp("dist")
    build = "from setuptools import build_meta as b; import sys; print(b.{}(sys.argv[1]))"
    run(sys.executable, "-c", build.format("build_sdist"), folder, cwd=checkout)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    unpacked = next(path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, "-c", build.format("build_wheel"), folder, cwd=unpacked)
    return folder


@pytest.fixture
def fresh_python(tmp_path: Path) -> Path:
    """An empty environment that sees this one's packages, so that installing needs no network."""
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    # Python 3.11 brings a setuptools that is too old to read our pyproject.toml.
    run(python, "-m", "pip", "uninstall", "-qy", "setuptools", cwd=tmp_path)
    purelib = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", purelib, cwd=tmp_path).strip())
    outside = [path for path in sys.path if path.endswith("site-packages")]
    (site / "outside.pth").write_text("\n".join(outside))
    return python


def test_every_package_folder_is_listed_in_pyproject() -> None:
    listed = set(pyproject()["tool"]["setuptools"]["packages"])
    files = run("git", "ls-files", "*/__init__.py", cwd=ROOT).splitlines()
    folders = {str(Path(name).parent).replace("/", ".") for name in files}
    folders = {name for name in folders if name.split(".")[0] not in ("benchmarks", "tests")}
    linked = {name for name in folders if name.split(".")[0] in ("convert", "app")}
    assert listed == (folders - linked) | {f"magistral_mlx.{name}" for name in linked}


def test_the_links_of_a_plain_checkout_are_committed_as_links() -> None:
    tracked = run("git", "ls-files", "-s", "magistral_mlx/app", "magistral_mlx/convert", cwd=ROOT)
    assert [line.split()[0] for line in tracked.splitlines()] == ["120000", "120000"]


def test_constraints_are_exact_versions_and_nothing_else() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and not set(line) & set(" +;@/") for line in lines)
    assert "torch==2.13.0" in lines


def test_importing_the_bare_folder_names_is_banned() -> None:
    code = "import convert\nfrom app import page\n"
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "-"]
    done = subprocess.run(
        command, cwd=ROOT, input=code, capture_output=True, text=True, check=False
    )
    assert done.stdout.count("TID251") == 2


def test_the_readme_is_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(dist: Path, checkout: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"magistral_mlx"}
    tracked = run("git", "ls-files", "convert", "app", "magistral_mlx", cwd=checkout).splitlines()
    links = {"magistral_mlx/convert", "magistral_mlx/app"}
    wanted = {re.sub("^(convert|app)/", r"magistral_mlx/\1/", name) for name in tracked} - links
    assert wanted == {name for name in names if name.startswith("magistral_mlx/")}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("source", ["wheel", "sdist", "editable"])
def test_an_install_imports_the_mapped_folders_and_runs_the_command(
    source: str, checkout: Path, dist: Path, fresh_python: Path, tmp_path: Path
) -> None:
    what = {
        "wheel": [str(next(dist.glob("*.whl")))],
        "sdist": [str(next(dist.glob("*.tar.gz")))],
        "editable": ["-e", str(checkout)],
    }[source]
    pip: list[str | Path] = [
        fresh_python,
        "-m",
        "pip",
        "install",
        "-qI",
        "--no-deps",
        "--no-build-isolation",
    ]
    run(*pip, *what, cwd=tmp_path)
    home = checkout if source == "editable" else tmp_path
    assert Path(run(fresh_python, "-c", PROBE, cwd=tmp_path).strip()).is_relative_to(home)
    script = fresh_python.parent / "magistral-mlx"
    assert "ask" in run(script, "--help", cwd=tmp_path)
    assert "inspect" in run(fresh_python, "-m", "magistral_mlx.convert", "--help", cwd=tmp_path)
    assert int(run(fresh_python, "-c", EVERY_MODULE, cwd=tmp_path)) == modules(checkout)
    # An installed copy that is run inside a checkout finds the folders there too.
    run(fresh_python, "-c", PROBE, cwd=checkout)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_plain_checkout_works_without_an_install(
    checkout: Path, fresh_python: Path, tmp_path: Path
) -> None:
    assert str(checkout) in run(fresh_python, "-c", PROBE, cwd=checkout)
    assert "ask" in run(fresh_python, "-m", "magistral_mlx", "--help", cwd=checkout)
    assert int(run(fresh_python, "-c", EVERY_MODULE, cwd=checkout)) == modules(checkout)
    assert "inspect" in run(fresh_python, "-m", "magistral_mlx.convert", "--help", cwd=checkout)


def modules(checkout: Path) -> int:
    """Modules and packages below magistral_mlx, from the files that git has."""
    names = run("git", "ls-files", "*.py", cwd=checkout).splitlines()
    inside = [name for name in names if name.split("/")[0] in ("magistral_mlx", "convert", "app")]
    return len(inside) - 1  # the package itself is not below itself


def pyproject() -> dict[str, dict[str, dict[str, list[str]]]]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())
