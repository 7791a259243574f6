# One job trains the runs of a batch. Each run keeps its own cache and sidecar in runs/RUN, so a job that is killed
# goes on where it stood; a run that collapses says so in its run.json and does not fail the job. It trains as many runs
# side by side as it has threads; how many these are is no parameter, because it changes no result.


rule train:
    input:
        data="<results>/data/splits.json",
    output:
        manifest="<results>/runs/{batch}.json",
    log:
        "<logs>/train/{batch}.log",
    benchmark:
        "<benchmarks>/train/{batch}.tsv"
    conda:
        "../../environment.yml"
    threads: JOBS.study["train_processes"]
    resources:
        runtime=lambda wildcards, attempt: 24 * 60 * attempt,
        mem_mb=lambda wildcards, threads, attempt: (4000 + 4000 * threads) * attempt,
    params:
        results=subpath(output.manifest, ancestor=2),
        digest=JOBS.batch_digest,
    shell:
        "robustgap_python -m robustgap.training train --plan {params.results}/plan.json --batch {wildcards.batch}"
        " --results {params.results} --out {output} --processes {threads} > {log} 2>&1"
