"""Gradient masking: planted networks are flagged, honest ones are not; evaluate, outcomes and report tell it."""

import pytest
import torch
from masked import EPS, Behind, digits, trained
from planted import judged

from robustgap.analysis.words import FLAGS
from robustgap.measures import evaluate
from robustgap.training import attacks
from robustgap.training.jobs.outcome_table import outcome_rows
from robustgap.training.jobs.outcomes import model_outcomes
from robustgap.training.masking import GRADIENT_MASKING, gradient_masking
from robustgap.training.modes import frozen

PLANTED = {
    "rounding": (lambda net, x: net((8 * x).round() / 8), "the input gradient of 100% of images is 0"),
    "detached": (lambda net, x: net(x.detach()), "the input gradient of 100% of images is 0"),
    "sharp": (lambda net, x: 1e4 * net(x), "% of images is 0; PGD raises the loss of only"),
    "softmax": (lambda net, x: net(x).softmax(dim=1), "outputs are probabilities, not logits"),
    "random": (lambda net, x: net(x + 0.05 * torch.rand_like(x)), "100% of images changes from call to call"),
}


def masking(model, n=100):
    (x, y), index = digits(n), torch.arange(n)
    noise = attacks.start(x, index, seed=0, eps=EPS, norm="Linf", stream=attacks.EVALUATION_START)
    try:
        with frozen(model):
            adversarial = attacks.pgd(model, x, y, eps=EPS, noise=noise)
    except RuntimeError:  # no gradient at all
        adversarial = None
    return gradient_masking(model, x, y, index, adversarial, eps=EPS, norm="Linf")


@pytest.fixture(scope="module")
def network():
    return trained("AT", 10)


@pytest.mark.parametrize("planted", PLANTED)
def test_planted_networks_are_flagged_with_what_was_seen(planted, network):
    hidden, told = PLANTED[planted]
    assert told in masking(Behind(network, hidden).eval()).evidence


@pytest.mark.parametrize(("defense", "epochs"), [("Standard", 1), ("Standard", 60), ("AT", 10)])
def test_honest_networks_are_not_flagged_however_sure_they_are(defense, epochs):
    found = masking(trained(defense, epochs))
    assert found.evidence == ""
    assert found.zero == found.sums == found.random == 0 and found.idle < 0.05


def test_a_constant_hides_nothing(network):
    assert masking(Behind(network, lambda net, x: 0 * net(x) + torch.eye(10)[3]).eval()).evidence == ""


def test_each_sign_is_the_share_of_images_that_shows_it(network):
    """The upper half of the images, by their first pixel, is cut off from its gradient or turned into probabilities."""
    x, y = digits(40)
    x[:, 0, 0, 0] = torch.arange(40) / 40
    upper = lambda z: (z[:, 0, 0, 0] >= 0.75)[:, None]  # noqa: E731
    index = torch.arange(40)
    cut = Behind(network, lambda net, z: torch.where(upper(z), net(z.detach()), net(z))).eval()
    sums = Behind(network, lambda net, z: torch.where(upper(z), net(z).softmax(dim=1), net(z))).eval()
    given = {"eps": EPS, "norm": "Linf"}
    assert gradient_masking(cut, x, y, index, None, **given).zero == 0.25
    found = gradient_masking(sums, x, y, index, None, **given)
    assert found.sums == 0.25 and found.evidence == ""
    start = attacks.project(
        x, x + attacks.start(x, index, seed=0, eps=EPS, norm="Linf", stream=attacks.EVALUATION_START), EPS, "Linf"
    )
    with frozen(network):
        adversarial = attacks.pgd(network, x, y, eps=EPS, noise=start - x)
    adversarial[:10] = start[:10]
    assert gradient_masking(network, x, y, index, adversarial, **given).idle == 0.25


@pytest.mark.parametrize("planted", ["rounding", "sharp", "softmax"])
def test_evaluate_notes_it_beside_every_value_of_images(planted, network):
    hidden, told = PLANTED[planted]
    x, y = digits(60)
    table = evaluate(Behind(network, hidden).eval(), x, y, ["x_grad_norm", "average_ce", "num_params"], eps=EPS)
    of_images = table[table["variant"] != "none"]["reason"]
    assert (of_images.str.startswith("note: gradient masking: ") & of_images.str.contains(told, regex=False)).all()
    assert (evaluate(network, x, y, ["x_grad_norm", "average_ce"], eps=EPS)["reason"] == "").all()


def test_outcomes_store_it_and_the_report_has_words_for_it(tmp_path, monkeypatch):
    plan, results, models, table = judged(tmp_path)
    assert not table["flags"].str.contains(GRADIENT_MASKING).any()  # honest networks
    name, model = next(iter(models.items()))
    for cached in (results / "outcomes" / "models").glob(f"{name}.*"):
        cached.unlink()
    hidden, told = PLANTED["rounding"]
    monkeypatch.setattr(
        "robustgap.training.jobs.outcomes.load_planned_model", lambda *given: Behind(model, hidden).eval()
    )
    (made,) = model_outcomes(plan, results, name, "cpu")
    (kept,) = model_outcomes(plan, results, name, "cpu")  # from the cache
    assert str(made[1:]) == str(kept[1:]) and told in made.signs["pgd10"]
    rows = {(row["split"], row["attack"]): row for row in outcome_rows(plan, name, *kept)}
    assert GRADIENT_MASKING in rows["train", "pgd10"]["flags"].split(";")
    assert rows["train", "pgd10"]["reason"] == made.signs["pgd10"]
    assert [row["reason"] for key, row in rows.items() if key != ("train", "pgd10")] == [""] * (len(rows) - 1)
    assert FLAGS[GRADIENT_MASKING].models and FLAGS[GRADIENT_MASKING].reason
