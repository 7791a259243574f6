# Every statistic of analysis/statistics as a table, and the findings in words; then the tables of the report.


rule analysis:
    input:
        ledger="<results>/ledger/study.json",
    output:
        "<results>/analysis/findings.json",
        [
            report(
                f"<results>/analysis/{name}.csv",
                caption="../report/statistic.rst",
                category="Statistics",
                labels={"statistic": name},
            )
            for name in statistic_names()
        ],
    log:
        "<logs>/analysis.log",
    benchmark:
        "<benchmarks>/analysis.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        ledger=subpath(input.ledger, parent=True),
        folder=subpath(output[0], parent=True),
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
