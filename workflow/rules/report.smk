# One HTML page: the findings in words and figures, and every run that failed or is flagged.


rule report:
    input:
        rules.figures.output,
        ledger="<results>/ledger/study.json",
        correlations="<results>/analysis/correlations.csv",
        tables=rules.tables.output,  # not read, but delivered with the report
    output:
        report(
            "<results>/report.html",
            caption="../report/report.rst",
            category="Report",
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        ledger=subpath(input.ledger, parent=True),
        statistics=subpath(input.correlations, parent=True),
        figures=lambda wildcards, input: Path(input[0]).parent,
        code=source_digest("analysis"),
    shell:
        "robustgap_python -m robustgap.analysis report {params.ledger} --figures {params.figures}"
        " --statistics {params.statistics} --out {output} > {log} 2>&1"


# Can run at any time, also while the study is running: it waits for nothing, and its page starts with what is missing.
rule interim:
    log:
        "<logs>/interim.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        study=JOBS.study["study"],
    shell:
        "robustgap_python -m robustgap.analysis interim {params.study} 2>&1 | tee {log}"
