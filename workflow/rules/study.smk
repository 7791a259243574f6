# Reads and checks the study. If this Snakefile is a module of another one, that one passes the configuration on.

from robustgap.workflow.deployment import study_files_or_exit, version_or_exit
from robustgap.workflow.grid import plan_or_exit
from robustgap.workflow.jobs import Jobs
from robustgap.workflow.study import DEFAULT

MAIN = workflow.modifier.is_main_snakefile()
version_or_exit(
    workflow.source_path("../../robustgap/__init__.py"),
    workflow.modifier.base_snakefile,
)

# Snakemake would merge the default study into the one given on the command line.
if MAIN and not workflow.overwrite_configfiles:

    configfile: DEFAULT


FILES = study_files_or_exit(
    config,
    workflow.configfiles,
    workflow.overwrite_configfiles,
    replaced=workflow.config_settings.replace_workflow_config,
    main=MAIN,
)
JOBS = Jobs(plan_or_exit(config, FILES))
