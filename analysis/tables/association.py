"""Views of verdicts and correlations (see analysis.tables): what each shows, and what readers should look for."""

import numpy as np
import pandas as pd

from robustgap.analysis.models.baselines import BASELINE
from robustgap.analysis.models.flags import ALL, LEFT_OUT, words
from robustgap.analysis.statistics.information import notes
from robustgap.analysis.view import COUNT, LABEL, Column, Source, View, spread

SIGNS = {1.0: "+", -1.0: "−"}
VARIANTS = {  # variants of tau: heading, meaning
    "tau_rest": ("disjoint images", "with the gap computed on the training images that no measure was given"),
    **{
        f"tau_without_{flag}": (f"without {flag.replace('_', ' ')}", f"without the models {words(flag)}")
        for flag in (*LEFT_OUT, ALL)
    },
}
AGREEMENT = {"yes": ", borne out", "no": ", contradicted", "unresolved": ", unresolved", "": ""}


def verdict_text(verdict: pd.Series, axis: pd.Series) -> np.ndarray:
    """Verdicts as shown: 'replicates', 'sign depends on defense'."""
    return np.where(axis != "", "sign depends on " + axis.astype(str), verdict)


def resting(row: dict) -> str:
    """'defense=AT, awp=true', or '≠ proxy of the settings without run 1a2b (defense=AT, awp=true)' if leaving that out
    changes the verdict (the run alone, or the whole configuration)."""
    if not row["rests_on"] or row["rests_on_verdict"] == row["verdict"]:
        return row["rests_on"]
    if row["rests_on_run_verdict"] not in ("", row["verdict"]):
        return f"≠ {row['rests_on_run_verdict']} without run {row['rests_on_run']} ({row['rests_on']})"
    return f"≠ {row['rests_on_verdict']} without {row['rests_on']}"


def verdicts(source: Source) -> View:
    frame = source.named(source.read("claims"))
    shown = verdict_text(frame["verdict"], frame["axis"]) if len(frame) else np.array([])
    signs = frame["sign"].map(SIGNS).fillna("no claim") if len(frame) else []
    alike = frame["group"].map(lambda name: source.label(name) if name else "") if len(frame) else []
    without: tuple[Column, ...] = ()
    if len(frame) and (frame["verdict_without_flagged"] != "").any():
        other = verdict_text(frame["verdict_without_flagged"], frame["axis_without_flagged"])
        frame = frame.assign(without=np.where(other == shown, "the same", "≠ " + other.astype(object)))
        without = Column("without", "without flagged"), Column("n_without_flagged", "n without", ".0f")
    rests: tuple[Column, ...] = ()
    if len(frame) and frame["left_out"].notna().any():
        frame = frame.assign(rests=[resting(row) for row in frame.to_dict("records")])
        rests = (Column("rests", "rests on"),)
    columns = (
        LABEL,
        Column("shown", "verdict"),
        Column("tau", "τ", "+.2f", True, True),
        Column("declared", "declared sign"),
        Column("increment_ridge", "increment in R², ridge", "+.3f", True, True),
        Column("increment_trees", "increment in R², trees", "+.3f", True, True),
        COUNT,
        Column("alike", "orders models alike with"),
        *rests,
        *without,
    )
    look = (
        "One verdict per measure, by a fixed rule: the first of sign depends, replicates, proxy of the settings that "
        "holds, else unresolved. Unresolved says that these data cannot tell, not that the measure is useless. "
        "Baselines need no measure; the controls are the check of this study: a random number, and a fit of the "
        "settings. Measures that order the models alike (|τ| of each two at least 0.9) are named after the strongest."
    )
    if rests:
        look += (
            " Rests on: everything is judged again without each configuration; named is the one without which the "
            "verdict comes nearest to another, marked ≠ where it becomes another, and the run that suffices for that."
        )
    if without:
        look += " Last columns: the verdict without flagged models, marked ≠ where it differs, and their n."
    return View("verdicts", "Verdicts", look, columns, frame.assign(shown=shown, declared=signs, alike=alike))


def comparisons(source: Source) -> View:
    rows = source.read("comparisons")
    best = rows["measure"].iloc[0] if len(rows) else ""
    rows = rows[(rows["measure"] == best) | (rows["kind"] == BASELINE)].rename(
        columns={end: f"difference_{end}" for end in ("low", "high", "family_low", "family_high")}
    )
    frame = rows.assign(label=[source.label(name) for name in rows["measure"]])
    frame = frame.assign(against=[source.label(name) for name in rows["other"]], kind=rows["kind"])
    columns = (
        LABEL,
        Column("against", "against"),
        Column("difference", "difference of |τ|", "+.2f", True, True),
        Column("tau", "τ", "+.2f"),
        Column("tau_other", "τ of the other", "+.2f"),
        COUNT,
    )
    look = (
        "The measure with the largest |τ| against every other one, then every measure against each baseline, over the "
        "models that have both. Where the interval is right of 0, the first ranks the models better; every pair of "
        "measures is in comparisons.csv. The intervals hold for all pairs of measures together, or for all measures "
        "against one baseline."
    )
    return View("comparisons", "Is one measure better than another?", look, columns, frame)


def tau(source: Source) -> View:
    frame = source.named(source.read("summary")).rename(columns={"low": "tau_low", "high": "tau_high"})
    declared = frame["expected"].map(SIGNS).fillna("no claim") + frame["agrees"].map(AGREEMENT)
    known = {name: heading for name, (heading, _) in VARIANTS.items() if frame[name].notna().any()}
    shown = [Column(name, f"τ, {heading}", "+.2f", True) for name, heading in known.items()]
    counts = [Column(f"{name}_n", f"n, {heading}", ".0f") for name, heading in known.items() if f"{name}_n" in frame]
    columns = (
        LABEL,
        Column("tau", "τ, all models", "+.2f", True),
        COUNT,
        Column("missing", "missing", ".0f"),
        Column("declared", "expected sign"),
        *shown,
        *counts,
        Column("seconds_per_model", "seconds per model", ".2g"),
    )
    look = (
        "A measure that ranks models as their gaps do has τ near ±1, one that knows nothing has τ near 0; no measure "
        "can be expected to pass the noise ceilings."
    )
    for name, (heading, meaning) in VARIANTS.items():
        look += f" {heading.capitalize()}: {meaning}." if name in known else ""
    if "tau_rest" not in known:
        look += " Disjoint images: every training image was given to the measures, so there is no such column."
    if absent := [flag.replace("_", " ") for flag in LEFT_OUT if f"tau_without_{flag}" not in known]:
        look += f" No model, or every model, is flagged {', '.join(absent)}, so there is no such column."
    return View("tau", "τ of each measure with the gap", look, columns, frame.assign(declared=declared))


def partial(source: Source) -> View:
    rows = source.read("partial")
    given = list(dict.fromkeys(rows["given_axis"]))
    frame = source.named(spread(rows, ["measure"], rows["given_axis"]))
    columns = (LABEL, *(Column(name, f"τ given {name}", "+.2f", True) for name in given), COUNT)
    look = (
        "Kendall's partial τ takes a column out of the correlation: what the measure still says about the gap among "
        "models alike in it. A value near 0 where τ is large means that the measure says what that column says."
    )
    return View("partial", "τ once another column is given", look, columns, frame)


def information(source: Source) -> View:
    rows = source.read("information")
    least = rows[rows["statistic"].isin(["cmi", "cmi_normalised"])]
    frame = spread(least, ["measure"], least["statistic"])
    known = least[least["statistic"] == "cmi"].set_index("measure")
    frame = frame.assign(
        given=frame["measure"].map(known["given"].str.replace("|", " and ")), pairs=frame["measure"].map(known["pairs"])
    )
    columns = (
        LABEL,
        Column("cmi", "least information (bits)", ".3f", True),
        Column("cmi_normalised", "as a share of the gap's", ".3f", True),
        Column("given", "settings held"),
        Column("pairs", "pairs of models", ".0f"),
    )
    look = (
        "Conditional mutual information of the signs of differences (Jiang et al. 2020), at the settings (at most two) "
        "that leave least of it. Near 0: some settings explain whatever the measure says about the order of gaps."
    )
    look += "".join(f" {note[0].upper()}{note[1:]}." for note in notes(rows))
    return View("information", "Information left once settings are held", look, columns, source.named(frame))


def simpson(source: Source) -> View:
    rows = source.read("simpson")
    rows = source.named(rows[rows["reversed"]].rename(columns={"estimate": "within"}))
    rows = rows.rename(columns={"low": "within_low", "high": "within_high"})
    where = rows["axis"] + np.where(rows["value"] == "", " (mean)", " = " + rows["value"]) if len(rows) else []
    columns = (
        LABEL,
        Column("where", "within"),
        Column("pooled", "τ, all models", "+.2f", True),
        Column("within", "τ within", "+.2f", True),
        Column("told", "both single intervals exclude 0"),
        COUNT,
    )
    look = (
        "Every place where τ within a value of a setting has the other sign than τ over all models. Only where both "
        "single intervals exclude 0 is the reversal more than noise."
    )
    told = np.where(rows["resolved"], "yes", "no")
    return View(
        "simpson", "Reversals inside the values of a setting", look, columns, rows.assign(where=where, told=told)
    )


def thresholds(source: Source) -> View:
    rows = source.read("thresholds")
    rows = rows[rows["value"] == ""]
    column = rows["column"].iloc[0] if len(rows) else "loss"
    cuts = rows.drop_duplicates("quantile").sort_values("quantile")[["quantile", "threshold"]]
    cuts = cuts[(cuts["quantile"] * 10).round().astype(int) % 2 == 0]
    names = rows["quantile"].map("at_{:.1f}".format)
    frame = source.named(spread(rows, ["measure"], names))
    columns = (
        LABEL,
        *(
            Column(f"at_{share:.1f}", f"c = {c:.3g} ({share:.0%} of the models)", "+.2f", True)
            for share, c in cuts.to_numpy()
        ),
        COUNT,
    )
    look = (
        f"τ among the models with {column} at most c; n: models at the largest c. A measure that works only among "
        "models that fit their training data well fades from left to right."
    )
    return View("thresholds", "τ by threshold of the training loss", look, columns, frame)


def sign_errors(source: Source) -> View:
    rows = source.read("sign_errors")
    whole = rows[(rows["axis"] == "") & (rows["statistic"] != "sign_error_pooled")]
    means = rows[(rows["axis"] != "") & (rows["statistic"] == "sign_error_mean")]
    frame = spread(whole, ["measure"], whole["statistic"])
    counts = whole[whole["statistic"] == "sign_error_mean"].set_index("measure")
    frame = frame.assign(n=frame["measure"].map(counts["n"]), gone=frame["measure"].map(counts["undefined"]))
    if len(means):
        frame = frame.merge(spread(means, ["measure"], means["axis"]).drop(columns="n"), on="measure", how="left")
    columns = (
        LABEL,
        Column("sign_error_mean", "mean error", ".2f", True),
        Column("sign_error_p90", "90th percentile", ".2f", True),
        Column("sign_error_max", "maximum", ".2f"),
        Column("n", "environments", ".0f"),
        Column("gone", "left out", ".0f"),
        *(Column(axis, f"mean, {axis}", ".2f", True) for axis in source.ledger.axes),
    )
    look = (
        "Share of comparisons of two configurations, one setting apart, that the measure orders wrongly; 1/2 is chance."
        " A robust measure has even its maximum below 1/2 (or, falling with the gap, its minimum above)."
    )
    return View("sign_errors", "Robust sign errors", look, columns, source.named(frame))
