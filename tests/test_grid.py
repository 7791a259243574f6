"""From a study to runs, models and jobs: counts by hand, exclusions, and what adding something leaves alone."""

import json
import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
from studies import study
from trees import ROOT

from training.settings import complete, run_id
from workflow import cost, grid
from workflow.faults import StudyError, schema
from workflow.grid import open_plan
from workflow.jobs import Jobs
from workflow.study import IMAGES, read

CONFIGS = sorted(file.stem for file in (ROOT / "workflow" / "config").glob("*.yaml") if file.stem != "schema")


def config(name: str) -> dict:
    return read(ROOT / "workflow" / "config" / f"{name}.yaml")


def planned(name: str) -> dict:
    return open_plan(config(name), name)


def digests(plan: dict) -> dict[str, str]:
    """Every digest that a rule is given, by job."""
    jobs = Jobs(plan)
    train = {f"train {batch}": jobs.batch_digest(SimpleNamespace(batch=batch)) for batch in plan["batches"]}
    chunks = {f"chunk {chunk}": jobs.chunk_digest(SimpleNamespace(chunk=chunk)) for chunk in plan["chunks"]}
    return {**train, **chunks, "data": jobs.data_digest()}


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
        ("digits", 64, 128),
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
    assert len(plan["runs"]) // len(plan["study"]["seeds"]) >= 30
    assert len(plan["study"]["measures"]) <= 20
    assert plan["axes"] == ["defense", "batch_size", "awp", "augmentation"]


def test_the_whole_catalogue_is_measured_on_the_models_of_the_default_study():
    plan, default = planned("digits-measures"), planned("digits")
    assert plan["models"] == default["models"]
    same = ("data", "norm", "eps", "measure_images", "outcomes")
    assert [plan["study"][key] for key in same] == [default["study"][key] for key in same]
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


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": [0, 1, 2]},
        {"axes.batch_size": [32, 64, 128]},
        {"axes.awp": [False, True]},
        {"checkpoints": ["last"]},
        {"measures": ["average_ce", "prob_margin"]},
        {"analysis": {"draws": 500}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_adding_renames_no_run_and_touches_only_the_jobs_it_adds_to(changes: dict):
    old, new = open_plan(study(chunks=50), "small"), open_plan(study(chunks=50, **changes), "small")
    assert set(old["runs"]) <= set(new["runs"])
    assert all(old["runs"][run] == new["runs"][run] for run in old["runs"])
    added = set(new["runs"]) - set(old["runs"])
    touched = {new["runs"][run]["chunk"] for run in added}
    before, after = digests(old), digests(new)
    if changes.keys() == {"checkpoints"}:  # fewer models, the same trainings
        touched_jobs = {f"chunk {chunk}" for chunk in old["chunks"]}
    else:
        touched_jobs = {f"{kind} {chunk}" for chunk in touched for kind in ("train", "chunk")}
    assert {job for job in before if before[job] != after[job]} == touched_jobs & set(before)


def test_reordering_axes_or_values_changes_no_job():
    turned = study(**{"axes.defense": ["TRADES", "Standard", "AT"], "seeds": [1, 0]})
    turned["axes"] = dict(reversed(turned["axes"].items()))
    assert digests(open_plan(turned, "small")) == digests(open_plan(study(), "small"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("eps", "1/10"),
        ("norm", "L2"),
        ("measure_images", 100),
        ("outcomes.test_images", 10),
        ("outcomes.attacks", ["clean", "fgsm", "pgd10"]),
    ],
)
def test_what_outcomes_depend_on_touches_every_chunk(key: str, value: object):
    before, after = digests(open_plan(study(), "small")), digests(open_plan(study(**{key: value}), "small"))
    assert not {(job, digest) for job, digest in before.items() if job.startswith("chunk")} & set(after.items())


def test_the_batch_size_of_evaluation_touches_nothing():
    assert digests(open_plan(study(**{"outcomes.batch_size": 7}), "s")) == digests(open_plan(study(), "s"))


def test_asking_for_the_extra_pool_makes_the_data_again():
    asked = study(**{"axes.extra_data": ["none", "pool"]})
    assert digests(open_plan(asked, "s"))["data"] != digests(open_plan(study(), "s"))["data"]


def test_one_job_per_run_when_asked():
    plan = open_plan(study(train_jobs="run"), "small")
    assert plan["batches"] == {run: [run] for run in sorted(plan["runs"])}
    chunk = plan["chunks"][0]
    wanted = sorted(f"<results>/runs/{run}.json" for run, entry in plan["runs"].items() if entry["chunk"] == chunk)
    assert sorted(Jobs(plan).manifests(SimpleNamespace(chunk=chunk))) == wanted


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


def test_the_summary_tells_what_is_planned_and_what_is_left_out():
    rules = [{"where": {"batch_size": 128}, "reason": "memory"}]
    text = cost.summary(open_plan(study(exclude=rules), "small"), [("disk", "1 MB")])
    assert "trainings       10 (2 seeds)" in text
    assert "models          20 (20 of the grid, 0 trained elsewhere)" in text
    assert "5 (2 more cells coincide with these)" in text
    assert "10 trainings, {'batch_size': 128}: memory" in text
    assert text.endswith("\ndisk            1 MB")
    assert "one core" in text and "an estimate, from times measured on one CPU core" in text


def test_the_estimate_grows_with_the_work():
    def total(**changes: object) -> float:
        return sum(cost.hours(open_plan(study(**changes), "s")).values())

    assert total(**{"settings.epochs": 8}) > total()
    assert total(**{"settings.awp": True}) > total()
    assert total(**{"settings.extra_data": "pool"}) > total()
    assert total(measures=["average_ce", "prob_margin"]) > total()


def test_a_step_is_counted_in_passes():
    """Forward and backward through the network is one pass, a step of an attack 0.7 of it."""
    passes = {
        ("Standard", None): 1,
        ("AT", 10): 8,
        ("AT", 1): 1.7,
        ("TRADES", 10): 9,
        ("FGSM-RS", None): 1.7,
        ("ALP", 2): 3.4,
        ("FreeAT", None): 1,
    }
    for (defense, steps), expected in passes.items():
        settings = complete({"defense": defense, "inner_steps": steps or 10})
        assert cost.step_passes(settings) == pytest.approx(expected), defense
    assert cost.step_passes(complete({"awp": True})) == pytest.approx(9)
    assert cost.step_passes(complete({"grad_align": 0.2})) == pytest.approx(12)
    assert cost.step_passes(complete({"sam": "ASAM"})) == pytest.approx(9)


def test_every_data_set_and_architecture_has_an_estimate():
    for data in IMAGES:
        for architecture in schema()["properties"]["settings"]["properties"]["architecture"]["enum"]:
            assert cost.seconds(data, architecture, 100, 10, 1) > 0
    for defense in schema()["properties"]["settings"]["properties"]["defense"]["enum"]:
        assert cost.step_passes(complete({"defense": defense})) >= 1


def test_planning_imports_no_torch():
    code = (
        "import sys; sys.argv = ['grid', 'workflow/config/digits.yaml'];"
        "from workflow import grid, jobs; grid.main(sys.argv[1:]);"
        "print(sorted({'torch', 'numpy', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
