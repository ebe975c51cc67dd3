"""The command sm.report."""

from __future__ import annotations

from invoke import Context

from ops.core.task import Result, task


@task(
    positional=["job"],
    help={
        "job": "Training job, of SageMaker or the box (default: the newest completed SageMaker job).",
        "open": "Open the report in the browser.",
        "json": "Print the result as JSON.",
    },
)
def report(c: Context, job: str = "", open: bool = False, json: bool = False) -> Result:
    """Write an HTML report of a trained model.

    It shows the learning curves, the confusion matrix and the worst mistakes.

    Example: invoke sm.report JOB --open
    """
    from ops.core.aws.account import Account
    from ops.jobs.training_jobs import name_job
    from ops.reports import drawing

    account = Account.from_context(c)
    job = name_job(account, job, "Completed")
    made = drawing.write_report(account, job)
    if open:
        import webbrowser

        webbrowser.open(made.path.resolve().as_uri())
    data = {"job": job, "report": made.path, **made.plots, "metrics": made.metrics, "missing": made.missing}
    return Result(data, f"{made.path}\nNext: invoke sm.deploy --job {job}")
