"""Examines a data set: missing and damaged files, photos or drives that are in queries and database, queries with
nothing to be found, positions and times that cannot be right. The exit code is 0 if it is sound and 3 if
something is wrong.

tfplaces-check-data --dataset=folder:photos
tfplaces-check-data --dataset='utm:photos?radius=25' --sheet=sheet.jpg --json=check.json
"""

from __future__ import annotations

import dataclasses
import warnings

from absl import flags

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.tools import entry

NOT_SOUND = 3


def define_flags(values: flags.FlagValues) -> None:
    def string(name: str, text: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, text, required=required, flag_values=values)

    string("dataset", "The data set, written KIND[:PATH][?key=value].", required=True)
    string("sheet", "A .jpg or .png to draw some queries into, with positives and the nearest negatives.")
    string("json", "A file to write what was found to as well.")
    flags.DEFINE_boolean("quick", False, "Read the headers of files only: damage further on is not found, and of "
                         "photos that are alike only copies of whole files are.", flag_values=values)  # fmt: skip


def main(args: flags.FlagValues) -> int:
    if args.sheet and not args.sheet.lower().endswith((".jpg", ".jpeg", ".png")):
        raise UserError(f"--sheet={args.sheet}: a sheet is written to a file named .jpg or .png")
    for path in (args.sheet, args.json):
        if path:
            entry.check_output(path, args.overwrite)

    from tfplaces.common.files import replacing, write_json
    from tfplaces.datasets import load_dataset
    from tfplaces.datasets.discovery import MissingImagesError
    from tfplaces.workflows.data_check import check_dataset, not_opened
    from tfplaces.workflows.findings import WRONG, format_findings, verdict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # its notes are among the findings
        try:
            dataset = load_dataset(args.dataset)
        except MissingImagesError as error:
            dataset, findings = None, not_opened(error)
    if dataset is not None:
        if args.sheet and not len(dataset.queries):
            raise UserError(f"{args.dataset}: has no queries to draw; leave out --sheet")
        findings = check_dataset(dataset, args.quick)
    print(format_findings(findings))
    sound = not any(finding.level == WRONG for finding in findings)
    if args.sheet and dataset is not None:
        from tfplaces.report.truth_sheet import truth_sheet

        sheet = truth_sheet(dataset)
        with replacing(args.sheet) as temporary:
            sheet.save(temporary)
    if args.json:
        listed = [dataclasses.asdict(finding) for finding in findings]
        write_json(args.json, {"dataset": args.dataset, "sound": sound, "verdict": verdict(findings),
                               "findings": listed})  # fmt: skip
    return 0 if sound else NOT_SOUND


def run(argv: list[str] | None = None) -> None:
    """Entry point of the console command."""
    entry.run(define_flags, main, argv)


if __name__ == "__main__":
    run()
