"""Configurations: what is read, and what is said of what cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.errors import ConfigError
from pipeline.config import Overrides, find_config, load_config, parse_config, read_overrides

GOOD = """
name = "tiny"
[network]
source = "network.onnx"
[[layers]]
name = "fc"
units = [0, 2]
seeds = 3
[[layers]]
name = "conv"
"""


def write(folder: Path, text: str) -> str:
    path = folder / "atlas.toml"
    path.write_text(text)
    return str(path)


def test_a_configuration_is_read_with_its_defaults(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert (config.name, config.run.runtime, config.ascent.steps) == ("tiny", "auto", 60)
    assert [(layer.name, layer.selection, layer.seeds) for layer in config.layers] == [
        ("fc", (0, 2), 3),
        ("conv", "all", 1),
    ]
    assert config.default_out == Path("build/tiny")


def test_paths_start_at_the_configurations_folder(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert config.path("network.onnx") == tmp_path / "network.onnx"
    assert config.path("/abs/network.onnx") == Path("/abs/network.onnx")


FAULTS = [
    ("[ascent]\nstepz = 3", ["ascent.stepz: unknown key; did you mean steps?"]),
    ("[asent]\nsteps = 3", ["asent: unknown key; did you mean ascent"]),
    ('[[layers]]\nname = "a"\nunit = "all"', ["layers[2].unit: unknown key; did you mean units"]),
    ('[ascent]\nsteps = "many"', ["ascent.steps: 'many' is wrong; expected a whole number"]),
    ("[ascent]\nsteps = 10.0", ["ascent.steps: 10.0 is wrong; expected a whole number"]),
    ("[ascent]\nlr = true", ["ascent.lr: True is wrong; expected a number"]),
    ("[ascent]\nlr = inf", ["ascent.lr: inf is wrong; expected a finite number"]),
    ("[ascent]\nlr = -1", ["ascent.lr: -1 is wrong; expected greater than 0"]),
    ("[ascent]\nzoom = 0.1", ["ascent.zoom: 0.1 is wrong; expected two magnifications from 0.5 to 4, the smaller"]),
    ("[ascent]\nzoom = [2, 1]", ["ascent.zoom: [2, 1] is wrong; expected two magnifications"]),
    ('[ascent]\nkind = "sgd"', ["ascent.kind: 'sgd' is wrong; expected 'adam' or 'normalized'"]),
    ('[run]\nprecision = "int8"', ["run.precision: 'int8' is wrong; expected 'fp32', 'bf16' or 'fp16'"]),
    ("[run]\npoll_every = 7", ["run.poll_every: 7 must divide ascent.steps, 60; change one of them"]),
    ("[start]\ntrial_steps = 12", ["start.trial_steps: 12 must be a multiple of run.poll_every, 5, and at most"]),
    ("[start]\ntrial_steps = 65", ["start.trial_steps: 65 must be a multiple of run.poll_every, 5, and at most"]),
    ('[[layers]]\nname = "a"\nunits = "1-3"', ["layers[2].units: '1-3' is wrong; expected \"all\", a range"]),
    ('[[layers]]\nname = "a"\nunits = []', ["layers[2].units: [] is wrong"]),
    ('[[layers]]\nname = "a"\nunits = [1, "b"]', ["layers[2].units: [1, 'b'] is wrong"]),
    ('[[layers]]\nname = "a"\nunits = [-1]', ["layers[2].units: [-1] is wrong"]),
    ("[[layers]]\nseeds = 0", ["layers[2].name: missing", "layers[2].seeds: 0 is wrong"]),
    ("[generator]\ndecay = 1.5", ["generator.decay: 1.5 is wrong; expected less than or equal to 1"]),
    ("[generator]\nprior = 3", ["generator.prior: 3 is wrong; expected a kind such as"]),
    ("[generator]\nprior = {high = 3}", ["generator.prior: {'high': 3} is wrong; expected a kind such as"]),
    ("[generator]\nrange = [0]", ["generator.range: [0] is wrong; expected two numbers, [black, white]"]),
    ('[generator]\nchannels = "GRB"', ["generator.channels: 'GRB' is wrong; expected 'RGB' or 'BGR'"]),
    ('generator = "x"', ["generator: 'x' is wrong; expected a table [generator]"]),
    ('[stop]\npatience = 0\ntolerance = "x"', ["has 2 faults", "stop.patience: 0", "stop.tolerance: 'x'"]),
]


@pytest.mark.parametrize(("text", "messages"), FAULTS, ids=[text.replace("\n", " ") for text, _ in FAULTS])
def test_a_fault_is_named_by_key_value_and_what_was_expected(tmp_path: Path, text: str, messages: list[str]) -> None:
    whole = f"{text}\n{GOOD}" if not text.startswith("[") else GOOD + text
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, whole))
    for message in messages:
        assert message in str(caught.value)


def test_every_fault_is_listed_one_a_line(tmp_path: Path) -> None:
    text = 'nmae = "x"\n[network]\nsource = 3\n[ascent]\nsteps = 0\n'
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text))
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("has 5 faults:")
    assert [line.strip().partition(":")[0] for line in lines] == [
        "name",
        "network.source",
        "ascent.steps",
        "layers",
        "nmae",
    ]


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    raw = {"name": name, "network": {"source": "x.onnx"}, "layers": [{"name": "a"}]}
    with pytest.raises(ConfigError, match="names a folder"):
        parse_config(raw, "x")


def test_no_layers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"layers: \[\] is wrong; expected one table"):
        parse_config({"name": "a", "network": {"source": "x.onnx"}, "layers": []}, "x")


def test_the_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="folder: unknown key"):
        load_config(write(tmp_path, 'folder = "x"\n' + GOOD))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"configuration not found: .*nosuch\.toml"):
        load_config(str(tmp_path / "nosuch.toml"))


def test_toml_that_does_not_parse_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not TOML: .*line 3"):
        load_config(write(tmp_path, 'name = "a"\n\n[network\n'))


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "atlas.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(str(tmp_path / "atlas.toml"))


def test_a_bare_name_is_found_among_the_atlases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "deploy" / "atlases"
    folder.mkdir(parents=True)
    (folder / "zebra.toml").write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert find_config("zebra") == Path("deploy/atlases/zebra.toml")
    with pytest.raises(ConfigError, match="did you mean zebra"):
        find_config("zebro")


def test_every_atlas_of_the_project_reads() -> None:
    folder = Path(__file__).parents[2] / "deploy" / "atlases"
    names = [file.stem for file in folder.glob("*.toml")]
    assert "lite0" in names
    for name in names:
        assert load_config(str(folder / f"{name}.toml")).name == name


def test_overrides_replace_what_they_name(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    changed = read_overrides("conv, extra", "0:2", 4, "openvino", "1.5GiB").apply(config)
    assert [(layer.name, layer.selection, layer.seeds) for layer in changed.layers] == [
        ("conv", "0:2", 4),
        ("extra", "0:2", 4),
    ]
    assert changed.run.runtime == "openvino"
    assert config.run.runtime == "auto"


def test_layers_keep_their_settings_and_new_ones_get_all_units(tmp_path: Path) -> None:
    changed = read_overrides("extra,fc", None, None, None).apply(load_config(write(tmp_path, GOOD)))
    assert [(layer.name, layer.selection, layer.seeds) for layer in changed.layers] == [
        ("extra", "all", 1),
        ("fc", (0, 2), 3),
    ]


def test_no_overrides_change_nothing(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, GOOD))
    assert Overrides().apply(config) == config


@pytest.mark.parametrize("overrides", [Overrides(layers=()), Overrides(seeds=0)])
def test_overrides_that_leave_nothing_are_refused(tmp_path: Path, overrides: Overrides) -> None:
    with pytest.raises(ConfigError, match="at least"):
        overrides.apply(load_config(write(tmp_path, GOOD)))


def test_the_default_out_does_not_depend_on_where_the_configuration_lies(tmp_path: Path) -> None:
    assert not os.path.isabs(load_config(write(tmp_path, GOOD)).default_out)
