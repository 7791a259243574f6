"""More outcomes and measures for the models of an earlier ledger, which `extends:` in a study file names.

The study trains the same runs again. Where the digests of their weights are those of the earlier ledger, they are the
same models, and its outcomes and measures join those of the study; where one differs, nothing is added.
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from robustgap.analysis.files import read_parquet, require_columns
from robustgap.analysis.ledger import KEYS, MADE, Ledger

# What outcomes and measures of the same weights still depend on, in study.json.
FROZEN = ("data", "norm", "eps", "measure_images")
IMAGES = ("train_images", "test_images")  # below outcomes


def require_same_models(runs: pd.DataFrame, base: Ledger) -> None:
    """Raises ValueError, in one line, unless `runs` are the models of the ledger `base`, weight for weight: naming the
    first that differs, how many do, and what each was trained in."""
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


def require_same_images(study: dict, base: Ledger) -> None:
    """Raises ValueError unless the study's threat model and frozen images are those of the ledger `base`."""
    own, there = study["study"], base.study["study"]
    pairs = {key: (own.get(key), there.get(key)) for key in FROZEN}
    pairs |= {
        f"outcomes.{key}": (own.get("outcomes", {}).get(key), there.get("outcomes", {}).get(key)) for key in IMAGES
    }
    for key, (found, wanted) in pairs.items():
        if found != wanted:
            raise ValueError(f"{base.path / 'study.json'}: {key}: found {found} in the study, wanted {wanted}")


def extended(own: Ledger, base: Ledger) -> Ledger:
    """The study's ledger with the outcomes and measures that only `base` has; what both have is the study's. Raises
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
    """The correctness bits of the study, with those that only the ledger in folder `base` has."""
    return joined(own, read_parquet(base / "bits.parquet", own.columns))


def joined(own: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """`own`, and the rows of `base` about a model, split and attack that it lacks."""
    key = KEYS["outcomes"]
    had = pd.MultiIndex.from_frame(own[key])
    more = base[~pd.MultiIndex.from_frame(base[key]).isin(had)]
    return pd.concat([own, more[own.columns]], ignore_index=True).sort_values(key, ignore_index=True)
