"""The report of a trained model from the command line."""

from __future__ import annotations

from invoke import Context

from ops.core.task import Result, task


@task(
    help={
        "job": "A training job's name, of SageMaker or of the box.",
        "open": "Open it in the browser.",
        "json": "Print the paths and the metrics as JSON.",
    }
)
def report(c: Context, job: str, open: bool = False, json: bool = False) -> Result:
    """Draw a trained model's curves, confusions and worst mistakes."""
    from ops.core.aws.account import Account
    from ops.reports import drawing

    made = drawing.write_report(Account.from_context(c), job)
    if open:
        import webbrowser

        webbrowser.open(made.path.resolve().as_uri())
    data = {"job": job, "report": made.path, **made.plots, "metrics": made.metrics, "missing": made.missing}
    return Result(data, f"{made.path}\nNext: invoke sm.deploy --job {job}")
