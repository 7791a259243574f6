"""Entries of `outcomes.attacks`: ids, what is left out of them, lists, and one line for each fault."""

import pytest
from studies import study

from robustgap.analysis.outcome_names import OutcomeId, columns_of, resolved
from robustgap.training.jobs.outcome_id import base_outcomes, of_entry
from robustgap.workflow.outcomes import OutcomeError, outcome_columns, outcome_plan, outcomes_of, study_outcomes
from robustgap.workflow.study import resolve
from robustgap.workflow.study_faults import StudyError

THREAT = {"norm": "Linf", "eps": "8/255"}


def ids(*entries, **change):
    full = resolve(study(**{"outcomes.attacks": ["clean", "pgd10", *entries], **change}), "s")
    return [outcome.id for outcome in study_outcomes(full)][2:]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("fgsm", ["fgsm"]),
        ("pgd10@Linf:4/255", ["pgd10@Linf:4/255"]),
        ("pgd10@L2:0.50", ["pgd10@L2:1/2"]),
        ("fgsm@Linf:16/510", ["fgsm"]),  # the study's own
        ({"attack": "pgd10", "eps": [0, "2/255", 0.5]}, ["pgd10@Linf:0", "pgd10@Linf:2/255", "pgd10@Linf:1/2"]),
        ({"attack": "fgsm", "norm": "L2", "eps": 1}, ["fgsm@L2:1"]),
    ],
)
def test_ids_leave_out_what_the_study_says(entry, expected):
    assert ids(entry, eps="8/255") == expected
    for text in expected:  # an id is an entry, of the same outcome
        assert ids(text, eps="8/255") == [text]


def test_a_plan_groups_the_eps_of_an_attack_and_leaves_out_what_all_models_need():
    attacks = ["clean", "pgd10", "pgd10@Linf:1/5", "fgsm", "pgd10@Linf:1/4", "pgd10@L2:1/4"]
    full = resolve(study(**{"outcomes.attacks": attacks}), "s")
    plan = outcome_plan(full, [])
    assert {group: [entry["id"] for entry in entries] for group, entries in plan.items()} == {
        "pgd10": ["pgd10@Linf:1/5", "pgd10@Linf:1/4"],
        "fgsm": ["fgsm"],
        "pgd10-L2": ["pgd10@L2:1/4"],
    }
    for entries in plan.values():
        for entry in entries:
            assert of_entry(entry, full).as_entry() == entry
    assert [outcome.id for outcome in base_outcomes(full)] == ["clean", "pgd10"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("pgd", r"attack: found 'pgd', wanted one of .*, did you mean 'pgd10'\?"),
        ("pgd10@", "found 'pgd10@', wanted ATTACK"),
        ("pgd10@L1:1", "norm: found 'L1', wanted Linf or L2 for pgd10"),
        ("pgd10@Linf:2", "eps: found 2, wanted at most 1"),
        ("pgd10@Linf:x", "eps: found 'x', wanted a number or a fraction"),
        ({"attack": "pgd10", "norm": "L2"}, "eps: missing, wanted with the norm L2"),
        ("fgsm>3", "target: found '3', but fgsm has none"),
        ("fgsm+steps=3", "options.steps: fgsm has no such option"),
        ("pgd10", "found 'pgd10' twice"),
        ({"attack": "fgsm", "eps": [0.1, "1/10"]}, "found 'fgsm@Linf:1/10' twice"),
        (
            {"attack": "corruption", "eps": 1, "options": {"kind": []}},
            "options.kind: found nothing, wanted at",
        ),
        ({"attack": "fgsm", "images": 501}, "images: found 501, wanted at most 500, the study's train images"),
        ({"attack": "fgsm", "checkpoints": ["best"]}, "checkpoints: found 'best', wanted last, the study's"),
    ],
)
def test_each_fault_names_the_entry_and_the_key(entry, message):
    full = resolve(study(eps="8/255", checkpoints=["last"]), "s")
    full["outcomes"]["attacks"] = ["clean", "pgd10", entry]
    with pytest.raises(OutcomeError, match=rf"^outcomes\.attacks\[2\](\.|: ){message}"):
        study_outcomes(full)


def test_what_all_models_need_has_no_limits():
    full = resolve(study(), "s")
    full["outcomes"]["attacks"] = ["clean", {"attack": "pgd10", "images": 5}]
    with pytest.raises(OutcomeError, match=r"outcomes.attacks\[1\].images: found with pgd10, wanted all"):
        study_outcomes(full)


def test_the_source_of_transferred_examples_is_a_model_of_the_study():
    attacks = ["clean", "pgd10", {"attack": "transfer", "options": {"source": "abc-last,abc-best"}}]
    full = resolve(study(**{"outcomes.attacks": attacks}), "s")
    (group,) = outcome_plan(full, ["abc-last", "abc-best"])
    assert group == "transfer-source=abc-last-abc-best"
    with pytest.raises(OutcomeError, match="found no model 'abc-best' in the study, did you mean 'abc-last'"):
        outcome_plan(full, ["abc-last"])
    full["outcomes"]["attacks"][2] = "transfer"
    with pytest.raises(OutcomeError, match=r"attacks\[2\].options.source: missing, transfer needs it"):
        study_outcomes(full)


def test_lists_are_multiplied_and_limits_go_along():
    entry = {"attack": "fgsm", "eps": [0.1, 0.2], "images": {"train": 7.0}, "checkpoints": ["last"]}
    made = list(outcomes_of(entry, {**study(), **THREAT}))
    assert [outcome.eps for outcome in made] == ["1/10", "1/5"]
    assert {(o.train_images, o.test_images, o.checkpoints) for o in made} == {(7, None, ("last",))}
    assert all(isinstance(outcome.train_images, int) for outcome in made)


def test_any_outcome_can_be_asked_about():
    for asked in ("gap:fgsm@L2:1/2", "gap_pgd10_rest", "train:pgd10", "test:fgsm@L2:1/2", "loss_clean_test"):
        ids("fgsm@L2:1/2", **{"analysis.outcome": asked})
        assert asked in outcome_columns(["clean", "pgd10", "fgsm@L2:1/2"])


def test_a_measure_or_a_number_of_the_training_log_can_be_asked_about_too():
    for asked in ("average_ce", "average_ce.adv", "train_loss", "pgd10_val"):
        ids(**{"analysis.outcome": asked, "measures": ["average_ce"]})
    ids(**{"analysis.outcome": "path_norm", "measures": "all"})
    with pytest.raises(StudyError, match=r"analysis\.outcome: found 'path_norm', wanted a gap, an accuracy or"):
        ids(**{"analysis.outcome": "path_norm", "measures": ["average_ce"]})


ENTRIES = ["pgd10@Linf:1/4", "fgsm@L2:1/2", "targeted_pgd>3", "corruption@severity:2+kind=contrast", "square+batch=50"]


def test_analysis_reads_the_ids_and_columns_that_a_plan_writes():
    """Both write down their form, since neither imports the other."""
    full = resolve(study(**{"outcomes.attacks": ["clean", "pgd10", *ENTRIES]}), "s")
    outcomes = study_outcomes(full)
    assert [outcome.id for outcome in outcomes] == ["clean", "pgd10", *ENTRIES]
    for outcome in outcomes:
        read, own = OutcomeId.read(outcome.id), (outcome.norm, outcome.eps) == (full["norm"], full["eps"])
        assert (read.attack, read.target, read.options) == (outcome.attack, outcome.target, outcome.options)
        assert (read.norm, read.eps) == (("", "") if own else (outcome.norm, outcome.eps))
        columns = columns_of(outcome.id, losses=True)
        assert {resolved(name, columns, "") for name in outcome_columns([outcome.id])} == set(columns)
