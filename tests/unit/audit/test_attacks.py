from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cdist

from dpsynth.audit import disclosure
from dpsynth.audit.attacks.model import NUM_LATENTS
from dpsynth.audit.attacks.queries import answers, cells, draw_queries
from dpsynth.audit.attacks.sequences import FINGERPRINT, LENGTH, entities
from dpsynth.audit.attacks.space import Space, World, log_density, nearest
from dpsynth.audit.attacks.suite import ATTACKS
from dpsynth.audit.canaries import row_hashes
from dpsynth.audit.planted import copy_members, memorising_model, population
from dpsynth.audit.stats.roc import auc
from dpsynth.audit.vulnerability import most_vulnerable
from dpsynth.errors import InvalidInput

SIZES = (("in", 150), ("out", 150), ("s", 600), ("r", 400), ("strangers", 150))


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(0)
    return {n: population(k, rng) for n, k in SIZES}


def score(name, tables, synthetic, learned="strangers"):
    targets = pd.concat([tables["in"], tables["out"]], ignore_index=True)
    model = memorising_model(tables[learned], tables["r"], seed=0)
    world = World.of(targets, synthetic, tables["r"], model)
    value = ATTACKS[name].score(world, np.random.default_rng(0))
    return auc(value[:150], value[150:])


def test_nearest_matches_brute_force_and_copies_lie_at_zero():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(300, 5)).astype(np.float32)
    b[17] = a[3]
    distances, indices = nearest(a, b, 4)
    brute = cdist(a, b)
    np.testing.assert_allclose(distances, np.sort(brute, axis=1)[:, :4], atol=1e-5)
    assert distances[3, 0] == 0.0 and indices[3, 0] == 17


def test_log_density_matches_the_sum_of_kernels():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(10, 3)).astype(np.float32), rng.normal(size=(50, 3)).astype(np.float32)
    oracle = np.log(np.exp(-0.5 * cdist(a, b) ** 2 / 0.7**2).mean(axis=1))
    np.testing.assert_allclose(log_density(a, b, 0.7), oracle, rtol=1e-4, atol=1e-4)


def test_a_category_mismatch_counts_like_one_spread_and_missing_is_a_category():
    table = pd.DataFrame({"c": ["a", "b", None, "a"], "x": [0.0, 0.0, 0.0, np.nan]})
    points = Space.fit(table).embed(table)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1.0)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(1.0)
    assert np.linalg.norm(points[0] - points[3]) == pytest.approx(1.0)


def test_unseen_category_is_apart_from_all_seen():
    space = Space.fit(pd.DataFrame({"c": ["a", "b"]}))
    points = space.embed(pd.DataFrame({"c": ["a", "z"]}))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["copy", "nearest_record", "distance_difference", "queries"])
def test_exact_copies_are_recognised(name, tables):
    copied = copy_members(tables["s"], tables["in"], 1.0, np.random.default_rng(0))
    assert score(name, tables, copied).value >= 0.99


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attack_stays_blind_on_data_made_without_members(name, tables):
    seen = score(name, tables, tables["s"])
    assert abs(seen.value - 0.5) < 5 * seen.stderr + 1e-9


@pytest.mark.parametrize("name", ["domias", "gen_lra", "classifier", "density", "local_share", "queries"])
def test_density_attacks_recognise_noisy_copies(name, tables):
    noisy = pd.concat([tables["in"]] * 12, ignore_index=True)
    numbers = noisy.select_dtypes("number").columns
    noisy[numbers] += np.random.default_rng(0).normal(0, 0.1, (len(noisy), len(numbers)))
    seen = score(name, tables, noisy)
    assert seen.value > 0.5 + 5 * seen.stderr


@pytest.mark.parametrize("name", ["likelihood", "inversion"])
def test_attacks_on_weights_recognise_rows_that_only_the_network_remembers(name, tables):
    """Rows of a network with strangers in it, the twin, are told apart in the blind test above."""
    assert score(name, tables, tables["s"], learned="in").value >= 0.95
    data_only = score("nearest_record", tables, tables["s"], learned="in")
    assert abs(data_only.value - 0.5) < 5 * data_only.stderr


def test_likelihood_of_the_released_network_matches_the_sum_over_its_latents(tables):
    model = memorising_model(tables["in"], tables["r"], seed=0)
    rows, latent = model.encode(tables["out"].iloc[:3]).astype(int), model.latent
    draw = torch.Generator().manual_seed(0)
    sums = np.zeros(3)
    for _ in range(NUM_LATENTS // 1_000):
        shares = latent.segments.probabilities(latent.logits(latent.draw(1_000, draw))).double().numpy()
        places = rows + latent.segments.starts.numpy()
        sums += [shares[:, row].prod(axis=1).sum() for row in places]
    np.testing.assert_allclose(
        model.look(tables["out"].iloc[:3])[0], np.log(sums / NUM_LATENTS), rtol=1e-4, atol=1e-4
    )


def test_query_answers_match_brute_force():
    rng = np.random.default_rng(4)
    table = pd.DataFrame(
        {"a": rng.choice(list("xyz"), 80), "b": rng.normal(size=80), "c": rng.normal(size=80)}
    )
    table.loc[::9, "b"] = np.nan
    targets = table.iloc[:7]
    asked = draw_queries(3, rng, 12)
    (found,) = answers(targets, [table], table, asked)
    for query, counts in zip(asked, found):
        mine, theirs = (c[list(query.columns)] for c in cells([targets, table], table, query.cuts))
        np.testing.assert_array_equal(counts, (theirs[:, None] == mine[:, :, None]).all(axis=0).sum(axis=1))
    assert {len(q.columns) for q in asked} == {2, 3} and found.min() >= 1


def test_gen_lra_closed_form_equals_refitting(tables):
    world = World.of(tables["in"].iloc[:5], tables["s"], tables["r"])
    closed = ATTACKS["gen_lra"].score(world, np.random.default_rng(0))
    for i in range(5):
        near = world.synthetic[world.to_synthetic[1][i]]
        refitted = np.concatenate([world.reference, world.targets[i : i + 1]])
        gain = log_density(near, refitted, world.bandwidth) - log_density(
            near, world.reference, world.bandwidth
        )
        assert closed[i] == pytest.approx(gain.sum(), rel=1e-2, abs=1e-2)


def test_extremes_find_the_row_that_sets_the_range(tables):
    outlier = tables["in"].iloc[:1].assign(x5=99.0)
    synthetic = tables["s"].copy()
    synthetic.loc[0, "x5"] = 99.0
    world = World.of(pd.concat([outlier, tables["out"]]), synthetic, None)
    value = ATTACKS["extremes"].score(world, np.random.default_rng(0))
    assert value[0] == 1 and value[1:].sum() == 0


def test_most_vulnerable_rows_are_the_isolated_ones(tables):
    pool = pd.concat([tables["r"], tables["r"].iloc[:5].assign(x4=40.0, x5=[50.0, -50.0, 60, -60, 70])])
    assert most_vulnerable(pool, share=0.05)[-5:].all()


def test_row_hashes_survive_a_round_trip_through_text(tmp_path, tables):
    table = tables["in"].assign(n=range(150), flag=True)
    table.to_csv(tmp_path / "t.csv", index=False)
    assert (row_hashes(table) == row_hashes(pd.read_csv(tmp_path / "t.csv"))).all()
    assert len(set(row_hashes(table))) == 150


def test_disclosure_risks_rise_with_copies_and_are_near_zero_without(tables):
    rng = np.random.default_rng(3)
    copied = copy_members(tables["s"], tables["in"], 1.0, rng)
    halves = {"left": ["x2", "x3", "x0"], "right": ["x4", "x5", "x6"]}
    for synthetic, low, high in ((copied, 0.5, 1.0), (tables["s"], 0.0, 0.25)):
        args = (synthetic, tables["in"], tables["out"])
        risks = (
            disclosure.attribute_inference(*args, secret="x7"),
            disclosure.singling_out(*args, num_attacks=400, num_columns=4, rng=rng),
            disclosure.linkability(*args, **halves),
        )
        for risk in risks:
            if synthetic is copied and risk.attack == "singling_out":
                assert risk.lower > 0
            else:
                assert low <= risk.risk <= high, risk
            assert 0 <= risk.lower <= risk.risk <= risk.upper <= 1


def test_wilson_interval_matches_its_formula():
    centre, half = disclosure.wilson(3, 10)
    assert (centre - half, centre + half) == pytest.approx((0.1078, 0.6032), abs=1e-4)


def panel(num, rng, start=0):
    rows = []
    for unit in range(start, start + num):
        level, length = rng.normal(), rng.integers(3, 8)
        values = np.round(level + 0.3 * rng.normal(size=length), 3)
        kind = rng.choice(list("ab"), length)
        rows.append(pd.DataFrame({"unit": unit, "t": range(length), "v": values, "k": kind}))
    return pd.concat(rows, ignore_index=True)


def test_entities_become_rows_and_whole_sequence_copies_are_caught():
    rng = np.random.default_rng(4)
    members, others, synthetic = panel(80, rng), panel(80, rng, 100), panel(200, rng, 200)
    copied = pd.concat([synthetic, members.assign(unit=members["unit"] + 1000)], ignore_index=True)
    targets = pd.concat([entities(members, "unit", "t"), entities(others, "unit", "t")], ignore_index=True)
    for table, low, high in ((copied, 0.99, 1.0), (synthetic, 0.3, 0.7)):
        world = World.of(targets, entities(table, "unit", "t"))
        value = ATTACKS["nearest_record"].score(world, rng)
        assert low <= auc(value[:80], value[80:]).value <= high


def test_entity_facts_follow_order_and_ignore_the_order_of_rows():
    table = panel(5, np.random.default_rng(5))
    shuffled = table.sample(frac=1, random_state=0)
    first = entities(table, "unit", "t")
    again = entities(shuffled, "unit", "t").sort_values(FINGERPRINT)
    assert sorted(first[FINGERPRINT]) == list(again[FINGERPRINT])
    reverse = entities(table.assign(t=-table["t"]), "unit", "t")
    assert (first[LENGTH] == reverse[LENGTH]).all() and (first[FINGERPRINT] != reverse[FINGERPRINT]).all()
    with pytest.raises(InvalidInput, match="nobody"):
        entities(table, "nobody")
