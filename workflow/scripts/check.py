"""Validate a study beyond its form and say what it will make; starts nothing."""

import sys

from p2law.cluster.costs import Costs
from p2law.commands import script
from p2law.study.checks import check_study
from p2law.study.grid import Study
from p2law.study.stages import Stages


def main() -> None:
    parser = script.parser(__doc__)
    parser.add_argument("--study", required=True, type=script.json_object, help="the study, JSON")
    parser.add_argument("--origin", default="study", help="the file to name in errors")
    arguments = parser.parse_args()
    study = Study(arguments.study, arguments.origin)
    stages = Stages(study)
    check_study(stages, arguments.origin)
    Costs(stages)
    points = len(study.runs) * len(study.budgets)
    print(
        f"{study.name}: {len(study.models)} models, {len(study.variants)} variants,"
        f" {len(study.runs)} runs, {points} points; nothing wrong was found"
    )
    print(f"{'variant':32}{'N0':>12}{'N':>12}  asked  achieved  change")
    for variant in study.variants.values():
        shape = variant.shape
        removed = ", ".join(f"{what} {amount}" for what, amount in shape["removed"].items())
        print(
            f"{variant.model + ' ' + variant.name:32}{shape['N0']:>12,}{shape['N']:>12,}"
            f"  {variant.asked:>5}  {shape['rate']:>8.4f}  {removed}"
        )


if __name__ == "__main__":
    sys.exit(script.run(main))
