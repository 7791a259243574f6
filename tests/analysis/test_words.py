"""Nothing reaches a reader under the name that only code knows: every flag, attack and norm has its words."""

import yaml
from trees import ROOT

from robustgap.analysis import words
from robustgap.analysis.ledger import ATTACKS, BEST_IS_LAST
from robustgap.analysis.ledger.origins import OTHER_ARITHMETIC
from robustgap.analysis.models import flags
from robustgap.training.divergence import DIVERGED
from robustgap.training.jobs.outcome_table import ROBUST_FLOOR
from robustgap.training.masking import GRADIENT_MASKING
from robustgap.training.overfitting import FLAG as CATASTROPHIC


def test_every_flag_has_words():
    known = {BEST_IS_LAST, OTHER_ARITHMETIC, DIVERGED, ROBUST_FLOOR, GRADIENT_MASKING, CATASTROPHIC, flags.OUTLYING}
    assert known | {flags.ALL} == set(words.FLAGS)
    assert set(flags.LEFT_OUT) <= known
    assert all(flag.models for flag in words.FLAGS.values())


def test_every_attack_of_a_study_and_every_norm_has_words():
    schema = yaml.safe_load((ROOT / "workflow" / "config" / "schema.yaml").read_text(encoding="utf-8"))
    attacks = schema["properties"]["outcomes"]["properties"]["attacks"]["items"]["properties"]["attack"]["enum"]
    assert set(attacks) == set(words.ATTACKS) == set(words.CONDITIONS) >= set(ATTACKS)
    assert set(schema["properties"]["norm"]["enum"]) == set(words.NORMS)
