import re

import pytest

from pipeline.site.paths import MAX_LENGTH, image_name, safe_name

NAMES = [
    "fc", "FC", "Fc", "fC", "layer4.2.conv3", "layer4/2/conv3", "layer4 2 conv3", "", ".", "..", "...", "a.", "a", ".a",
    "aux", "AUX", "aux.conv", "auxiliary", "con1", "com1", "com1.x", "~", "~~", "~099on", "con", "c~099on", "ö",
    "o\u0308",
    "<script>", "a/../b", "a\\b", "a\x00b", "a\nb", "%2e", "x" * 300, "x" * 301, "X" * 300, "ö" * 60, "-", "_", "~-",
    "\ud800", "名前", "a:b", "a*b", "a?b#c",
]  # fmt: skip


def test_names_are_safe_path_components_everywhere() -> None:
    for name in NAMES:
        folder = safe_name(name)
        assert re.fullmatch(r"[a-z0-9._~-]+", folder), name
        assert len(folder) <= MAX_LENGTH
        assert not folder.startswith(".")
        assert not folder.endswith(".")
        assert not re.match(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", folder)


def test_different_names_have_different_folders_even_where_case_is_ignored() -> None:
    assert len({safe_name(name).lower() for name in NAMES}) == len(set(NAMES))


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("layer4.2.conv3", "layer4.2.conv3"),
        ("Mixed_5b.Conv", "~mixed_5b.~conv"),
        ("/a b", "~047a~032b"),
        ("..", "~046~046"),
        ("é", "~195~169"),
        ("aux.conv", "~097ux.conv"),
        ("", "~"),
    ],
)
def test_permalinks_never_change(name: str, folder: str) -> None:
    assert safe_name(name) == folder


def test_a_long_name_is_cut_and_told_apart_by_its_digest() -> None:
    assert safe_name("a" * 300).startswith("a" * 40)
    assert safe_name("a" * 300) != safe_name("a" * 299 + "b")
    assert safe_name("a" * MAX_LENGTH) == "a" * MAX_LENGTH


def test_every_image_has_a_name_of_its_own() -> None:
    names = {image_name(u, s, crop=c) for u in (1, 11) for s in (1, 11) for c in (True, False)}
    assert len(names) == 8
