# The tidy tables of the study, from which all statistics and figures are made.


rule catalogue:
    output:
        "<results>/catalogue.json",
    log:
        "<logs>/catalogue.log",
    benchmark:
        "<benchmarks>/catalogue.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        code=source_digest("measures"),
    shell:
        "robustgap_python -m robustgap.measures list --json > {output} 2> {log}"


rule ledger:
    input:
        JOBS.outcome_tables(),
        [
            JOBS.for_chunks(f"<results>/measures/{name}/{{chunk}}.csv")
            for name in JOBS.measures
        ],
        catalogue="<results>/catalogue.json",
    output:
        multiext("<results>/ledger/runs", ".parquet", ".csv"),
        multiext("<results>/ledger/outcomes", ".parquet", ".csv"),
        multiext("<results>/ledger/measures", ".parquet", ".csv"),
        multiext("<results>/ledger/", "bits.parquet", "catalogue.json"),
        study="<results>/ledger/study.json",
    log:
        "<logs>/ledger.log",
    benchmark:
        "<benchmarks>/ledger.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=subpath(output.study, ancestor=2),
        code=source_digest("analysis"),
        plan=JOBS.plan_digest(),
        folder=subpath(output.study, parent=True),
    shell:
        "robustgap_python -m robustgap.analysis ledger --results {params.results} --out {params.folder} > {log} 2>&1"
