"""The shop on two clusters, with pytest and kubectl. They need the variables of `kindmesh env`:

    kindmesh up && eval "$(kindmesh env)" && pytest examples/shop/pytest
"""

import json
import os
import pathlib
import subprocess

import pytest

MANIFESTS = pathlib.Path(__file__).parent.parent / "manifests"


def run(*command):
    """Runs a command that must succeed, and returns its output."""
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def kubectl(cluster, *arguments):
    """Runs kubectl on a cluster, which is 1 or 2."""
    return run("kubectl", "--context", os.environ[f"CTX_CLUSTER{cluster}"], *arguments)


def get(cluster, service, path):
    """Sends a GET to a Service through the cluster's API server: no port of the host is needed."""
    return json.loads(kubectl(cluster, "get", "--raw", f"/api/v1/namespaces/shop/services/{service}:8080/proxy{path}"))


@pytest.fixture(scope="session", autouse=True)
def shop():
    deployed = json.loads(run("kindmesh", "deploy", str(MANIFESTS), "--output", "json"))["deployed"]
    yield deployed
    run("kindmesh", "deploy", str(MANIFESTS), "--delete")


def test_a_checkout_asks_for_orders_in_the_other_cluster():
    assert get(1, "checkout", "/checkout") == {"orders": {"onOrder": 3}}


def test_orders_run_in_the_other_cluster_alone():
    selected = ("-n", "shop", "get", "pods", "-l", "app=orders", "-o", "name")
    assert kubectl(1, *selected) == ""
    assert "pod/orders" in kubectl(2, *selected)


def test_the_name_that_checkout_calls_has_a_stub(shop):
    assert "orders" in [stub["object"]["name"] for stub in shop["stubs"]]
