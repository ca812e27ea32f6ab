import pytest

from pipeline.site.gallery import make_gallery
from tests.pipeline.site.samples import make_dead, make_layer, make_result, odd_atlas


def test_units_come_in_index_order_and_their_best_seed_first() -> None:
    gallery = make_gallery(
        make_layer(results=(make_result(5), make_result(1, 0, 2.0), make_dead(1, 2), make_result(1, 1, 9.0)))
    )
    assert [unit.unit for unit in gallery.units] == [1, 5]
    assert [result.seed for result in gallery.units[0].results] == [1, 0, 2]
    assert gallery.units[0].best == gallery.units[0].results[0]


def test_a_result_of_the_layer_comes_before_one_of_its_pre_activation() -> None:
    gallery = make_gallery(make_layer(results=(make_result(0, 0, 99.0, target="pre"), make_result(0, 1, 1.0))))
    assert gallery.units[0].results[0].seed == 1
    assert not gallery.units[0].pre_activation


def test_the_target_may_be_known_by_the_recipe() -> None:
    layer = make_layer("layer4", (make_result(0, target="node_relu"),), recipe={"target": "node_relu"})
    assert not make_gallery(layer).units[0].pre_activation


def test_a_unit_is_dead_only_when_every_seed_is() -> None:
    gallery = make_gallery(odd_atlas().layers[-1])
    assert {unit.unit for unit in gallery.units if unit.best is None} == {2}
    assert gallery.num_dead == 1


def test_standing_counts_units_of_the_same_target() -> None:
    results = (
        make_result(0, 0, 1.0), make_result(1, 0, 5.0), make_result(2, 0, 5.0), make_result(3, 0, 9.0),
        make_result(4, 0, 7.0, target="pre"), make_dead(5),
    )  # fmt: skip
    gallery = make_gallery(make_layer(results=results))
    standings = [gallery.standing(unit) for unit in gallery.units]
    assert [s.num_lower for s in standings if s] == [0, 1, 1, 3, 0]
    assert [s.percentile for s in standings[:4] if s] == pytest.approx([0, 50, 50, 100])
    assert standings[4] is not None
    assert standings[4].percentile is None
    assert standings[5] is None
    assert gallery.activations == [1.0, 5.0, 5.0, 9.0]
    assert gallery.num_left_out == 1


def test_a_taste_is_evenly_spaced_over_live_units() -> None:
    results = (make_dead(0), *(make_result(unit) for unit in range(1, 25)))
    assert [unit.unit for unit in make_gallery(make_layer(results=results)).taste(12)] == list(range(1, 25, 2))
    assert len(make_gallery(make_layer()).taste(12)) == 4
