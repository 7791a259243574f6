"""From a study to runs and models: counts by hand, exclusions, and pinned names."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from studies import study
from trees import ROOT

from robustgap.training.settings import run_id
from robustgap.workflow import grid
from robustgap.workflow.grid import open_plan
from robustgap.workflow.jobs import Jobs
from robustgap.workflow.study import read_study
from robustgap.workflow.study_faults import StudyError

CONFIGS = sorted(file.stem for file in (ROOT / "workflow" / "config").glob("*.yaml") if file.stem != "schema")


def config(name: str) -> dict:
    return read_study(ROOT / "workflow" / "config" / f"{name}.yaml")


def planned(name: str) -> dict:
    return open_plan(config(name), name)


def test_a_setting_that_does_not_apply_makes_no_second_run():
    plan = open_plan(study(), "small")
    defenses = [(run["settings"]["defense"], run["settings"]["inner_steps"]) for run in plan["runs"].values()]
    # Standard x {NA} + {AT, TRADES} x {1, 10}, each x 2 batch sizes x 2 seeds
    assert len(plan["runs"]) == 5 * 2 * 2
    assert {pair: defenses.count(pair) for pair in defenses} == {
        ("Standard", "NA"): 4,
        **{(defense, steps): 4 for defense in ("AT", "TRADES") for steps in (1, 10)},
    }
    assert len(plan["models"]) == 2 * len(plan["runs"])


def test_run_ids_are_those_of_their_settings_and_are_pinned():
    plan = open_plan(study(), "small")
    assert all(run == run_id(entry["settings"]) for run, entry in plan["runs"].items())
    # Renaming a run would orphan the trained models of every study: these never change.
    assert list(plan["runs"])[:3] == ["427ac0f2a1", "1c67e77595", "277fcb0f2c"]


@pytest.mark.parametrize(
    ("name", "trainings", "models"),
    [
        ("digits", 128, 256),
        ("digits-quick", 16, 32),
        ("digits-tiny", 4, 8),
        ("digits-full", 672, 1344),
        ("cifar10", 672, 1344),
        ("cifar10-small", 48, 96),
    ],
)
def test_shipped_grids_have_the_sizes_they_promise(name: str, trainings: int, models: int):
    plan = planned(name)
    assert (len(plan["runs"]), len(plan["models"])) == (trainings, models)


def test_the_default_study_keeps_its_bounds():
    plan = planned("digits")
    assert len(plan["runs"]) // len(plan["study"]["seeds"]) == 64
    assert len(plan["study"]["measures"]) <= 20
    assert plan["axes"] == ["defense", "batch_size", "awp", "augmentation", "weight_decay"]
    assert plan["study"]["reproducible"]


def same_but_outcomes(plan: dict, default: dict) -> bool:
    keys = ("data", "norm", "eps", "measure_images", "reproducible")
    return all(plan["study"][key] == default["study"][key] for key in keys)


def test_the_costly_outcomes_are_of_the_models_of_the_default_study():
    plan, default = planned("digits-outcomes"), planned("digits")
    assert plan["models"] == default["models"] and same_but_outcomes(plan, default)
    assert plan["study"]["extends"] == "digits" and "autoattack" in plan["outcomes"]


def test_the_whole_catalogue_is_measured_on_the_models_of_the_default_study():
    plan, default = planned("digits-measures"), planned("digits")
    assert plan["models"] == default["models"]
    assert same_but_outcomes(plan, default)
    assert set(plan["study"]["measures"]) > set(default["study"]["measures"]) and len(plan["study"]["measures"]) >= 45


@pytest.mark.parametrize("name", ["digits-full", "cifar10"])
def test_the_full_grid_has_the_papers_shape(name: str):
    plan = planned(name)
    runs = [run["settings"] for run in plan["runs"].values()]
    kinds = {(settings["defense"], settings["inner_steps"]) for settings in runs}
    assert len(kinds) == 7 and ("Standard", "NA") in kinds
    for axis, size in (("architecture", 3), ("batch_size", 4), ("awp", 2), ("augmentation", 2), ("extra_data", 2)):
        assert len({settings[axis] for settings in runs}) == size
    assert plan["axes"] == list(plan["study"]["axes"])


def test_the_full_grid_has_the_papers_recipe():
    plan = planned("cifar10")
    assert (plan["study"]["eps"], plan["study"]["norm"], plan["study"]["data"]) == ("8/255", "Linf", "cifar10")
    recipe = {"epochs": 200, "lr": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "activation": "relu", "width": 0}
    constants = {"trades_beta": {6.0, "NA"}, "mart_beta": {5.0, "NA"}, "awp_gamma": {0.005, "NA"}}
    for run in plan["runs"].values():
        assert {key: run["settings"][key] for key in recipe} == recipe
        assert all(run["settings"][key] in values for key, values in constants.items())
    wide = [run for run in plan["runs"].values() if run["settings"]["architecture"].startswith("wrn")]
    assert len(wide) == 2 * 224


def test_the_small_grid_is_a_full_factorial():
    """Each axis has a psi cell for every combination of the others."""
    plan = planned("cifar10-small")
    axes = {axis: len(values) for axis, values in plan["study"]["axes"].items()}
    found = {tuple(run["settings"][axis] for axis in axes) for run in plan["runs"].values()}
    assert len(found) == math.prod(axes.values()) == 48 and plan["axes"] == list(axes)
    assert all(run["settings"]["extra_data"] == "none" for run in plan["runs"].values())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_chunk_has_models_and_every_run_one_batch(name: str):
    plan = planned(name)
    in_batches = [run for batch in plan["batches"].values() for run in batch]
    assert sorted(in_batches) == sorted(plan["runs"])
    assert {entry["chunk"] for entry in plan["models"].values()} == set(plan["chunks"])
    for entry in plan["models"].values():
        assert entry["source"] != "grid" or entry["chunk"] == plan["runs"][entry["run"]]["chunk"]


def test_exclusions_are_counted_in_trainings_and_the_first_that_matches_counts():
    rules = [
        {"where": {"defense": "TRADES", "inner_steps": 1}, "reason": "does not converge"},
        {"where": {"defense": ["AT", "TRADES"], "batch_size": 128}, "reason": "too large"},
    ]
    plan = open_plan(study(exclude=rules), "small")
    assert [rule["count"] for rule in plan["excluded"]] == [2 * 2, (2 + 1) * 2]
    assert [rule["reason"] for rule in plan["excluded"]] == ["does not converge", "too large"]
    assert len(plan["runs"]) == 20 - 4 - 6
    assert not any(
        run["settings"]["defense"] == "TRADES" and run["settings"]["inner_steps"] == 1 for run in plan["runs"].values()
    )


def test_na_can_be_excluded_and_matches_only_itself():
    plan = open_plan(study(exclude=[{"where": {"inner_steps": "NA"}, "reason": "no attack"}]), "small")
    assert plan["excluded"][0]["count"] == 4
    assert {run["settings"]["defense"] for run in plan["runs"].values()} == {"AT", "TRADES"}


def test_an_axis_left_with_one_value_is_no_axis():
    plan = open_plan(study(exclude=[{"where": {"batch_size": 128}, "reason": "memory"}]), "small")
    assert plan["axes"] == ["defense", "inner_steps"]


def test_models_trained_elsewhere_need_no_training():
    plan = planned("robustbench")
    assert plan["runs"] == {} and plan["batches"] == {} and plan["axes"] == []
    entry = plan["models"]["rb-cifar10-Linf-Wong2020Fast"]
    assert (entry["source"], entry["name"]) == ("robustbench", "Wong2020Fast")
    jobs = Jobs(plan)
    assert jobs.manifests(SimpleNamespace(chunk=entry["chunk"])) == []
    assert f"<results>/outcomes/{entry['chunk']}.parquet" in jobs.foreign_files()


def test_a_number_has_one_spelling():
    assert open_plan(study(**{"settings.lr": 1}), "s")["runs"] == open_plan(study(**{"settings.lr": 1.0}), "s")["runs"]
    assert open_plan(study(eps=0.15), "s")["runs"] == open_plan(study(eps="3/20"), "s")["runs"]
    whole = open_plan(study(seeds=[0, 1], **{"settings.epochs": 6}), "s")["runs"]
    assert open_plan(study(seeds=[0.0, 1.0], **{"settings.epochs": 6.0}), "s")["runs"] == whole


def test_the_plan_is_written_whole_and_resolving_its_study_gives_it_again(tmp_path):
    out = tmp_path / "results" / "plan.json"
    assert grid.main(["workflow/config/digits-tiny.yaml", "--out", str(out)]) == 0
    plan = json.loads(out.read_text())
    assert plan == planned("digits-tiny") == open_plan(plan["study"], "again")
    assert [file.name for file in out.parent.iterdir()] == ["plan.json"]


def test_nothing_left_to_train_is_an_error():
    everything = [{"where": {"batch_size": [32, 128]}, "reason": "all of it"}]
    with pytest.raises(StudyError, match="small: axes: every combination is excluded"):
        open_plan(study(exclude=everything), "small")


def test_planning_imports_no_torch():
    code = (
        "import sys; sys.argv = ['grid', 'workflow/config/digits.yaml'];"
        "from robustgap.workflow import grid, jobs; grid.main(sys.argv[1:]);"
        "print(sorted({'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
