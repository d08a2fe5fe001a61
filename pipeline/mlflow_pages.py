"""Addresses within MLflow's pages, as they stand behind the address of its server.

Which side MLflow shows, machine learning or generative models, is what that browser looked at last. A browser that was never
there is shown traces, and a menu without the model registry. Only the address can say otherwise, so each one does.
"""

SIDE = "workflowType=machine_learning"


def experiment(experiment_id: str) -> str:
    """The list of an experiment's runs."""
    return f"#/experiments/{experiment_id}/runs?{SIDE}"


def run(experiment_id: str, run_id: str) -> str:
    """One run."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{SIDE}"


def model(name: str) -> str:
    """A registered model and its versions."""
    return f"#/models/{name}?{SIDE}"
