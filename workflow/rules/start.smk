# What runs before the first job, and how jobs call Python.

from robustgap.workflow.deployment import results_folder_or_exit

results_folder_or_exit(
    workflow.modifier.path_modifier.replace_prefix(
        workflow.pathvars.apply("<results>")
    ),
    JOBS.results,
)
# Keep the prefix that is set: another Snakefile's, or the strict mode of bash, which Snakemake would drop.
shell.prefix(
    JOBS.shell_prefix(
        workflow.deployment_settings.deployment_method, shell._get_process_prefix()
    )
    .replace("{", "{{")
    .replace("}", "}}")
)


onstart:
    JOBS.on_start(workflow.executor_settings, workflow.dag_settings.targets)


# Not in the Snakemake process that runs a job on a node.
if not MAIN and workflow.is_main_process and not workflow.output_settings.dryrun:
    JOBS.start_as_module()
