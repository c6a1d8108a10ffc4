"""One model of settings: the flow's parameters, the flags and the keys of pipeline.yaml."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml
from cyclopts import App

from flows import cli
from flows.benchmark import sclip_benchmark
from sclip_core.config import Settings, resolve, resolve_several, tables

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


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("attention", "csa", ["csa"]),
        ("attention", " csa, kk ,", ["csa", "kk"]),
        ("attention", ["csa,kk", "naclip"], ["csa", "kk", "naclip"]),
        ("attention", "csa,csa", ["csa"]),
        ("pamr_steps", "0, 10", [0, 10]),
        ("pamr_steps", [0, "5,10"], [0, 5, 10]),
        ("pamr_steps", "5,5.0", [5]),
        ("pamr_steps", 3, [3]),
    ],
)
def test_several_values(name, value, expected):
    several = resolve_several(dataset="voc20", data_root="nowhere", **{name: value})
    assert [getattr(settings, name) for settings in several] == expected


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--pamr", "--pamr-steps", "5,10"], None),
        (["--pamr", "--pamr-steps", "0,10"], 2),
        (["--pamr", "--pamr-steps", "00"], 2),
        (["--no-pamr", "--pamr-steps", "0,0"], None),
        (["--no-pamr", "--pamr-steps", "0,1"], 2),
    ],
)
def test_a_switch_and_its_steps_say_one_thing(capsys, words, code):
    from flows import cli

    found = cli.main(["plan", "--dataset", "voc20", "--data-root", "nowhere", *words])
    said = capsys.readouterr().err
    assert found == 2  # there is no such folder
    assert ("say two things" in said) == (code == 2)
