"""One model of settings: the flow's parameters, the flags and the keys of pipeline.yaml."""

from __future__ import annotations

import inspect
from pathlib import Path

import yaml
from cyclopts import App

from flows import cli
from flows.benchmark import sclip_benchmark
from sclip_core.config import Settings, resolve, tables

ROOT = Path(__file__).parents[2]


def test_flow_takes_every_setting():
    parameters = set(inspect.signature(sclip_benchmark.fn).parameters)
    assert parameters == {"config", "preset", *Settings.model_fields}


def test_flow_schema_has_types_and_bounds():
    properties = sclip_benchmark.parameters.properties
    assert "integer" in str(properties["pamr_steps"])
    assert "minimum" in str(properties["pamr_steps"])
    assert "fp16" in str(properties["dtype"])


def test_command_takes_every_setting():
    assert isinstance(cli.app, App)
    parameters = set(inspect.signature(cli.run).parameters)
    assert set(Settings.model_fields) <= parameters
    assert set(Settings.model_fields) <= set(inspect.signature(cli.plan).parameters)


def test_deployments():
    loaded = yaml.safe_load((ROOT / "pipeline.yaml").read_text())
    deployments = {row["name"]: row for row in loaded["deployments"]}
    assert deployments["sclip-benchmark"]["entrypoint"] == "flows/benchmark.py:sclip_benchmark"
    names = {name.replace("-", "_") for name in deployments}
    assert set(tables()["benchmarks"]) <= names
    assert deployments["pamr"]["parameters"]["pamr_steps"] > 0
    for row in deployments.values():
        given = {**row["parameters"], "config": ROOT / row["parameters"]["config"]}
        assert resolve(**given).model == ("sclip-demo" if row["name"] == "scenes" else "ViT-B-16")
