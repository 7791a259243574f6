"""Adds outcomes and measures to the models of an earlier ledger, named by `extends:` in a study file.

The study trains the same runs again. If all digests of their weights match the earlier ledger, the models are the same,
and that ledger's outcomes and measures are added to the study's; if any differs, nothing is added.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from robustgap.analysis.files import read_parquet, require_columns
from robustgap.analysis.ledger import KEYS, MADE, Ledger

# What outcomes and measures depend on besides the weights, in study.json.
FROZEN = ("data", "norm", "eps", "measure_images")
IMAGES = ("train_images", "test_images")  # under outcomes


def require_same_models(runs: pd.DataFrame, base: Ledger) -> None:
    """Raise ValueError, in one line, unless `runs` have the same weights as the models of the ledger `base`; it names
    the first model that differs, how many differ, and the arithmetic of both."""
    file = base.path / "runs.parquet"
    require_columns(base.runs, MADE, file)
    own, there = runs.set_index("model"), base.runs.set_index("model")
    for some, other, wanted in ((own, there, "those of the ledger alone"), (there, own, "all of the ledger")):
        if alone := sorted(set(some.index) - set(other.index)):
            raise ValueError(
                f"{file}: found {len(alone)} models in one of study and ledger ({alone[0]}), wanted {wanted}"
            )
    there = there.loc[own.index]
    same = (own["weights_sha256"] == there["weights_sha256"]) & (own["status"] == there["status"])
    known = (own["weights_sha256"] != "") | (own["status"] != "finished")
    if (other := own.index[~(same & known)]).size:
        first = other[0]
        told = [
            f"{rows.loc[first, 'weights_sha256'][:12] or 'no digest'} ({rows.loc[first, 'status']};"
            f" {rows.loc[first, 'arithmetic'] or 'arithmetic not recorded'})"
            for rows in (own, there)
        ]
        raise ValueError(
            f"{file}: weights of {first} and {len(other) - 1} other models of {len(own)}: found {told[0]},"
            f" wanted {told[1]}; they are not the same models, and nothing is added"
        )


def require_same_images(study: dict[str, Any], base: Ledger) -> None:
    """Raise ValueError unless the study's threat model and frozen images are those of the ledger `base`."""
    own, there = study["study"], base.study["study"]
    pairs = {key: (own.get(key), there.get(key)) for key in FROZEN}
    pairs |= {
        f"outcomes.{key}": (own.get("outcomes", {}).get(key), there.get("outcomes", {}).get(key)) for key in IMAGES
    }
    for key, (found, wanted) in pairs.items():
        if found != wanted:
            raise ValueError(f"{base.path / 'study.json'}: {key}: found {found} in the study, wanted {wanted}")


def extended(own: Ledger, base: Ledger) -> Ledger:
    """The study's ledger plus the outcomes and measures found only in `base`; those in both come from the study. Raises
    what `require_same_models` and `require_same_images` raise."""
    require_same_models(own.runs, base)
    require_same_images(own.study, base)
    outcomes = joined(own.outcomes, base.outcomes)
    more = base.measures[~base.measures["measure"].isin(own.measures["measure"])]
    measures = pd.concat([own.measures, more], ignore_index=True)
    named = list(dict.fromkeys([*base.catalogue, *own.catalogue]))
    study = {**own.study, "study": {**own.study["study"], "measures": named}}
    study["extends"] = {"ledger": str(base.path), "created": base.study.get("created", "")}
    catalogue = {name: own.catalogue.get(name, base.catalogue.get(name)) for name in named}
    return replace(own, outcomes=outcomes, measures=measures, study=study, catalogue=catalogue)


def extended_bits(own: pd.DataFrame, base: Path) -> pd.DataFrame:
    """The study's correctness bits plus those found only in the ledger in folder `base`."""
    return joined(own, read_parquet(base / "bits.parquet", own.columns))


def joined(own: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """`own` plus the rows of `base` for any model, split and attack missing from `own`."""
    key = KEYS["outcomes"]
    had = pd.MultiIndex.from_frame(own[key])
    more = base[~pd.MultiIndex.from_frame(base[key]).isin(had)]
    return pd.concat([own, more[own.columns]], ignore_index=True).sort_values(key, ignore_index=True)
