"""What follows from facts and settings is in the schema and the README, also for those who read the files alone."""

import jsonschema
import yaml
from studies import study

from robustgap.training.facts import DATA_SET_FACTS, EXTRA_SET_FACTS, NORMS
from robustgap.training.settings import CHECKPOINTS, DEFAULTS
from robustgap.workflow import generated
from robustgap.workflow.study_faults import schema

RENEW = "wanted what `python -m robustgap.workflow.generated` writes"


def test_schema_and_readme_are_as_generated():
    for file, renewed in generated.WRITTEN.items():
        text = file.read_text(encoding="utf-8")
        assert renewed(text) == text, f"{file}: {RENEW}"


def test_an_editor_that_reads_the_file_sees_the_whole_schema():
    alone = yaml.safe_load(generated.SCHEMA.read_text(encoding="utf-8"))
    assert alone == schema()
    validator = jsonschema.Draft202012Validator(alone)
    validator.check_schema(alone)
    assert validator.is_valid(study())
    assert not validator.is_valid(study(data="digit")) and not validator.is_valid(study(**{"axes.lr": [0]}))


def test_the_schema_lists_every_setting_and_every_name():
    top = schema()["properties"]
    settings, axes = top["settings"]["properties"], top["axes"]["properties"]
    assert set(settings) == set(axes) == set(DEFAULTS) - {"data", "norm", "eps", "seed"}
    assert all(axes[key]["items"] == settings[key] for key in settings)
    assert top["data"]["enum"] == list(DATA_SET_FACTS)
    assert settings["extra_data"]["enum"] == ["none", "pool", *EXTRA_SET_FACTS]
    assert list(top["extra_sha256"]["properties"]) == list(EXTRA_SET_FACTS)
    assert tuple(top["norm"]["enum"]) == NORMS
    assert tuple(top["checkpoints"]["items"]["enum"]) == CHECKPOINTS
