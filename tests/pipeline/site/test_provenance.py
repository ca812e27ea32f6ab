from pipeline.site.provenance import as_text, card_rows, rows


def test_a_card_skips_what_is_missing_and_begins_with_what_matters() -> None:
    card: dict[str, object] = {
        "training_data": "photographs",
        "licence": "",
        "source": None,
        "title": "Net",
        "labels": [],
    }
    assert [(row.name, row.text) for row in card_rows(card)] == [("title", "Net"), ("training data", "photographs")]


def test_only_web_addresses_become_links() -> None:
    texts = [
        "https://example.org/a",
        "http://x.y",
        "javascript:alert(1)",
        "https://",
        "data:text/html,x",
        "https://a b",
    ]
    assert [bool(row.href) for row in rows({str(i): text for i, text in enumerate(texts)})] == [
        True,
        True,
        False,
        False,
        False,
        False,
    ]


def test_values_are_readable() -> None:
    assert as_text({"height": 3, "width": 4, "mean": [0.5, 0.25]}) == "3 \N{MULTIPLICATION SIGN} 4 px; mean 0.5, 0.25"
    assert as_text({"lr_end": 0.0, "fit": "resize", "note": None}) == "lr end 0; fit resize"
    assert as_text(True) == "yes"
