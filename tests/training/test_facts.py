"""Every plugin has its entry of facts and every entry its plugin; both is all that a new one takes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from linear_attacks import Linear, batch, inner
from trees import ROOT

from robustgap.training.data.augment import AUGMENTATIONS
from robustgap.training.data.datasets import DATASETS, load
from robustgap.training.data.extra_sets import READERS
from robustgap.training.defenses import DEFENSES
from robustgap.training.facts import (
    ATTACK_FACTS,
    DATA_SET_FACTS,
    DEFENSE_FACTS,
    EXTRA_SET_FACTS,
    NETWORK_FACTS,
    DefenseFacts,
)
from robustgap.training.networks.architectures import ACTIVATIONS, ARCHITECTURES
from robustgap.training.outcome_attacks import OUTCOME_ATTACKS
from robustgap.training.registry import Plugins
from robustgap.training.schedules import SCHEDULES
from robustgap.training.settings import DEFAULTS, SETTINGS, complete

PLUGINS = [
    (DATASETS, DATA_SET_FACTS),
    (ARCHITECTURES, NETWORK_FACTS),
    (DEFENSES, DEFENSE_FACTS),
    (OUTCOME_ATTACKS, ATTACK_FACTS),
]


@pytest.mark.parametrize(("registry", "facts"), PLUGINS, ids=lambda table: getattr(table, "kind", ""))
def test_plugins_and_facts_have_the_same_names(registry, facts):
    assert sorted(registry) == sorted(facts)
    for name, entry in facts.items():
        assert registry[name].__module__ == entry.module and entry.about


def test_names_without_facts_of_their_own_are_those_of_the_registries():
    for key, names in (("activation", ACTIVATIONS), ("augmentation", AUGMENTATIONS), ("schedule", SCHEDULES)):
        assert sorted(SETTINGS[key].rule["enum"]) == sorted(names)
    assert sorted(READERS) == sorted(EXTRA_SET_FACTS)


def test_a_plugin_without_facts_and_facts_without_a_plugin_are_each_one_line():
    table = Plugins("defense", {"Mine": DefenseFacts("", (), module="mine")})
    with pytest.raises(LookupError, match=r"defense 'Yours': found no entry of facts, wanted one in"):
        table.register("Yours")(lambda settings: None)
    with pytest.raises(LookupError, match=r"defense 'Mine': found an entry .* alone, wanted .* mine$"):
        table["Mine"]
    with pytest.raises(LookupError, match="defense 'Min' is unknown"):
        table["Min"]


def test_facts_that_name_no_module_are_one_line():
    table = Plugins("defense", {"Mine": DefenseFacts("", (), module="robustgap.training.nowhere")})
    found = "training/facts.py: defense 'Mine': found no module robustgap.training.nowhere, wanted its function there"
    with pytest.raises(LookupError, match=found):
        table.load()


def test_settings_of_defenses_are_settings_and_apply_where_their_facts_say():
    keys = {key for facts in DEFENSE_FACTS.values() for key in facts.settings}
    assert keys <= set(DEFAULTS)
    for name, facts in DEFENSE_FACTS.items():
        settings = complete({"defense": name})
        assert {key for key in keys if settings[key] != "NA"} == set(facts.settings)


class Recording(dict):
    """Settings that know which of them were read."""

    def __init__(self, settings):
        super().__init__(settings)
        self.read = set()

    def __getitem__(self, key):
        self.read.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("name", DEFENSE_FACTS)
def test_the_settings_of_a_defense_are_those_that_it_reads(name):
    """Replays are read by the batches, and steps by the attack, whose number of steps tells where facts say so."""
    elsewhere = {"inner_steps", "free_replays"}
    settings = Recording(complete({"defense": name}))
    defense = DEFENSES[name](settings)
    keys = {key for facts in DEFENSE_FACTS.values() for key in facts.settings} - elsewhere
    assert settings.read & keys == set(DEFENSE_FACTS[name].settings) - elsewhere
    assert (name == "FreeAT") == ("free_replays" in DEFENSE_FACTS[name].settings)
    (x, y, index), model = batch(8), Linear().eval()
    attacks = (replace(inner(index, steps), carried=torch.zeros_like(x)) for steps in (1, 3))
    once, often = (defense.adversary(model, x, y, attack) for attack in attacks)
    assert torch.equal(once, often) != ("inner_steps" in DEFENSE_FACTS[name].settings)


def test_split_sizes_are_those_of_the_data():
    sizes = {"train": 500, "val": 100, "test": 897, "extra": 300}
    for name in ("digits", "digits32"):
        splits, facts = load(name), DATA_SET_FACTS[name]
        assert {part: len(getattr(splits, part)) for part in sizes} == sizes
        assert {part: getattr(facts, part) for part in sizes} == sizes
        assert (splits.channels, splits.size, splits.num_classes) == (facts.channels, facts.side, facts.classes)
        assert splits.train.images[0].numel() == facts.values
    published = {  # training and test images, as their authors count them
        "cifar10": (50_000, 10_000),
        "cifar100": (50_000, 10_000),
        "svhn": (73_257, 26_032),
        "mnist": (60_000, 10_000),
        "fashion_mnist": (60_000, 10_000),
        "tiny_imagenet": (100_000, 10_000),
    }
    assert set(published) < set(DATA_SET_FACTS)
    for name, (train, test) in published.items():
        facts = DATA_SET_FACTS[name]
        assert (facts.train, facts.val, facts.test, facts.extra) == (train - train // 50, train // 50, test, 0), name
    assert DATA_SET_FACTS["cifar10"].val == 1000


ENTRIES = """
from robustgap.training import facts
facts.DEFENSE_FACTS["Mine"] = facts.DefenseFacts("clean images", ("inner_steps",), passes=3, module="my_defense")
facts.NETWORK_FACTS["mine"] = facts.NetworkFacts("one layer", 0, lambda width, data: data.values * 2 + 2, "my_network")
facts.DATA_SET_FACTS["squares"] = facts.DataSetFacts("noise", 1, 4, 2, 40, 20, 20, module="my_data")
"""
PLANNED = """
import json, sys
from robustgap.workflow.estimate import disk, hours
from robustgap.workflow.generated import readme_text, README
from robustgap.workflow.grid import open_plan
settings = {"architecture": "mine", "defense": "Mine", "epochs": 2, "inner_steps": 1, "batch_size": 8}
study = {"study": "s", "data": "squares", "eps": "1/10", "axes": {key: [value] for key, value in settings.items()},
         "outcomes": {"attacks": ["clean", "pgd10"]}, "measures": ["average_ce"], "measure_images": 8}
plan = open_plan(study, "s")
assert hours.step_passes(next(iter(plan["runs"].values()))["settings"]) == 3 + hours.ATTACK_STEP
assert disk.bytes_by_kind(plan)["training"] == 4 * 3 * (16 * 2 + 2) and "squares, Linf" in hours.plan_summary(plan, [])
text = readme_text(README.read_text(encoding="utf-8"))
assert all(f"| `{name}` |" in text for name in ("squares", "mine", "Mine"))
assert "torch" not in sys.modules
"""
TRAINED = """
from pathlib import Path
import torch
from robustgap.training.jobs.plan import splits_of
from robustgap.training.jobs.run import train_run
(run, entry), = plan["runs"].items()
record = train_run(entry["settings"], splits_of(plan["study"]), None, Path("runs") / run, torch.device("cpu"))
assert (record["run"], record["epochs"]) == (run, 2), record
"""
FILES = {
    "my_defense": """
from robustgap.training.defenses import DEFENSES, Defense, cross_entropy
@DEFENSES.register("Mine")
def mine(settings):
    def loss(model, x, x_adv, y):
        return cross_entropy(model(x_adv), y)
    return Defense(lambda model, x, y, attack: attack(model, x, y), loss)
""",
    "my_network": """
from torch import nn
from robustgap.training.networks.architectures.common import ARCHITECTURES
@ARCHITECTURES.register()
def mine(num_classes, in_channels, *, width=0, image_size=4, activation="relu"):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))
""",
    "my_data": """
import torch
from robustgap.training.data.datasets import DATASETS
from robustgap.training.data.splits import Splits, stratified_cut
@DATASETS.register()
def squares(root=None):
    labels = torch.arange(80) % 2
    images = torch.full((80, 1, 4, 4), 100, dtype=torch.uint8) + 50 * labels.to(torch.uint8)[:, None, None, None]
    images[:, 0, 0] = torch.arange(80, dtype=torch.uint8)[:, None]
    parts = stratified_cut(images, labels, {"train": 40, "val": 20, "test": 20})
    return Splits(name="squares", extra=None, levels=255, num_classes=2, **parts)
""",
}


def test_a_file_and_an_entry_of_facts_are_all_that_a_new_defense_network_or_data_set_takes(tmp_path: Path):
    for name, code in FILES.items():
        (tmp_path / f"{name}.py").write_text(code)
    (tmp_path / "all.py").write_text(ENTRIES + PLANNED + TRAINED)
    ran = subprocess.run(
        [sys.executable, "all.py"], cwd=tmp_path, env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
