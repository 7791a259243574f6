"""Verdicts in sentences: counts per verdict, and which part of the rule failed for unresolved measures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.prediction.settings_regression import LEARNERS
from robustgap.analysis.verdicts.claims import NEGLIGIBLE, PROXY, REPLICATES, SIGN_DEPENDS, UNRESOLVED

UNFLAGGED = "verdict_without_flagged"
ENDS = [f"increment_{learner}_family" for learner in LEARNERS]
WORDS = {
    REPLICATES: ("replicates", "replicate"),
    SIGN_DEPENDS: ("has a sign that depends on a setting", "have a sign that depends on a setting"),
    PROXY: ("is a proxy of the settings", "are proxies of the settings"),
    UNRESOLVED: ("is unresolved", "are unresolved"),
}
LACKS = {  # why a measure is unresolved, in the order of the rule
    "tau": "no τ (constant, or without values)",
    "few": "values in too few configurations for a family-wise interval of τ",
    "zero": "a family-wise interval of τ that includes 0",
    "settings": "τ clear of 0, but too few configurations for an increment over the settings",
    "against": "τ clear of 0, but on the side opposite to the declared sign",
    "increment": "τ clear of 0, but an increment over the settings that is clearly above 0 by neither learner (as it "
    f"must be by both for replicates), nor clearly below {NEGLIGIBLE} in R² by both (for a proxy)",
    "increment_ridge": "τ clear of 0 and an increment clearly above 0 by boosted trees, but not by ridge regression",
    "increment_trees": "τ clear of 0 and an increment clearly above 0 by ridge regression, but not by boosted trees",
    "turned": "τ clear of 0, but the other sign beyond the settings",
}
TELLING = 0.1  # in R2: an increment that a larger study should be able to tell from 0


def verdict_sentence(claims: pd.DataFrame, names: Sequence[str]) -> str:
    """'Of 24 measure columns, 2 replicate (a, b); 22 are unresolved.'; names: labels of the rows of claims."""
    by_verdict = pd.Series(names, dtype=object).groupby(claims["verdict"].to_numpy()).agg(list)
    counts = []
    for verdict, words in WORDS.items():
        if measures := by_verdict.get(verdict, []):
            listed = "" if verdict == UNRESOLVED else f" ({', '.join(measures)})"
            counts.append(f"{len(measures)} {words[len(measures) > 1]}{listed}")
    if not counts:
        return "There is no measure to judge."
    return f"Of {len(claims)} measure column{'s' * (len(claims) > 1)}, {'; '.join(counts)}."


def without_sentence(claims: pd.DataFrame, names: Sequence[str], without: dict[str, Any] | None) -> str:
    """The same sentence for the verdicts without flagged models; '' if none is flagged. without: the findings about the
    remaining models."""
    if without is None or claims.empty:
        return ""
    own, other = (claims[name] + claims[name.replace("verdict", "axis")] for name in ("verdict", UNFLAGGED))
    told = verdict_sentence(claims.assign(verdict=claims[UNFLAGGED]), names)
    many = int((own != other).sum())
    changed = f"{many or 'no'} verdict{'s' * (many > 1)} {'differ' if many > 1 else 'differs'}"
    return f"Without flagged models (n = {without['sample']['models']:,}) {changed}: {told[0].lower()}{told[1:]}"


def removal_sentence(claims: pd.DataFrame) -> str:
    """How many verdicts depend on one configuration or one run; '' if that was not computed."""
    rows = claims[claims["left_out"].notna()]
    if rows.empty:
        return ""
    turned = (rows["rests_on_verdict"] != "") & (rows["rests_on_verdict"] != rows["verdict"])
    alone = turned & (rows["rests_on_run_verdict"] != "") & (rows["rests_on_run_verdict"] != rows["verdict"])
    if not turned.any():
        return "No verdict turns when any one configuration is left out."
    number = int(turned.sum())
    text = f"{number} verdict{'s' * (number > 1)} of {len(rows)} would be another without one configuration"
    runs = rows.loc[alone, "rests_on_run"]
    listed = f" ({', '.join(runs.unique()[:5])})" if len(runs) else ""
    return f"{text}, {int(alone.sum())} of them without a single run{listed}."


def lacking(claims: pd.DataFrame) -> pd.Series:
    """The key of LACKS that applies to each unresolved measure (index: rows of claims)."""
    rows = claims[claims["verdict"] == UNRESOLVED]
    lows, highs = rows[[f"{end}_low" for end in ENDS]], rows[[f"{end}_high" for end in ENDS]]
    tests = {
        "tau": rows["tau"].isna(),
        "few": rows["tau_family_low"].isna(),
        "zero": (rows["tau_family_low"] <= 0) & (rows["tau_family_high"] >= 0),
        "settings": lows.isna().any(axis=1) | highs.isna().any(axis=1),
        "against": rows["sign"].astype(float) * rows["tau"] < 0,
        "increment": ~(lows > 0).any(axis=1),
        **{f"increment_{name}": ~(lows[f"{end}_low"] > 0) for name, end in zip(LEARNERS, ENDS, strict=True)},
    }
    return pd.Series(np.select(list(tests.values()), list(tests), "turned"), index=rows.index, dtype=object)


def why_unresolved(claims: pd.DataFrame) -> list[str]:
    """Why measures are unresolved, by part of the rule, and what a study would need to resolve them; [] if none is
    unresolved."""
    lacks = lacking(claims)
    if lacks.empty:
        return []
    counts = lacks.value_counts()
    reasons = "; ".join(f"{words}: {counts[name]}" for name, words in LACKS.items() if name in counts)
    subject = f"{len(lacks)} {'is' if len(lacks) == 1 else 'are'} unresolved"
    sentences = [f"Why {subject}, by the part of the rule that failed: {reasons}."]
    rows = claims.loc[lacks.index[lacks.str.startswith("increment")]]
    if rows.empty:
        return sentences
    widths = [(rows[f"{end}_high"] - rows[f"{end}_low"]) / 2 for end in ENDS]
    width, configurations = pd.concat(widths, axis=1).max(axis=1).median(), rows["configurations"].max()
    reach = (
        f"With {configurations:.0f} configurations, the family-wise interval of an increment reaches {width:.2f} in R²"
        " to either"
    )
    if width <= TELLING:
        return [*sentences, f"{reach} side (median): increments smaller than that cannot be told from 0."]
    needed = float(f"{configurations * (width / TELLING) ** 2:.1g}")
    return [
        *sentences,
        f"{reach} side (median). It narrows roughly with the square root of the number of configurations: telling an "
        f"increment of {TELLING} from 0 would take some {needed:,.0f} of them.",
    ]
