# Every figure of analysis/figures, drawn from the ledger, in each format and with its data as CSV. If figures are the only
# target and the study has no results here, they are drawn from the published ledger.


rule figures:
    input:
        ledger=lambda wildcards: JOBS.figures_ledger(workflow.dag_settings.targets),
        statistics=lambda wildcards: JOBS.figures_statistics(
            workflow.dag_settings.targets
        ),
    output:
        expand(
            "<results>/figures/{name}.{kind}",
            name=figure_names(),
            kind=["pdf", "png", "csv"],
        ),
        [
            report(
                f"<results>/figures/{name}.svg",
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": name},
            )
            for name in figure_names()
        ],
    log:
        "<logs>/figures.log",
    benchmark:
        "<benchmarks>/figures.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    params:
        ledger=subpath(input.ledger, parent=True),
        statistics=lambda wildcards, input: [
            f"--statistics {Path(file).parent}" for file in input.statistics
        ],
        folder=lambda wildcards, output: Path(output[0]).parent,
        code=source_digest("analysis"),
    shell:
        "robustgap_python -m robustgap.analysis figures {params.ledger} {params.statistics} --jobs {threads} --out {params.folder}"
        " > {log} 2>&1"
