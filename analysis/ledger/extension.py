"""Adds outcomes and measures to the models of an earlier ledger, named by `extends:` in a study file.

The study trains the same runs again. If all digests of their weights match the earlier ledger, the models are the same,
and that ledger's outcomes and measures are added to the study's; if any differs, nothing is added.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from robustgap.analysis.files import require_columns
from robustgap.analysis.ledger import KEYS, ORIGIN, Ledger, read_bits_table, with_ids

# What outcomes and measures depend on besides the weights, in study.json.
FROZEN = ("data", "norm", "eps", "measure_images")
IMAGES = ("train_images", "test_images")  # under outcomes


def require_same_models(runs: pd.DataFrame, base: Ledger) -> None:
    """Raise ValueError, in one line, unless `runs` have the same weights as the models of the ledger `base`; it names
    the first model that differs, how many differ, and the arithmetic of both."""
    file = base.path / "runs.parquet"
    require_columns(base.runs, ORIGIN, file)
    new, old = runs.set_index("model"), base.runs.set_index("model")
    for models, other, wanted in ((new, old, "those of the ledger alone"), (old, new, "all of the ledger")):
        if alone := sorted(set(models.index) - set(other.index)):
            raise ValueError(
                f"{file}: found {len(alone)} models in one of study and ledger ({alone[0]}), wanted {wanted}"
            )
    old = old.loc[new.index]
    same = (new["weights_sha256"] == old["weights_sha256"]) & (new["status"] == old["status"])
    recorded = (new["weights_sha256"] != "") | (new["status"] != "finished")
    if (other := new.index[~(same & recorded)]).size:
        first = other[0]
        descriptions = [
            f"{rows.loc[first, 'weights_sha256'][:12] or 'no digest'} ({rows.loc[first, 'status']};"
            f" {rows.loc[first, 'arithmetic'] or 'arithmetic not recorded'})"
            for rows in (new, old)
        ]
        raise ValueError(
            f"{file}: weights of {first} and {len(other) - 1} other models of {len(new)}: found {descriptions[0]},"
            f" wanted {descriptions[1]}; they are not the same models, and nothing is added"
        )


def require_same_images(study: dict[str, Any], base: Ledger) -> None:
    """Raise ValueError unless the study's threat model and frozen images are those of the ledger `base`."""
    new, old = study["study"], base.study["study"]
    pairs = {key: (new.get(key), old.get(key)) for key in FROZEN}
    pairs |= {f"outcomes.{key}": (new.get("outcomes", {}).get(key), old.get("outcomes", {}).get(key)) for key in IMAGES}
    for key, (found, wanted) in pairs.items():
        if found != wanted:
            raise ValueError(f"{base.path / 'study.json'}: {key}: found {found} in the study, wanted {wanted}")


def extended(ledger: Ledger, base: Ledger) -> Ledger:
    """The study's ledger plus the outcomes and measures found only in `base`; those in both come from the study. Raises
    what `require_same_models` and `require_same_images` raise."""
    require_same_models(ledger.runs, base)
    require_same_images(ledger.study, base)
    outcomes = joined(ledger.outcomes, base.outcomes)
    added = base.measures[~base.measures["measure"].isin(ledger.measures["measure"])]
    measures = pd.concat([ledger.measures, added], ignore_index=True)
    names = list(dict.fromkeys([*base.catalogue, *ledger.catalogue]))
    study = {**ledger.study, "study": {**ledger.study["study"], "measures": names}}
    study["extends"] = {"ledger": str(base.path), "created": base.study.get("created", "")}
    catalogue = {name: ledger.catalogue.get(name, base.catalogue.get(name)) for name in names}
    return replace(ledger, outcomes=outcomes, measures=measures, study=study, catalogue=catalogue)


def extended_bits(bits: pd.DataFrame, base: Path) -> pd.DataFrame:
    """The study's correctness bits plus those found only in the ledger in folder `base`."""
    return joined(with_ids(bits), read_bits_table(base / "bits.parquet"))


def joined(rows: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """`rows` plus the rows of `base` for any model, split and outcome missing from `rows`."""
    key = KEYS["outcomes"]
    present = pd.MultiIndex.from_frame(rows[key])
    added = base[~pd.MultiIndex.from_frame(base[key]).isin(present)]
    return pd.concat([rows, added[rows.columns]], ignore_index=True).sort_values(key, ignore_index=True)
