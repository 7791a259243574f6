"""Top of the report: key numbers, verdicts in words, and what was found in sentences."""

from typing import Any

from robustgap.analysis.findings.beside import check_sentences
from robustgap.analysis.findings.verdicts import removal_sentence, verdict_sentence, why_unresolved, without_sentence
from robustgap.analysis.labels import minus
from robustgap.analysis.models.baselines import MEASURE
from robustgap.analysis.outcome_names import OutcomeColumn
from robustgap.analysis.report.tables import table_view
from robustgap.analysis.view import View
from robustgap.analysis.words import noun, unit


def key_numbers(findings: dict[str, Any]) -> list[tuple[str, str]]:
    """(number, what it counts) for the top of the page."""
    sample, gap = findings["sample"], findings["gap"]
    tiles = [(f"{sample['models']:,}", f"models analysed of {sample['planned']:,} planned")]
    if sample["configurations"]:
        tiles.append((f"{sample['configurations']:,}", f"configurations, {sample['trainings']:,} trainings"))
    if gap["n"]:
        spread = minus(f"{gap['min']:.1f} to {gap['max']:.1f}")
        explained = OutcomeColumn.read(findings["outcome"])
        what = f"median {noun(explained)}{f', {unit(explained)}' if unit(explained) else ''}"
        tiles.append((minus(f"{gap['median']:.1f}"), f"{what} ({spread})"))
    if gap.get("adversarially_trained"):
        share = f"{gap['above_2_se']:,} of {gap['adversarially_trained']:,}"
        tiles.append((share, "adversarially trained models with a gap above 2 of its standard errors"))
    tiles.append(
        (
            f"{len(findings['strongest'])} of {findings['measures']}",
            "measure columns whose single τ interval excludes 0",
        )
    )
    tiles.append((f"{sample['failed'] + sample['collapsed']:,}", "models failed or collapsed"))
    return tiles


def context(verdicts: View, findings: dict[str, Any], study: str) -> dict[str, Any]:
    """verdicts: the view of all verdicts; findings: content of findings.json."""
    rows, without = verdicts.frame, findings["without_flagged"]
    measures = rows[rows["kind"] == MEASURE]
    labels = measures["label"].tolist()
    return {
        "tiles": key_numbers(findings),
        "sentences": findings["sentences"],
        "without": without,
        "verdicts": table_view(verdicts, study),
        "reasons": rows[["label", "shown", "reason"]].to_numpy().tolist(),
        "verdict_sentence": verdict_sentence(measures, labels),
        "removals": removal_sentence(measures),
        "verdicts_without": without_sentence(measures, labels, without),
        "why_unresolved": why_unresolved(measures),
        "checks": check_sentences(rows),
    }
