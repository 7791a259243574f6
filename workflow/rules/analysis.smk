# Every statistic of the study, each a table, and what is said about them in words; then the tables that are shown.


rule analysis:
    input:
        ledger="<results>/ledger/study.json",
    output:
        multiext(
            "<results>/analysis/",
            "models.csv",
            "issues.csv",
            "claims.csv",
            "statements.csv",
            "comparisons.csv",
            "increments.csv",
            "partial.csv",
            "simpson.csv",
            "information.csv",
            "sign_errors.csv",
            "environments.csv",
            "thresholds.csv",
            "noise.csv",
            "selection.csv",
            "reliability.csv",
            "findings.json",
        ),
        correlations=report(
            "<results>/analysis/correlations.csv",
            caption="../report/correlations.rst",
            category="Correlations",
        ),
        summary=report(
            "<results>/analysis/summary.csv",
            caption="../report/summary.rst",
            category="Correlations",
        ),
    log:
        "<logs>/analysis.log",
    benchmark:
        "<benchmarks>/analysis.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        ledger=subpath(input.ledger, parent=True),
        folder=subpath(output.correlations, parent=True),
        code=source_digest("analysis"),
    shell:
        "robustgap_python -m robustgap.analysis statistics {params.ledger} --out {params.folder} > {log} 2>&1"


rule tables:
    input:
        ledger="<results>/ledger/study.json",
        correlations="<results>/analysis/correlations.csv",
    output:
        directory("<results>/tables"),
    log:
        "<logs>/tables.log",
    benchmark:
        "<benchmarks>/tables.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        ledger=subpath(input.ledger, parent=True),
        statistics=subpath(input.correlations, parent=True),
        code=source_digest("analysis"),
    shell:
        "robustgap_python -m robustgap.analysis tables {params.ledger} --statistics {params.statistics} --out {output} > {log} 2>&1"
