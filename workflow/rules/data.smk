# The plan of the study, and its images: fixed splits, and pseudo-labels of the extra pool where runs ask for it.


rule plan:
    output:
        "<results>/plan.json",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=600,
        runtime=10,
    params:
        study=JOBS.study_json(),
    shell:
        "printf %s {params.study:q} | python -m workflow.grid plan - --out {output} 2> {log}"


rule data:
    input:
        plan=ancient("<results>/plan.json"),
    output:
        "<results>/data/splits.json",
    log:
        "<logs>/data.log",
    benchmark:
        "<benchmarks>/data.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        digest=JOBS.data_digest(),
    shell:
        "python -m training data --plan {input.plan} --out {output} > {log} 2>&1"
