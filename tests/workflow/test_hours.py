"""What a plan says of itself before it runs: the summary, and an estimate of the time it takes."""

import pytest
from studies import study

from robustgap.measures._code import names
from robustgap.training.facts import DATA_SET_FACTS, DEFENSE_FACTS, NETWORK_FACTS
from robustgap.training.settings import complete
from robustgap.workflow.estimate import hours
from robustgap.workflow.grid import open_plan


def test_the_summary_tells_what_is_planned_and_what_is_left_out():
    rules = [{"where": {"batch_size": 128}, "reason": "memory"}]
    text = hours.plan_summary(open_plan(study(exclude=rules), "small"), [("disk", "1 MB")])
    assert "trainings       10 (2 seeds)" in text
    assert "models          20 (20 of the grid, 0 trained elsewhere)" in text
    assert "5 (2 more cells coincide with these)" in text
    assert "10 trainings, {'batch_size': 128}: memory" in text
    assert text.endswith("\ndisk            1 MB")
    assert "one core" in text and "an estimate, from times measured on one CPU core" in text


def test_the_estimate_grows_with_the_work():
    def total(**changes: object) -> float:
        return sum(hours.hours_by_stage(open_plan(study(**changes), "s")).values())

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
        assert hours.step_passes(settings) == pytest.approx(expected), defense
    assert hours.step_passes(complete({"awp": True})) == pytest.approx(9)
    assert hours.step_passes(complete({"grad_align": 0.2})) == pytest.approx(12)
    assert hours.step_passes(complete({"sam": "ASAM"})) == pytest.approx(9)


def test_measures_cost_what_each_of_them_does_and_share_it_in_one_job():
    assert hours.measure_passes(["num_params"], together=False) == hours.LIGHT
    assert hours.measure_passes(["boundary_thickness", "clever"], together=True) == 125 + 75
    twins = ["pacbayes_flat", "pacbayes_init", "pacbayes_orig"]
    assert hours.measure_passes(twins, together=False) == 3 * hours.measure_passes(twins, together=True) == 3 * 90
    assert hours.measure_passes(twins[1:], together=True) == 2 * 90  # nothing is there to share
    assert set(hours.MEASURE_PASSES) | set(hours.SHARED_PASSES) <= set(names())


def test_a_batch_that_is_not_full_costs_as_much_before_its_first_image():
    one = NETWORK_FACTS["mlp"].passes[8]
    assert hours.cpu_seconds("digits", "mlp", 256, 512, 1) == pytest.approx(one.fixed + 256 * one.image)


def test_the_estimate_of_a_training_is_near_one_that_was_timed():
    """AT with batches of 128, seconds of CPU time of one epoch: measured once (November 2026, AVX-512)."""
    for architecture, width, timed in (
        ("mlp", 256, 0.091),
        ("mlp", 128, 0.049),
        ("cnn", 16, 0.377),
        ("resnet18", 0, 16.2),
    ):
        settings = complete({"data": "digits", "architecture": architecture, "width": width, "epochs": 1})
        assert timed / 2 <= hours.training_seconds(settings, hours.cpu_seconds, hours.cpu_seconds) <= timed * 2, (
            architecture
        )


def test_every_data_set_and_architecture_has_an_estimate():
    for data in DATA_SET_FACTS:
        for architecture in NETWORK_FACTS:
            assert hours.cpu_seconds(data, architecture, 100, 10, 1) > 0
    for defense in DEFENSE_FACTS:
        assert hours.step_passes(complete({"defense": defense})) >= 1
