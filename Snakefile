"""p2law: from base checkpoints to a plan for post-training pruned language models.

    corpus -> base -> prune -> posttrain -> evaluate -> tables -> law -> figures -> report

One study file goes in (config.yaml, or one of studies/ through --configfile); everything that
comes out lies in results/<study>/. Each stage has its rules file; its numbers are made by one
command-line script of workflow/scripts/ that can be run by hand.
"""

from snakemake.utils import min_version

min_version("9.27")

# Studies are whole files: --configfile takes the default's place and is not merged over it.
if not workflow.overwrite_configfiles:

    configfile: "config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/corpus.smk"
include: "workflow/rules/base.smk"
include: "workflow/rules/prune.smk"
include: "workflow/rules/posttrain.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/law.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/check.smk"
include: "workflow/rules/start.smk"


localrules:
    all,
    tables,
    law,
    figures,
    summary,
    report,
    check,
    cost,


rule all:
    default_target: True
    input:
        targets("report", "figures", "summary"),
