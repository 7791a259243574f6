# One job trains the runs of a batch. Each run keeps its own cache and sidecar in runs/RUN, so a job that is killed
# goes on where it stood; a run that collapses says so in its run.json and does not fail the job.


rule train:
    input:
        plan=ancient("<results>/plan.json"),
        data="<results>/data/splits.json",
    output:
        "<results>/runs/{batch}.json",
    log:
        "<logs>/train/{batch}.log",
    benchmark:
        "<benchmarks>/train/{batch}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=24 * 60,
    params:
        results=subpath(input.plan, parent=True),
        digest=JOBS.batch_digest,
    shell:
        "python -m training train --plan {input.plan} --batch {wildcards.batch}"
        " --results {params.results} --out {output} > {log} 2>&1"
