"""A study from slides to figures. `snakemake --profile profiles/local` runs the demo, `snakemake --profile profiles/local
--configfile workflow/studies/<name>.yaml` another study. Each rule calls one command of `stedm`."""

import os
import time
from threading import Thread

from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod
from snakemake.utils import min_version

from stedm.config.templates import refuse_templates

min_version("9.8")
STARTED = time.time()

# A study file replaces the default study, which Snakemake would merge with it; so does the configuration of a workflow
# that has this one as a module. The default study of another folder is the one beside this file, with its sheet.
if not workflow.overwrite_configfiles and "slides" not in config:
    refuse_templates(["--configfile", "config.yaml"])
    if os.path.exists("config.yaml"):

        configfile: "config.yaml"

    else:

        configfile: os.path.join(workflow.basedir, "config.yaml")

        if "slides" in config:  # not where Snakemake leaves the default study out
            config["slides"]["sheet"] = os.path.join(workflow.basedir, config["slides"]["sheet"])


include: "workflow/rules/common.smk"


if DeploymentMethod.APPTAINER in workflow.deployment_settings.deployment_method:

    container: IMAGE  # only here, because Snakemake refuses images in a folder with a space in its name


include: "workflow/rules/slides.smk"
include: "workflow/rules/patches.smk"
include: "workflow/rules/splits.smk"
include: "workflow/rules/first_stage.smk"
include: "workflow/rules/generator.smk"
include: "workflow/rules/style_bank.smk"
include: "workflow/rules/synthesis.smk"
include: "workflow/rules/segmentation.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


onstart:
    # Slides share the time that a process takes to start. On a cluster and in environments of their own, jobs start by
    # themselves.
    elsewhere = workflow.executor_plugin.common_settings.non_local_exec
    if not elsewhere and not workflow.deployment_settings.deployment_method and server.SERVER not in os.environ:
        SERVERS.append(server.start())
    # Snakemake's limit of 100 jobs a second wakes its scheduler once a second for each job that has ended, to look at
    # all files of all jobs that wait: seconds of work for hundreds of small slides. Here, cores limit jobs.
    if not elsewhere:
        workflow.scheduler.job_rate_limiter = None
    Thread(target=report_trainings, args=(RESULTS.work, logger.info), daemon=True).start()


wildcard_constraints:
    slide=NAME.pattern,  # not the slides themselves: the report shows constraints
    split="|".join(STUDY.splits.all),
    generator="|".join(STUDY.generators) or "(?!)",
    source="|".join(STUDY.all_sources) or "(?!)",
    arm="|".join(STUDY.arms),
    seed=r"\d+",
    shard=r"\d+",


onerror:
    # After all else, as Snakemake prints options of many kilobytes above what jobs say.
    text = "".join(Path(path).read_text(encoding="utf-8", errors="replace") for path in log)
    print("", "What failed:", *explain(text), sep="\n", file=sys.stderr)


rule all:
    default_target: True
    input:
        rules.write_report.output,
        rules.patches.input,
    localrule: True
    message:
        "The study is complete: {RESULTS.report}"


onsuccess:
    # What this run has written.
    if RESULTS.check.exists() and RESULTS.check.stat().st_mtime >= STARTED and (lines := noticed(RESULTS.check)):
        print("What check noticed:", *lines, "", sep="\n")
    if RESULTS.summary.exists() and RESULTS.summary.stat().st_mtime >= STARTED:
        print(RESULTS.summary.read_text(encoding="utf-8"))


rule clean_work:
    log:
        LOGS / "clean_work.log",
    localrule: True
    conda:
        "envs/stedm.yaml"
    params:
        work=RESULTS.work,
    message:
        "Removing the checkpoints of all trainings of the study {STUDY.study}"
    shell:
        "rm -rf {params.work:q} > {log} 2>&1"
