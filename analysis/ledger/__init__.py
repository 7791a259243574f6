"""The ledger of a study: the three tidy tables from which every statistic and figure is computed.

A ledger is a folder with `runs.parquet` (one row per model, whatever its status), `outcomes.parquet` (one row per
model, split and outcome), `measures.parquet` (one row per model, measure and variant), `catalogue.json` (a description
of each measure, with the sign its paper claims for its relation with the gap) and `study.json` (the study's settings).
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from robustgap.analysis.damage import set_aside_if_damaged
from robustgap.analysis.files import (
    read_json,
    read_parquet,
    require_columns,
    with_numbers,
    write_csv,
    write_parquet,
    write_text,
)
from robustgap.analysis.outcome_names import OTHER, OutcomeColumn, columns_of, resolved

NA = "NA"  # a setting that does not apply; it matches only itself
CHECKPOINT = "checkpoint"  # the checkpoint rule: an axis when it varies, but never part of a configuration
RULES = ("last", "best")  # its values; one model that is both has BOTH (analysis.models.checkpoints)
BOTH = "both"
BEST_IS_LAST = "best_is_last"  # flag of a run whose two checkpoints are the same weights
ROBUST_FLOOR = "robust_floor"  # flag of a model whose robust accuracy is at or below chance
GRADIENT_MASKING = "gradient_masking"  # flag of a model whose gradients tell nothing of its robustness
ATTACKS = ("clean", "fgsm", "pgd10")
# optional columns of runs: the arithmetic of the training, and the digest of the model's weights
ORIGIN = ("arithmetic", "weights_sha256")
VALIDATED = {"val_clean": "val_clean", "val_pgd10": "val_robust"}  # column of a log: optional column of runs
TRAIN_LOSS = "train_loss"  # optional column of runs and of a log: the defense's training objective, mean over the epoch
VARIANTS = {"clean": "", "none": "", "adversarial": ".adv"}  # suffix of a measure's column
NO_CLAIM: dict[str, Any] = {
    "family": "",
    "needs": [],
    "variants": [],
    "expects": {},
    "paper": "",
    "formula": "",
    "summary": "",
}
COLUMN_TEXT = {
    "runs": "run model checkpoint seed source status flags reason epochs seconds device",
    "outcomes": "model split attack eps norm n accuracy se flags",
    "measures": "model measure variant value se n_images split seed seconds forwards code_id reason",
}
COLUMNS = {table: names.split() for table, names in COLUMN_TEXT.items()}
NUMBER_TEXT = {"runs": "seconds", "outcomes": "eps n accuracy se", "measures": "value se n_images seconds forwards"}
NUMBERS = {table: names.split() for table, names in NUMBER_TEXT.items()}
KEYS = {"runs": ["model"], "outcomes": ["model", "split", "outcome"], "measures": ["model", "measure", "variant"]}
BITS = ("model", "split", "attack", "n", "bits", "index_sha")  # columns of bits.parquet, but the later `outcome`
# Columns of outcomes that a ledger made before outcomes had ids lacks; `outcome` is the id (analysis.outcome_names), by
# default the attack.
LATER_TEXT = ("outcome", "target", "options", "signs")
LATER_NUMBERS = ("loss", "confidence_right", "confidence_wrong", "success", "distortion")


def text(value: object) -> str:
    """A setting as text, by which settings are compared: True -> 'true', 32 -> '32', 0.5 -> '0.5', None -> 'NA'."""
    if value is None:
        return NA
    return str(value).lower() if isinstance(value, bool | np.bool_) else str(value)


def with_ids(table: pd.DataFrame) -> pd.DataFrame:
    """Outcomes or their bits with the id of each outcome: the attack, in a table made before outcomes had ids."""
    return table if "outcome" in table else table.assign(outcome=table["attack"])


def read_bits_table(path: Path) -> pd.DataFrame:
    """bits.parquet: packed correctness bits by model, split and outcome. Raises what `read_parquet` raises."""
    return with_ids(read_parquet(path, BITS))


def with_later_columns(outcomes: pd.DataFrame) -> pd.DataFrame:
    """`outcomes` with the columns that were added to ledgers later: text empty, numbers NaN where unknown."""
    table = with_ids(outcomes)
    texts = {name: table[name].fillna("") if name in table else "" for name in LATER_TEXT}
    return table.assign(**texts, **{name: np.nan for name in LATER_NUMBERS if name not in table})


def split_flags(flags: str) -> list[str]:
    """'best_is_last;robust_floor' -> ['best_is_last', 'robust_floor']."""
    return [flag for flag in flags.split(";") if flag]


def gap_se(p1: pd.Series, n1: pd.Series, p2: pd.Series, n2: pd.Series) -> pd.Series:
    """Standard error of p1 - p2, from image sampling only: sqrt(p1 q1 / n1 + p2 q2 / n2), as fractions."""
    return np.sqrt(p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2)


@dataclass(frozen=True)
class Ledger:
    """The tables of one study. All settings, seeds and flags are text; accuracies in `outcomes` are fractions."""

    runs: pd.DataFrame
    outcomes: pd.DataFrame
    measures: pd.DataFrame
    catalogue: dict[str, Any]
    study: dict[str, Any]
    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "outcomes", with_later_columns(self.outcomes))

    @classmethod
    def load(cls, path: str | Path) -> "Ledger":
        """Read and check the ledger in folder `path`.

        Raises FileNotFoundError or ValueError, naming the file, if one is missing, truncated or malformed. A damaged
        file of a study's own ledger is moved aside, so that the workflow makes it again.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such ledger folder")
        study, read = folder / "study.json", {}
        for name, columns in COLUMNS.items():
            with set_aside_if_damaged(file := folder / f"{name}.parquet", study):
                table = read_parquet(file, columns)
                later = [column for column in LATER_NUMBERS if name == "outcomes" and column in table]
                read[name] = with_numbers(table, [*NUMBERS[name], *later], file)
        for name, keys in (("catalogue", []), ("study", ["study", "axes"])):
            with set_aside_if_damaged(file := folder / f"{name}.json", study):
                read[name] = read_json(file, keys)
        ledger = cls(**read, path=folder)
        ledger.check()
        return ledger

    def check(self) -> None:
        """Raise ValueError if an axis has no column, the study's outcome is unknown, a key is repeated, or a row refers
        to an unknown model."""
        require_columns(self.runs, self.study["axes"], self.path / "runs.parquet")
        _ = replace(self).outcome  # of a copy, which takes its cached properties with it
        for name, key in KEYS.items():
            table, file = getattr(self, name), self.path / f"{name}.parquet"
            repeated = table[table.duplicated(key)]
            if len(repeated):
                raise ValueError(f"{file}: found two rows for {' '.join(repeated[key].iloc[0])}, wanted one")
            unknown = set(table["model"]) - set(self.runs["model"])
            if unknown:
                raise ValueError(f"{file}: found model {min(unknown)}, which runs.parquet does not list")

    @property
    def name(self) -> str:
        """Name of the study."""
        return str(self.study["study"]["study"])

    @cached_property
    def outcome_ids(self) -> list[str]:
        """Ids of the outcomes that `models()` has columns of: ATTACKS, then all others, by attack, norm and eps."""
        parts = ["attack", "norm", "eps", "target", "options", "outcome"]
        listed = self.outcomes.drop_duplicates("outcome").sort_values(parts)["outcome"]
        return list(dict.fromkeys([*ATTACKS, *listed]))

    @cached_property
    def has_losses(self) -> bool:
        """Whether the losses on attacked images are known."""
        return bool(self.outcomes["loss"].notna().any())

    @cached_property
    def outcome_columns(self) -> dict[str, OutcomeColumn]:
        """The columns of `models()` that belong to an outcome."""
        names = [name for outcome in self.outcome_ids for name in columns_of(outcome, self.has_losses)]
        return {name: OutcomeColumn.read(name) for name in names}

    @cached_property
    def outcome(self) -> str:
        """Column of `models()` that the study explains: 'gap_pgd10' by default. Raises ValueError for an unknown
        one."""
        return self.resolve(str(self.study["study"].get("analysis", {}).get("outcome", "gap_pgd10")))

    @cached_property
    def explained(self) -> OutcomeColumn:
        """What `outcome` is."""
        return self.explain(self.outcome)

    def resolve(self, name: str, where: str = "") -> str:
        """The column of `models()` that `name` stands for (analysis.outcome_names.resolved); where: beginning of the
        error, by default the field of the study."""
        numbers = [f"{name.removeprefix('val_')}_val" for name in VALIDATED if name in self.runs]
        numbers += [TRAIN_LOSS] if TRAIN_LOSS in self.runs else []
        columns = [*self.outcome_columns, *self.measure_columns, *numbers]
        return resolved(name, columns, where or f"{self.path / 'study.json'}: analysis.outcome")

    def explain(self, column: str) -> OutcomeColumn:
        """What a column of `models()` is as an outcome."""
        return self.outcome_columns.get(column, OutcomeColumn(column, OTHER))

    @property
    def draws(self) -> int:
        """Number of bootstrap draws set by the study (default 2,000)."""
        return int(self.study["study"].get("analysis", {}).get("draws", 2000))

    @property
    def slow_draws(self) -> int:
        """Number of bootstrap draws for slow statistics (default 200)."""
        return int(self.study["study"].get("analysis", {}).get("slow_draws", 200))

    @property
    def removals(self) -> bool:
        """Whether the study checks what its verdicts rest on (default: yes)."""
        return bool(self.study["study"].get("analysis", {}).get("removals", True))

    @property
    def min_ess(self) -> float | None:
        """Minimum effective sample size of an environment for sign errors, if the study sets one."""
        minimum = self.study["study"].get("analysis", {}).get("min_ess")
        return None if minimum is None else float(minimum)

    @cached_property
    def axes(self) -> list[str]:
        """The study's axes in order, then 'checkpoint' if the checkpoint rule varies."""
        varies = len(set(self.runs[CHECKPOINT]) - {NA}) > 1
        declared = [axis for axis in self.study["axes"] if axis != CHECKPOINT]
        return declared + [CHECKPOINT] * varies

    @cached_property
    def distinct(self) -> pd.DataFrame:
        """`runs` with a single row for a finished run whose two checkpoints have the same weights (flag BEST_IS_LAST):
        the row of `last`, unless only `best` finished, with the checkpoint rule BOTH."""
        flagged = self.runs["flags"].map(lambda flags: BEST_IS_LAST in split_flags(flags)).astype(bool)
        pairs = self.runs[flagged & self.runs[CHECKPOINT].isin(RULES)]
        finished = pairs.loc[pairs["status"] == "finished", "run"]
        pairs = pairs[pairs.duplicated("run", keep=False) & pairs["run"].isin(finished)]
        order = pd.DataFrame({"lost": pairs["status"] != "finished", "rule": pairs[CHECKPOINT].map(RULES.index)})
        first = pairs.loc[order.sort_values(["lost", "rule"]).index].drop_duplicates("run").index
        rows = self.runs.drop(pairs.index.difference(first))
        rows.loc[first, CHECKPOINT] = BOTH
        return rows

    def values(self, axis: str) -> list[str]:
        """The values of an axis that occur, in the study's order (unlisted values last, sorted)."""
        settings = self.study["study"]
        values = settings.get("checkpoints", []) if axis == CHECKPOINT else settings.get("axes", {}).get(axis, [])
        order = [text(value) for value in values]
        present = set(self.runs[axis])
        return [value for value in order if value in present] + sorted(present - set(order))

    @cached_property
    def columns(self) -> list[str]:
        """The measure columns that are asked about: all but one that the study explains."""
        return [name for name in self.measure_columns if name != self.outcome]

    @cached_property
    def measure_columns(self) -> list[str]:
        """Measure columns in the study's order: NAME (variant clean or none), then NAME.adv (adversarial)."""
        listed = self.study["study"].get("measures", [])
        order = {name: position for position, name in enumerate(listed if isinstance(listed, list) else self.catalogue)}
        pairs = self.measures[["measure", "variant"]].drop_duplicates().itertuples(index=False)
        ranked = sorted(
            pairs, key=lambda pair: (order.get(pair.measure, len(order)), pair.measure, VARIANTS[pair.variant])
        )
        return [pair.measure + VARIANTS[pair.variant] for pair in ranked]

    def entry(self, column: str) -> dict[str, Any]:
        """Catalogue entry of a measure column; an entry without claims if the catalogue does not list the measure."""
        return {**NO_CLAIM, **self.catalogue.get(column.removesuffix(".adv"), {})}

    def expects(self, column: str) -> int | None:
        """Sign (+1, -1) that the measure's paper claims for its relation with the gap; None: no claim."""
        claims = self.entry(column)["expects"] or {}
        if column.endswith(".adv"):
            return claims.get("adversarial")
        return claims.get("clean", claims.get("none"))

    def models(self, split: str = "train") -> pd.DataFrame:
        """One row per model that has outcomes and did not collapse: the wide table behind statistics and figures. A run
        whose best checkpoint is its last gives one model, with the id of `last` and the rule BOTH.

        Columns: model, run, checkpoint, seed, source, every setting (text), flags (of the run and of its outcomes),
        then in percent ID_train and ID_test, and in percentage points gap_ID = train - test, se_gap_ID (image sampling
        only), gap_ID_rest, se_gap_ID_rest (train part on the images disjoint from measure_images), se_ID_train and
        se_ID_test (binomial), and, if the ledger has losses, loss_ID_train and loss_ID_test, for each id of
        `outcome_ids`, NaN for a model without it; then one column per measure, NaN where undefined; and, if the ledger
        has them, validation accuracies clean_val and pgd10_val, in percent, and `train_loss`. `split` ('train' or
        'train_rest') selects the training images for ID_train, loss_ID_train and gap_ID.
        """
        finished = self.distinct[self.distinct["status"] == "finished"]
        table = finished.drop(columns=["status", "reason"]).set_index("model")
        for name in filter(table.columns.__contains__, VALIDATED):
            table[f"{name.removeprefix('val_')}_val"] = 100 * table.pop(name)
        wide = self.outcomes.pivot_table(index="model", columns=["split", "outcome"], values=["accuracy", "n"])
        table = table.loc[table.index.isin(wide.index)]
        flags = self.outcomes.groupby("model")["flags"].agg(";".join)
        both = table["flags"] + ";" + flags.reindex(table.index)
        table["flags"] = [";".join(dict.fromkeys(split_flags(flag))) for flag in both]
        values = self.measures.assign(column=self.measures["measure"] + self.measures["variant"].map(VARIANTS))
        values = values.pivot_table(index="model", columns="column", values="value", dropna=False)
        gaps = gap_columns(wide.reindex(table.index), self.outcome_ids, split)
        if self.has_losses:
            gaps = gaps.join(self._losses(split).reindex(gaps.index))
        if clashing := [name for name in self.measure_columns if name in {*table, *gaps}]:
            file = self.path / "measures.parquet"
            raise ValueError(
                f"{file}: found a measure {clashing[0]!r}, wanted a name that no other column of models has"
            )
        return table.join(gaps).join(values.reindex(table.index, columns=self.measure_columns)).reset_index()

    def _losses(self, split: str) -> pd.DataFrame:
        """loss_ID_train (of the training images `split`) and loss_ID_test of every model and outcome."""
        wide = self.outcomes.pivot_table(index="model", columns=["split", "outcome"], values="loss")
        places = {"train": split, "test": "test"}
        names = {f"loss_{id_}_{side}": (place, id_) for id_ in self.outcome_ids for side, place in places.items()}
        return pd.DataFrame({name: wide.get(key, np.nan) for name, key in names.items()}, index=wide.index)

    def write(self, folder: str | Path) -> None:
        """Write the three tables (parquet and CSV), the catalogue and the study into `folder`, each file atomically."""
        for name in COLUMNS:
            write_parquet(getattr(self, name), Path(folder) / f"{name}.parquet")
            write_csv(getattr(self, name), Path(folder) / f"{name}.csv")
        for name in ("catalogue", "study"):
            write_text(json.dumps(getattr(self, name), indent=1) + "\n", Path(folder) / f"{name}.json")


def gap_columns(wide: pd.DataFrame, outcomes: list[str], split: str) -> pd.DataFrame:
    """Accuracies (percent), gaps and the standard errors of both (percentage points) of each model and outcome.

    `wide`: one row per model, columns (accuracy | n, split, outcome).
    """
    columns = {}
    for outcome in outcomes:

        def part(split: str, outcome: str = outcome) -> tuple[pd.Series, pd.Series]:
            missing = pd.Series(np.nan, wide.index)
            return wide.get(("accuracy", split, outcome), missing), wide.get(("n", split, outcome), missing)

        (train, n_train), (test, n_test), (rest, n_rest) = part(split), part("test"), part("train_rest")
        columns[f"{outcome}_train"], columns[f"{outcome}_test"] = 100 * train, 100 * test
        columns[f"gap_{outcome}"] = 100 * (train - test)
        columns[f"se_gap_{outcome}"] = 100 * gap_se(train, n_train, test, n_test)
        columns[f"gap_{outcome}_rest"] = 100 * (rest - test)
        columns[f"se_gap_{outcome}_rest"] = 100 * gap_se(rest, n_rest, test, n_test)
        columns[f"se_{outcome}_train"] = 100 * np.sqrt(train * (1 - train) / n_train)
        columns[f"se_{outcome}_test"] = 100 * np.sqrt(test * (1 - test) / n_test)
    return pd.DataFrame(columns, index=wide.index)
