"""robustgap: train a grid of classifiers, measure them, and say which measure predicts the robust generalization gap.

snakemake [TARGET] --cores all --workflow-profile workflow/profiles/local [--configfile workflow/config/NAME.yaml]

Targets: all (default), ledger, figures, report, interim, measure_NAME, robustbench. Results go to results/STUDY/.
The computations are in training/, measures/ and analysis/; the rules only say what depends on what.
"""

from snakemake.utils import min_version

from robustgap.workflow.jobs import (
    code_id,
    figure_names,
    source_digest,
    statistic_names,
)

min_version("9.27")


report: "workflow/report/workflow.rst"


include: "workflow/rules/study.smk"


pathvars:
    results=JOBS.results,
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


wildcard_constraints:
    batch="[0-9a-f]+",
    chunk="[0-9]{3}",


rule all:
    input:
        "<results>/report.html",
    localrule: True


include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/outcomes.smk"
include: "workflow/rules/measures.smk"
include: "workflow/rules/ledger.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/robustbench.smk"
include: "workflow/rules/start.smk"
