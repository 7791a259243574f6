"""Code ids: they change with the code a measure uses, and with nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from robustgap.measures._code import ROOT, code_id, names

# Of the many measures, those whose ids the cases below speak of.
SOME = ["average_ce", "average_flat", "boundary_thickness", "estimate_sharpness", "inverse_margin", "local_lip"]
SOME += ["log_prod_of_spec", "margin_p10", "num_params", "path_norm", "prob_margin", "w_grad_norm", "x_grad_norm"]

HELPERS = """from robustgap.training import attacks

SCALE = 2.0


def used(x):
    return SCALE * x


def unused(x):
    return x
"""


@pytest.fixture
def project(tmp_path):
    """A copy of the two packages, in which files may be edited."""
    for package in ("measures", "training"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) >= 1, f"{file} has no {old!r}"
    file.write_text(text.replace(old, new))


def test_code_id_ignores_comments_docstrings_annotations_and_descriptions(project):
    before = {name: code_id(name, project) for name in names(project)}
    file = project / "measures" / "x_grad_norm.py"
    edit(file, "    return l2_norm", "    # a comment\n\n    return l2_norm")
    edit(file, "Mean L2 norm", "The mean Euclidean norm")
    edit(file, "model: nn.Module, batch: Batch, context: Context) -> Tensor", "model, batch, context)")
    edit(file, 'paper="Kim', 'paper="See Kim')
    edit(project / "training" / "attacks.py", '    """Gradient of sum_i', '    """The gradient of sum_i')
    assert {name: code_id(name, project) for name in names(project)} == before


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("measures/x_grad_norm.py", "l2_norm(context", "2 * l2_norm(context", {"x_grad_norm"}),
        ("measures/_margin.py", "others.amax", "others.mean", {"margin_p10", "inverse_margin", "prob_margin"}),
        ("measures/_margin.py", "q + spread]", "q + 2 * spread]", {"margin_p10", "inverse_margin"}),
        ("measures/_margin.py", "(high - low) / 2 / Z", "(high - low) / 3 / Z", {"margin_p10"}),
        ("measures/estimate_sharpness.py", "RHO = 0.05", "RHO = 0.1", {"estimate_sharpness"}),
        ("measures/_weights.py", "gradient / n", "gradient", {"estimate_sharpness", "w_grad_norm"}),
        ("training/keyed.py", "2.0**-53", "2.0**-52", {"average_flat", "boundary_thickness", "local_lip"}),
        ("training/attacks.py", "grad.sign()", "-grad.sign()", {"average_flat", "boundary_thickness", "local_lip"}),
        ("training/attacks.py", "loss(model(x), y).sum()", "loss(model(x), y).mean()",
         {"average_flat", "boundary_thickness", "local_lip", "x_grad_norm"}),
        ("training/attacks.py", "EVALUATION_START = 1, 2", "EVALUATION_START = 1, 3", {"average_flat", "local_lip"}),
        ("training/attacks.py", "step=eps, **options", "step=2 * eps, **options", set()),
        ("measures/_context.py", "return cross_entropy(", "return 2 * cross_entropy(",
         {"average_ce", "average_flat", "estimate_sharpness"}),
        ("measures/_context.py", "self.model(batch.images))", "-self.model(batch.images))",
         set(SOME) - {"log_prod_of_spec", "num_params", "path_norm", "w_grad_norm", "x_grad_norm"}),
        ("measures/_context.py", "svdvals(m)", "svdvals(m.T)", {"log_prod_of_spec"}),
        ("measures/_context.py", "self.clean.batches[k])", "self.clean.batches[k - 1])", set()),
    ],
)  # fmt: skip
def test_code_id_changes_with_the_code_a_measure_uses_and_with_no_other(project, file, old, new, changed):
    before = {name: code_id(name, project) for name in SOME}
    edit(project / file, old, new)
    after = {name: code_id(name, project) for name in SOME}
    assert {name for name in before if before[name] != after[name]} == changed


def test_code_id_follows_helpers_constants_and_modules_but_not_their_neighbours(project):
    helper = project / "measures" / "_x.py"
    helper.write_text(HELPERS)
    (project / "measures" / "mine.py").write_text(
        "from robustgap.measures import _x\n\n\n"
        "def mine(model, batch):\n    return _x.used(batch.images).sum(dim=(1, 2, 3))\n"
    )
    before = code_id("mine", project)
    for old, new, differs in (
        ("return x\n", "return -x\n", False),
        ("SCALE * x", "x * SCALE", True),
        ("SCALE = 2.0", "SCALE = 3.0", True),
        ("from robustgap.training import attacks\n", "from robustgap.training import attacks, keyed\n", False),
    ):
        helper.write_text(HELPERS.replace(old, new))
        assert (code_id("mine", project) != before) == differs, (old, new)


@pytest.mark.parametrize(
    "statement", ["from robustgap.measures._x import used", "from ._x import used", "from . import _x as here"]
)
def test_code_id_follows_imports_inside_functions_and_relative_ones(project, statement):
    helper = project / "measures" / "_x.py"
    helper.write_text(HELPERS)
    call = "here.used" if "here" in statement else "used"
    (project / "measures" / "mine.py").write_text(
        f"def mine(model, batch):\n    {statement}\n    return {call}(model)\n"
    )
    before = code_id("mine", project)
    helper.write_text(HELPERS.replace("return x\n", "return -x\n"))
    assert code_id("mine", project) == before
    helper.write_text(HELPERS.replace("SCALE = 2.0", "SCALE = 3.0"))
    assert code_id("mine", project) != before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('T["a"] = 1', 'T["a"] = 2'),
        ("T.update(b=1)", "T.update(b=2)"),
        ("T.c = 1", "T.c = 2"),
        ("ctx.logits(batch)", "ctx.losses(batch)"),
    ],
)
def test_code_id_sees_objects_that_change_and_contexts_of_another_name(project, old, new):
    helper = project / "measures" / "_x.py"
    lines = ["T = {}", 'T["a"] = 1', "T.update(b=1)", "T.c = 1", "def used(ctx, batch): return T, ctx.logits(batch)"]
    helper.write_text("\n".join(lines) + "\n")
    (project / "measures" / "mine.py").write_text(
        "from robustgap.measures._x import used\n\ndef mine(model, batch, context): return used(context, batch)\n"
    )
    before = code_id("mine", project)
    edit(helper, old, new)
    assert code_id("mine", project) != before
    edit(project / "measures" / "_context.py", "lambda: self.model(batch.images)", "lambda: -self.model(batch.images)")
    again = code_id("mine", project)
    edit(helper, new, old)
    assert code_id("mine", project) not in (before, again)


def test_code_id_does_not_know_where_code_lies(project):
    """A helper is renamed, moved into a folder, cut in two, or handed on by another module: the id stays."""
    (project / "measures" / "_x.py").write_text("SCALE = 2.0\n\n\ndef used(x):\n    return SCALE * x\n")
    mine = project / "measures" / "mine.py"
    text = "from robustgap.measures._x import used\n\n\ndef mine(model, batch):\n    return used(batch.images)\n"
    mine.write_text(text)
    before = code_id("mine", project)
    (project / "training" / "deeper").mkdir()
    (project / "training" / "deeper" / "__init__.py").write_text("from robustgap.training.deeper.y import used\n")
    (project / "training" / "deeper" / "y.py").write_text(
        "from robustgap.training.scales import SCALE\n\n\ndef used(x):\n    return SCALE * x\n"
    )
    (project / "training" / "scales.py").write_text("SCALE = 2.0\n")
    for place in ("robustgap.training.deeper.y", "robustgap.training.deeper"):
        mine.write_text(text.replace("robustgap.measures._x", place))
        assert code_id("mine", project) == before
    edit(project / "training" / "scales.py", "2.0", "3.0")
    assert code_id("mine", project) != before


def test_code_id_tells_two_helpers_of_one_name_apart(project):
    for name, scale in (("_one", 2), ("_two", 3)):
        (project / "measures" / f"{name}.py").write_text(f"def used(x):\n    return {scale} * x\n")
    mine, ids = project / "measures" / "mine.py", set()
    for first, second in (("_one", "_two"), ("_two", "_one")):
        mine.write_text(
            f"from robustgap.measures.{first} import used as f\nfrom robustgap.measures.{second} import used as g\n\n\n"
            "def mine(model, batch):\n    return f(batch.images) - g(batch.images)\n"
        )
        ids.add(code_id("mine", project))
    assert len(ids) == 2


def test_a_star_import_is_refused_because_it_hides_what_is_used(project):
    (project / "measures" / "mine.py").write_text(
        "from robustgap.measures._x import *\n\ndef mine(model): return 1.0\n"
    )
    with pytest.raises(ValueError, match="line 1: found a star import"):
        code_id("mine", project)


def test_core_enters_every_code_id_by_its_version_alone(project):
    before = {name: code_id(name, project) for name in names(project)}
    edit(project / "measures" / "core.py", "draws[1])", "draws[1] + 0.0)")
    assert {name: code_id(name, project) for name in names(project)} == before
    edit(project / "measures" / "core.py", "CORE_VERSION = 1", "CORE_VERSION = 2")
    assert not set(before.values()) & {code_id(name, project) for name in names(project)}


def test_code_ids_and_names_need_no_torch():
    script = (
        "import sys, robustgap.measures; from robustgap.measures._code import code_id, names;"
        "ids = [code_id(n) for n in names()]; assert len(set(ids)) == len(ids) >= 14;"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_unknown_measures_are_named_with_the_nearest():
    with pytest.raises(LookupError, match=r"found 'pathnorm', wanted one of .*; did you mean 'path_norm'"):
        code_id("pathnorm")
