# What comes before the first job, and how jobs call Python.

from robustgap.workflow.deployment import place_or_exit

place_or_exit(
    workflow.modifier.path_modifier.replace_prefix(
        workflow.pathvars.apply("<results>")
    ),
    JOBS.results,
)
# What is there stays: another Snakefile's prefix, or else the strict mode of bash, which Snakemake would drop.
shell.prefix(
    JOBS.shell_prefix(
        workflow.deployment_settings.deployment_method, shell._get_process_prefix()
    )
    .replace("{", "{{")
    .replace("}", "}}")
)


onstart:
    JOBS.start(workflow.executor_settings, workflow.dag_settings.targets)


# Not by the Snakemake of a job on a node
if not MAIN and workflow.is_main_process and not workflow.output_settings.dryrun:
    JOBS.start_as_module()
