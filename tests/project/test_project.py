"""How the project hangs together: arrows between packages, one list of pins, and files of readable length."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from trees import ROOT

from robustgap.measures._code import names
from robustgap.training.settings import DEFAULTS

PACKAGES = ("training", "measures", "analysis", "workflow")
# What each package may import of the others; nothing imports workflow but the Snakefile, its rules and tests.
ARROWS = {
    "training": set(),
    "measures": {"robustgap.training"},
    "analysis": set(),
    "workflow": {
        "robustgap.__version__",
        "robustgap.training.facts",
        "robustgap.training.settings",
        "robustgap.training.paths",
        "robustgap.training.jobs.lock",
        "robustgap.training.jobs.outcome_id",
        "robustgap.measures._code",
    },
}
FILE_LINES, FUNCTION_LINES, FOLDER_FILES = 400, 60, 25
CONDA_NAMES = {"torch": "pytorch"}
OTHER_OPEN = re.compile(r"(Image|tarfile|zipfile|gzip)\.|os\.open")  # of bytes
SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def imports(file: Path) -> set[str]:
    """Dotted names of all modules that a file imports, wherever the import stands."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import, wanted an absolute one"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def without_encoding(file: Path) -> list[str]:
    """Calls that read or write text in whatever encoding the locale has."""
    found = []
    for call in [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        named = {keyword.arg for keyword in call.keywords}
        modes = [value.value for value in call.args if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        mode = next((text for text in modes if set(text) <= set("rwxab+")), "r")
        text = isinstance(call.func, ast.Attribute) and name in ("read_text", "write_text")
        opened = name in ("open", "fdopen") and "b" not in mode and not OTHER_OPEN.match(ast.unparse(call.func))
        if (text or opened) and "encoding" not in named and "framework" not in named:
            found.append(f"{file.name}:{call.lineno}: {ast.unparse(call)}")
    return found


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks"])
def test_text_is_read_and_written_as_utf8_by_name(package: str):
    assert not [line for file in sorted((ROOT / package).rglob("*.py")) for line in without_encoding(file)]


def inside(name: str, allowed: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in allowed)


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_arrows_point_one_way(file: Path):
    package = file.relative_to(ROOT).parts[0]
    for name in imports(file):
        top = name.partition(".")[0]
        assert top not in PACKAGES, f"{name}: wanted robustgap.{name}"
        if top == "robustgap" and name.split(".")[1] != package:
            assert inside(name, ARROWS[package]), f"{package} must not import {name}"
        assert top != "snakemake", "library code never sees Snakemake"
        assert package not in ("analysis", "workflow") or top not in ("torch", "torchvision"), (
            f"{package} imports torch"
        )


def test_rules_and_snakefile_import_only_the_workflow():
    for file in [ROOT / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]:
        for line in re.findall(r"^(?:from|import) .*$", file.read_text(), re.MULTILINE):
            assert re.match(r"from (robustgap\.workflow\.\w+|snakemake\.utils) import ", line), f"{file.name}: {line}"


def test_the_snakefile_is_short_and_without_logic():
    text = (ROOT / "Snakefile").read_text()
    assert len(text.splitlines()) <= 60
    assert not re.search(r"^ *(def|class|for|while|try) ?", text, re.MULTILINE)
    for file in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"^ *(def|class|run|script):?\b", file.read_text(), re.MULTILINE), file.name


def test_files_functions_and_folders_are_of_a_size_one_can_hold():
    long = []
    for file in SOURCES:
        place, text = file.relative_to(ROOT), file.read_text(encoding="utf-8")
        long += [f"{place}: {lines} lines" for lines in [len(text.splitlines())] if lines > FILE_LINES]
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = len((ast.get_docstring(node) or "").splitlines())
                lines = (node.end_lineno or 0) - node.lineno + 1 - docstring
                long += [f"{place}: {node.name}: {lines} lines"] if lines > FUNCTION_LINES else []
    folders = Counter(file.parent.relative_to(ROOT) for file in SOURCES)
    for plugins in ("measures", "analysis/statistics"):  # one file each
        del folders[Path(plugins)]
    long += [f"{folder}: {files} files" for folder, files in folders.items() if files > FOLDER_FILES]
    assert not long


def rooms(package: str) -> dict[str, set[str]]:
    """{room: rooms that its modules import} of a package: its folders, and the modules that lie in none; their imports
    count wherever they stand."""
    modules = {
        ".".join(("robustgap", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): file
        for file in SOURCES
        if file.relative_to(ROOT).parts[0] == package
    }

    def room(module: str) -> str:
        file = modules[module]
        return module if file.parent == ROOT / package else ".".join(("robustgap", *file.relative_to(ROOT).parts[:2]))

    found: dict[str, set[str]] = {}
    for module, file in modules.items():
        used = {name if name in modules else name.rpartition(".")[0] for name in imports(file)}
        found.setdefault(room(module), set()).update(room(name) for name in used & set(modules))
    return {name: others - {name} for name, others in found.items()}


def modules_of(package: str) -> dict[str, set[str]]:
    """{module: modules that it imports} of a package."""
    found = {}
    for file in SOURCES:
        place = file.relative_to(ROOT)
        if place.parts[0] == package:
            found[".".join(("robustgap", *place.with_suffix("").parts)).removesuffix(".__init__")] = imports(file)
    return {
        name: {used if used in found else used.rpartition(".")[0] for used in others} & set(found) - {name}
        for name, others in found.items()
    }


@pytest.mark.parametrize("graph", [rooms, modules_of])
@pytest.mark.parametrize("package", PACKAGES)
def test_imports_make_no_circle(package: str, graph: Callable[[str], dict[str, set[str]]]):
    try:
        tuple(TopologicalSorter(graph(package)).static_order())
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize(
    "module",
    [
        "robustgap",
        "robustgap.training.settings",
        "robustgap.workflow.grid",
        "robustgap.measures._code",
        "robustgap.analysis",
        "robustgap.__main__",
    ],
)
def test_light_modules_stay_light(module: str):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def requirements() -> list[Requirement]:
    """What the package and its extras ask for, less what one extra says of another."""
    extras = project()["optional-dependencies"]
    lines = [*project()["dependencies"], *(line for extra in extras.values() for line in extra)]
    return [Requirement(line) for line in lines if not line.startswith("robustgap[")]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_conda_has_the_same_pins_as_pip():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = [line for line in environment["dependencies"] if isinstance(line, str)]
    by_pip = next(part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert listed[:2] == [f"python {project()['requires-python']}", "pip"]
    conda = dict(line.split(" =") for line in listed[2:]) | dict(line.split("==") for line in by_pip)
    assert conda == {CONDA_NAMES.get(name, name): version for name, version in pins().items()}


def test_every_requirement_is_bounded_and_has_a_pin_within_its_bounds():
    required = requirements()
    assert set(pins()) == {need.name for need in required}
    for need in required:
        assert {bound.operator for bound in need.specifier} & {">=", "=="}, need
        assert need.specifier.contains(pins()[need.name]), need


def test_analysis_alone_needs_no_torch():
    base, extras = project()["dependencies"], project()["optional-dependencies"]
    assert not {"torch", "torchvision", "robustbench", "timm"} & {Requirement(line).name for line in base}
    assert extras["train"][0] == "robustgap[measures]" and extras["all"] == ["robustgap[train,workflow,test]"]


def test_the_readme_names_every_setting_and_every_value_that_has_a_name():
    section = re.search(r"## Training settings\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL)
    assert section
    table = "".join(line for line in section[1].splitlines() if line.startswith("|"))
    settings = yaml.safe_load((ROOT / "workflow" / "config" / "schema.yaml").read_text())["$defs"]["settings"]
    assert not [name for name in settings if f"`{name}`" not in table]
    shown = set(re.findall(r"[\w-]+", table))
    for name in ("defense", "schedule", "sam", "augmentation"):
        assert set(settings[name]["enum"]) <= shown
    for name, rule in settings.items():
        default = DEFAULTS[name]
        spelled = str(default).lower() if isinstance(default, bool) else str(default)
        assert f"**{spelled.removesuffix('.0')}**" in table, (name, rule)


def test_what_the_readme_makes_can_be_made():
    typed = set(re.findall(r"(?:^|`)make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert typed >= {"install", "study", "test"}
    for target in typed:
        made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr


def test_the_readme_names_every_measure():
    words = set(re.findall(r"[a-z][a-z0-9_]+", (ROOT / "README.md").read_text()))
    absent = [name for name in names() if name.removesuffix("_over_margin") not in words]
    assert not absent


@pytest.mark.parametrize(
    "file", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]), ids=lambda f: f.name
)
def test_links_between_files_lead_somewhere(file: Path):
    for target in re.findall(r"\]\(([^)#\s]+)", file.read_text()):
        assert "://" in target or (file.parent / target).exists(), f"{file.name}: {target} is not there"


@pytest.mark.xdist_group("together")
def test_groups_of_tests_are_kept_together(request):
    """Tests of one study, one browser or one cluster belong to one worker: each would set it up, or wait for it."""
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@together")


def test_tests_have_the_same_names_in_every_process(request):
    """Else the workers of pytest-xdist disagree and not one test runs: by chance where a name holds the time."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "--color=no", "tests"]
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert again.returncode == 0, again.stdout[-2000:]
    here = {re.sub(r"@\w+$", "", item.nodeid) for item in request.session.items}
    assert here <= set(again.stdout.splitlines())
