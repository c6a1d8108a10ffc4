"""One model of settings: the flow's parameters, the flags and the keys of pipeline.yaml."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Literal, get_args, get_origin

import jsonschema
import pytest
import yaml
from cyclopts import App
from prefect.exceptions import ParameterTypeError

from flows import cli
from flows.benchmark import opened_runs, sclip_benchmark
from flows.cli.options import settings_of
from flows.parameters import flag, in_parameters
from sclip_core.config import SEVERAL, Settings, UserError, resolve, resolve_several, tables

ROOT = Path(__file__).parents[2]


def test_flow_takes_every_setting():
    parameters = set(inspect.signature(sclip_benchmark.fn).parameters)
    assert parameters == {"config", "preset", "pamr", *Settings.model_fields}


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
        assert row["description"]
        assert row["tags"]
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
        ("logit_scale", "30,40.5", [30, 40.5]),
        ("logit_scale", ["30", 30.0, 1e2], [30, 100]),
        ("prob_thd", "0,.25", [0, 0.25]),
        ("area_thd", [0.1, "0.2,0.3"], [0.1, 0.2, 0.3]),
        ("pamr_dilations", "8,16;1,2", [(8, 16), (1, 2)]),
        ("pamr_dilations", " 8, 16 ; 1;", [(8, 16), (1,)]),
        ("pamr_dilations", [[8, 16], [1, 2]], [(8, 16), (1, 2)]),
        ("pamr_dilations", [(8, 16), "1,2;4"], [(8, 16), (1, 2), (4,)]),
        ("pamr_dilations", ["8,16", 4], [(8, 16), (4,)]),
        ("pamr_dilations", [8, 16], [(8, 16)]),
        ("pamr_dilations", ["8", "16"], [(8, 16)]),
        ("pamr_dilations", 8, [(8,)]),
        ("pamr_dilations", "1,2;1, 2", [(1, 2)]),
    ],
)
def test_several_values(name, value, expected):
    read = {"pamr_dilations": {"pamr_steps": 1}, "logit_scale": {"prob_thd": 0.1}}.get(name, {})
    given = {"dataset": "voc20", "data_root": "nowhere", **read, name: value}
    assert [getattr(settings, name) for settings in resolve_several(**given)] == expected


SCALE, DILATIONS = "logit_scale changes no label ", "pamr_dilations changes no label "


@pytest.mark.parametrize(
    ("given", "names", "points", "says"),
    [
        (
            {"logit_scale": "30,40,50"},
            ["logit_scale"],
            [(40,)],
            [SCALE + "without prob_thd: 30, 40 and 50 are one point, run with 40"],
        ),
        (
            {"logit_scale": "50,30"},
            ["logit_scale"],
            [(50,)],
            [SCALE + "without prob_thd: 50 and 30 are one point, run with 50"],
        ),
        ({"logit_scale": "50,30", "dataset": "voc21"}, ["logit_scale"], [(50,), (30,)], []),
        (
            {"logit_scale": "30,65", "dataset": "voc21", "prob_thd": "0.2,0"},
            ["logit_scale", "prob_thd"],
            [(30, 0.2), (65, 0), (65, 0.2)],
            [SCALE + "without prob_thd: 30 and 65 are one point there, run with 65"],
        ),
        (
            {"pamr_steps": "0,5", "pamr_dilations": "1,2;4;8,16"},
            ["pamr_steps", "pamr_dilations"],
            [(0, (8, 16)), (5, (1, 2)), (5, (4,)), (5, (8, 16))],
            [DILATIONS + "without PAMR: 1,2; 4 and 8,16 are one point there, run with 8,16"],
        ),
        (
            {"pamr_dilations": "4;8"},
            ["pamr_dilations"],
            [((4,),)],
            [DILATIONS + "without PAMR: 4 and 8 are one point, run with 4"],
        ),
        (
            {"mode": "baseline", "attention": "kk,csa", "pamr_steps": 5},
            ["attention"],
            [("csa",)],
            ["attention changes no label in mode baseline: kk and csa are one point"],
        ),
        (
            {"mode": "dense,hybrid,baseline", "hybrid_rule": "vote,pool"},
            ["mode", "hybrid_rule"],
            [("dense", "vote"), ("hybrid", "vote"), ("hybrid", "pool"), ("baseline", "vote")],
            [],
        ),
    ],
)
def test_what_changes_no_label_is_one_run(given, names, points, says):
    """With the protocol's own value if it is there, else the first; in the order of the grid."""
    said: list[str] = []
    given = {"dataset": "voc20", "data_root": "nowhere", **given}
    several = resolve_several(note=said.append, **given)
    assert [tuple(getattr(settings, name) for name in names) for settings in several] == points
    assert {type(settings.logit_scale) for settings in several} == {float}  # keys tell 40 from 40.0
    assert said == says


def test_flow_takes_several_values():
    """As Prefect's validation leaves them; a list of numbers is one set of dilations."""

    def validated(name, value):
        return sclip_benchmark.validate_parameters({name: value})[name]

    assert validated("logit_scale", [30, 40]) == [30, 40]
    assert validated("logit_scale", 30) == 30
    assert validated("pamr_dilations", [8, 16]) == (8, 16)
    assert validated("pamr_dilations", [[8, 16], [1, 2]]) == [(8, 16), (1, 2)]
    for name, value in (("logit_scale", [30, 0]), ("pamr_dilations", [[8, 0]]), ("area_thd", [2])):
        with pytest.raises(ParameterTypeError, match=name):
            validated(name, value)
    listed = sclip_benchmark.parameters.properties["pamr_dilations"]["anyOf"]
    kinds = [kind.get("items", {}).get("type", kind.get("pattern")) for kind in listed]
    assert kinds == ["integer", "array", "[,;]", None]


def test_flow_takes_text_as_the_command_does():
    """Prefect's server checks a run by the schema, and the flow by the types."""
    schema = sclip_benchmark.parameters.model_dump()
    for name, text, expected in (
        ("ignore_label", "255,11", (255, 11)),
        ("ignore_label", 255, (255,)),  # so Prefect's command reads 255
        ("force", "refine,metrics", ("refine", "metrics")),
        ("pamr_steps", "0,5", "0,5"),  # which is several: one run each
        ("pamr_dilations", "8,16", (8, 16)),
        ("pamr_dilations", "8,16;1,2", "8,16;1,2"),
    ):
        jsonschema.validate({name: text}, schema)
        assert sclip_benchmark.validate_parameters({name: text})[name] == expected
    for name, wrong in (("pamr_steps", "five"), ("mode", "dence"), ("num_samples", "3,4")):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: wrong}, schema)


def test_form_says_what_the_help_says():
    """Each field of a deployment's form is described, in the order in which they are wanted."""
    properties = sclip_benchmark.parameters.properties
    assert [n for n in properties if not properties[n].get("description")] == []
    first = ["dataset", "images", "labels", "classes", "pamr", "pamr_steps", "num_samples"]
    by_position = sorted(properties, key=lambda name: properties[name]["position"])
    assert by_position[: len(first)] == list(properties)[: len(first)] == first
    for name, field in Settings.model_fields.items():
        help_text = get_args(flag(name, field))[1].help.split(" sclip run takes several")[0]
        said = properties[name]["description"].split(" Several:")[0]
        assert in_parameters(help_text).startswith(said) or said == in_parameters(help_text)
        if get_origin(field.annotation) is Literal:
            assert list(get_args(field.annotation)) in [
                kind.get("enum") for kind in properties[name]["anyOf"]
            ]
    assert properties["short_side"]["description"].endswith("[336]")
    assert properties["dtype"]["anyOf"][0]["enum"] == ["auto", "fp32", "bf16", "fp16"]


def test_messages_name_parameters_where_there_are_no_flags():
    line = "--images DIR [--label-pattern P]: --pamr-steps 3, or --direct"
    assert in_parameters(line) == "images DIR [label_pattern P]: pamr_steps 3, or --direct"


@pytest.mark.parametrize(
    ("given", "steps"),
    [({}, 0), ({"pamr": True}, 10), ({"pamr": False}, 0), ({"pamr": True, "pamr_steps": 3}, 3)],
)
def test_pamr_is_a_switch_of_the_flow(monkeypatch, given, steps):
    opened = []
    monkeypatch.setattr("sclip_core.pipeline.run.Run.several", lambda s, told: opened.extend(s))
    monkeypatch.setattr("flows.benchmark.get_run_logger", lambda: logging.getLogger("test"))
    given = {"dataset": "voc20", "data_root": "nowhere", **given}
    with pytest.raises(TypeError):  # of no runs, which is enough here
        opened_runs(None, None, given.pop("pamr", None), given)
    assert [settings.pamr_steps for settings in opened] == [steps]


def test_a_switch_and_a_parameter_say_one_thing(monkeypatch):
    monkeypatch.setattr("flows.benchmark.get_run_logger", lambda: logging.getLogger("test"))
    asked = {"dataset": "voc20", "data_root": "nowhere", "pamr_steps": 5}
    with pytest.raises(UserError, match=r"^pamr=False and pamr_steps=5 conflict: use only one$"):
        opened_runs(None, None, False, asked)


def test_help_says_what_takes_several():
    for name in SEVERAL:
        kind = get_args(flag(name, Settings.model_fields[name]))
        assert "run takes several" in kind[1].help
    kind = get_args(flag("short_side", Settings.model_fields["short_side"]))
    assert "several" not in kind[1].help


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
    assert ("conflict" in said) == (code == 2)


def test_steps_by_a_switch_read_dilations(monkeypatch):
    monkeypatch.chdir(ROOT / "tests")  # no pipeline.yaml
    said = []
    monkeypatch.setattr("flows.cli.options.note", said.append)
    given = {"dataset": "voc20", "data_root": "nowhere", "pamr_dilations": "8,16;1,2"}
    several = settings_of(None, None, True, None, False, given)
    assert [(s.pamr_steps, s.pamr_dilations) for s in several] == [(10, (8, 16)), (10, (1, 2))]
    assert not said
    assert len(settings_of(None, None, None, None, False, given)) == 1
    assert len(said) == 1
