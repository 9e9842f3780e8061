from dataclasses import replace

import numpy as np
import pytest
import torch
from panels import CALENDAR, SCHEMA, exact, panel

from dpsynth import pipeline
from dpsynth.data.bought.statistics import Marginal
from dpsynth.data.sequences.questions import answer, default_questions
from dpsynth.data.units.units import RESOLUTION
from dpsynth.errors import InvalidInput
from dpsynth.generators.base import seeded
from dpsynth.generators.dgan import Config, Generator
from dpsynth.generators.dgan.critics import Critic, Critics
from dpsynth.generators.dgan.nets import Generated
from dpsynth.generators.dgan.settings import default_sample_len
from dpsynth.generators.dgan.tensors import expand
from dpsynth.privacy.configs import PrivacyConfig, TrainingConfig
from dpsynth.privacy.training.clipping import BookKeeper
from dpsynth.privacy.training.unit_separation import validate_objective

SMALL = {
    "attribute_num_units": 8,
    "feature_num_units": 8,
    "batch_size": 16,
    "private_batch_size": 64,
    "adversarial_weight": 1.0,
}
# Gretel's DGANConfig, read in its source; None are fields without a default there or taken from the schema
PUBLISHED = {
    "attribute_noise_dim": 10,
    "feature_noise_dim": 10,
    "attribute_num_layers": 3,
    "attribute_num_units": 100,
    "feature_num_layers": 1,
    "feature_num_units": 100,
    "use_attribute_discriminator": True,
    "normalization": "ZERO_ONE",
    "apply_feature_scaling": True,
    "apply_example_scaling": True,
    "binary_encoder_cutoff": 150,
    "forget_bias": False,
    "gradient_penalty_coef": 10.0,
    "attribute_gradient_penalty_coef": 10.0,
    "attribute_loss_coef": 1.0,
    "generator_learning_rate": 1e-3,
    "generator_beta1": 0.5,
    "discriminator_learning_rate": 1e-3,
    "discriminator_beta1": 0.5,
    "attribute_discriminator_learning_rate": 1e-3,
    "attribute_discriminator_beta1": 0.5,
    "batch_size": 1024,
    "epochs": 400,
    "discriminator_rounds": 1,
    "generator_rounds": 1,
    "cuda": True,
    "mixed_precision_training": False,
}


def made(config=None, schema=SCHEMA, *, private=False, marginals=(), **settings):
    config = config or Config(**{**SMALL, **settings})
    table = panel(schema=schema)
    statistics = replace(exact(table, schema), marginals=tuple(marginals))
    encoder = Generator.encoder(config, schema, statistics, private=private)
    generator = Generator(config, encoder, statistics, seed=0, private=private)
    return generator, torch.from_numpy(encoder.encode(table))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def trained(generator, units, steps=3):
    objective = generator.plain_objective()
    objective.bind(units)
    coins = draw()
    for _ in range(steps):
        objective.step(coins)
    return objective


def test_published_names_and_defaults():
    config = Config()
    assert {name: getattr(config, name) for name in PUBLISHED} == PUBLISHED
    assert config.max_sequence_len is None and config.sample_len is None


@pytest.mark.parametrize("representation", ["scaled", "bins"])
@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
def test_forward_gives_attributes_additional_attributes_and_features(representation, schema):
    generator, units = made(schema=schema, representation=representation, sample_len=2)
    layout, net = generator.encoder.layout, generator.net
    noise = net.noise(9, draw())
    assert noise[0].shape == (9, 10) and noise[1].shape == (9, layout.max_length // 2, 10)
    attributes, additional, features = net(*noise)
    assert attributes.shape == (9, layout.attribute_width)
    assert additional.shape == (9, layout.additional_width)
    assert features.shape == (9, layout.max_length, layout.feature_width)
    assert layout.additional_width == (4 if representation == "scaled" else 0)  # wage and hours
    real = expand(layout, units)
    assert [tuple(part.shape[1:]) for part in real] == [
        tuple(part.shape[1:]) for part in (attributes, additional, features)
    ]
    trained(generator, units)


def test_expansion_is_one_hot_and_zero_past_the_end():
    generator, units = made()
    layout = generator.encoder.layout
    _, _, lengths, packed = layout.split(units)
    _, _, features = expand(layout, units)
    assert torch.equal(features[:, :, -1].sum(1), lengths)
    past = torch.arange(6) >= lengths[:, None]
    assert (features[past] == 0).all()
    for i, segment in enumerate(layout.features):
        part = features[:, :, segment.start : segment.start + segment.size][~past]
        if segment.kind == "onehot":
            assert torch.equal(part.argmax(-1), packed[:, :, i][~past].long())
            assert torch.equal(part.sum(-1), torch.ones(len(part)))


def test_features_do_not_train_attributes_through_the_condition():
    """Attributes reach the LSTM detached: a loss on features leaves the attribute MLP without gradient."""
    generator, _ = made()
    _, _, features = generator.net(*generator.net.noise(8, draw()))
    features.sum().backward()
    assert all(p.grad is None for p in generator.net.attribute_net.parameters())
    assert generator.net.lstm.weight_ih_l0.grad is not None


def test_penalty_is_per_example_and_equals_double_backward():
    with seeded(0):
        critic = Critic(5, 3, 20).double()
    x = torch.randn(6, 5, dtype=torch.float64, generator=draw())
    parameters = [p for n, p in critic.named_parameters() if n.endswith("weight")]
    ours = torch.autograd.grad(critic.penalty(x), parameters)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(critic(leaf).sum(), leaf, create_graph=True)
    reference = ((slope.norm(dim=1) - 1) ** 2).mean()
    for a, b in zip(ours, torch.autograd.grad(reference, parameters)):
        assert torch.allclose(a, b, atol=1e-9)
    whole_batch = (slope.norm() - 1) ** 2  # the defect: one norm over the batch
    assert not torch.isclose(whole_batch, reference)


def test_critics_have_linear_layers_and_no_statistics():
    generator, _ = made(private=True)
    critics = generator.objective().private
    kinds = {type(m) for m in critics.modules() if not list(m.children())}
    assert kinds == {torch.nn.Linear}
    published = Critics(made()[0].net, Config(), private=False)
    assert [(layer.out_features) for layer in published.whole.layers] == [200] * 5


def test_generator_rounds_use_fresh_fakes_and_end():
    generator, units = made(discriminator_rounds=2, generator_rounds=3)
    seen = []
    original = generator.net.generate
    generator.net.generate = lambda *noise, **keys: seen.append(noise[0].clone()) or original(*noise, **keys)
    trained(generator, units, steps=1)
    assert len(seen) == 2 + 3 - 1
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


def test_an_epoch_sees_every_unit_once():
    generator, units = made(batch_size=16)
    objective = generator.plain_objective()
    objective.bind(units)
    taken = []
    objective._critic_round = lambda context, whole, *rest: taken.append(whole) or torch.zeros(())
    coins = draw()
    for _ in range(objective.steps_per_epoch):
        objective.step(coins)
    _, _, features = expand(generator.encoder.layout, units)
    whole = torch.cat([torch.cat(expand(generator.encoder.layout, units)[:2], 1), features.flatten(1)], 1)
    assert torch.equal(torch.cat(taken).sort(dim=0)[0], whole.sort(dim=0)[0])


def test_models_without_attributes_train():
    bare = replace(
        CALENDAR,
        columns=tuple(c for c in SCHEMA.columns if c.name not in ("group", "born")),
        sequence=replace(CALENDAR.sequence, attributes=()),
    )
    for settings in ({"apply_example_scaling": False}, {"representation": "bins"}, {}):
        generator, units = made(schema=bare, **settings)
        trained(generator, units)
        assert generator.sample(3, seed=0).shape == (3, units.shape[1])
    assert made(schema=bare, representation="bins")[0].plain_objective().critics.context is None


@pytest.mark.parametrize("private", [False, True])
def test_samples_are_exact_in_number_valid_and_replayable(private):
    generator, units = made(private=private)
    packed = generator.sample(101, seed=3, batch_size=32)
    assert packed.shape == (101, units.shape[1]) and packed.dtype == np.float32
    assert np.array_equal(packed, generator.sample(101, seed=3, batch_size=32))
    assert not np.array_equal(packed, generator.sample(101, seed=4, batch_size=32))
    table = generator.encoder.decode(packed, seed=0)
    assert table.who.nunique() == 101
    assert np.array_equal(
        np.round(generator.encoder.encode(table)[:, :1]), np.round(packed[:, :1])
    )  # the group
    noise = generator.net.noise(5, draw())
    replay = [generator.sample_from(*noise, draw=draw(9)) for _ in range(2)]
    assert np.array_equal(*replay)


def test_one_sequence_costs_one_sequence():
    generator, _ = made()
    drawn = []
    noise = generator.net.noise
    generator.net.noise = lambda num, draw: drawn.append(num) or noise(num, draw)
    generator.sample(1, seed=0)
    generator.sample(70, seed=0, batch_size=32)
    assert drawn == [1, 32, 32, 6]


@pytest.mark.parametrize("asked", [False, True])
def test_no_step_uses_mixed_precision_on_a_processor(asked):
    generator, units = made(mixed_precision_training=asked)
    seen = []
    objective = generator.plain_objective()
    for module in (generator.net.heads, objective.critics.whole):
        module.register_forward_hook(
            lambda m, inputs, out: seen.append((torch.is_autocast_enabled("cpu"), out.dtype))
        )
    objective.bind(units)
    objective.step(draw())
    assert set(seen) == {(False, torch.float32)}


def test_sampling_uses_evaluation_mode_and_no_gradient():
    generator, units = made()
    trained(generator, units)
    seen = []
    generator.net.attribute_net.register_forward_hook(
        lambda module, _, out: seen.append((module.training, out.requires_grad))
    )
    buffers = [b.clone() for b in generator.net.buffers()]
    generator.sample(1, seed=0)
    assert seen == [(False, False)]
    assert all(torch.equal(a, b) for a, b in zip(buffers, generator.net.buffers()))


@pytest.mark.parametrize("private", [False, True])
def test_conditions_set_attributes_and_reach_the_features(private):
    generator, _ = made(private=private)
    with torch.no_grad():
        generator.net.lstm.weight_ih_l0.normal_(0, 2)
    noise = generator.net.noise(50, draw())
    parts = {
        g: generator.sample_from(*noise, draw=draw(1), conditions={"group": g, "born": 1960}) for g in "ab"
    }
    table = generator.encoder.decode(parts["a"], seed=0, conditions={"group": "a", "born": 1960})
    assert (table.group == "a").all() and (table.born == 1960).all()
    assert not np.array_equal(parts["a"][:, 3:], parts["b"][:, 3:])
    with pytest.raises(InvalidInput, match="wage: is not an attribute"):
        generator.sample(2, seed=0, conditions={"wage": 1.0})


def test_private_objective_keeps_units_apart_and_has_one_joint_module():
    for schema in (SCHEMA, CALENDAR):
        generator, units = made(schema=schema, private=True)
        objective = generator.objective()
        validate_objective(objective, BookKeeper(objective.private), device="cpu", seed=0)
        losses = objective.unit_losses(units, draw())
        for i in (0, 7):
            changed = units.clone()
            changed[i] = units[i + 1]
            difference = objective.unit_losses(changed, draw()) != losses
            assert difference.nonzero().flatten().tolist() == [i]
    names = {name.split(".")[0] for name, _ in objective.private.named_parameters()}
    assert names == {"whole", "context"}
    owned = {id(p) for g in objective.private_optimizer().param_groups for p in g["params"]}
    assert owned == {id(p) for p in objective.private.parameters()}
    assert not owned & {id(p) for p in generator.net.parameters()}


def test_private_public_steps_read_no_unit_and_move_the_generator_only():
    generator, _ = made(private=True, private_discriminator_rounds=2)
    objective = generator.objective()
    before = {k: v.clone() for k, v in generator.net.state_dict().items()}
    critics = [p.clone() for p in objective.private.parameters()]
    objective.public_step(0, draw())
    assert all(torch.equal(before[k], v) for k, v in generator.net.state_dict().items())
    objective.public_step(1, draw())
    assert any(not torch.equal(before[k], v) for k, v in generator.net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(critics, objective.private.parameters()))


def test_penalty_sits_on_the_fakes_of_the_same_step():
    generator, _ = made(private=True)
    objective = generator.objective()
    assert objective.generated_losses(12, draw()).shape == (12,)
    assert objective.penalty(12, draw()).shape == ()
    none = made(private=True, gradient_penalty_coef=0.0)[0].objective()
    assert none.penalty(12, draw()) is None


@pytest.mark.parametrize("kind", ["plain", "private"])
def test_state_resumes_exactly(kind):
    generator, units = made(private=kind == "private")

    def run(objective, steps, coins):
        for step in range(steps):
            if kind == "plain":
                objective.step(coins)
            else:
                objective.public_step(step, coins)

    def fresh():
        other = made(private=kind == "private")[0]
        objective = other.plain_objective() if kind == "plain" else other.objective()
        if kind == "plain":
            objective.bind(units)
        return other, objective

    first, objective = fresh()
    coins = draw()
    run(objective, 2, coins)
    saved = {"state": objective.state(), "coins": coins.get_state()}
    torch.save(saved, path := __import__("io").BytesIO())
    run(objective, 2, coins)
    path.seek(0)
    saved = torch.load(path, weights_only=True)
    second, again = fresh()
    again.load_state(saved["state"])
    coins = draw()
    coins.set_state(saved["coins"])
    run(again, 2, coins)
    for a, b in zip(first.net.state_dict().values(), second.net.state_dict().values()):
        assert torch.equal(a, b)


def bought(schema, questions, num=400):
    config = Config(**SMALL, representation="bins")
    table = panel(num, schema=schema)
    statistics = exact(panel(schema=schema), schema)
    encoder = Generator.encoder(config, schema, statistics, private=True)
    units = encoder.encode(table)
    return [
        Marginal(
            columns=q.columns, counts=answer(q, encoder.layout, units) / RESOLUTION * 1.0, noise_stddev=1.0
        )
        for q in questions
    ], units


@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
def test_soft_answers_equal_counted_answers_on_hard_units(schema):
    """The anchor's matrix products are the bought histograms: fed one-hot units they agree to rounding."""
    questions = default_questions(schema, lags=(1, 2))
    marginals, units = bought(schema, questions)
    generator, _ = made(schema=schema, private=True, marginals=marginals)
    attributes, additional, features = expand(generator.encoder.layout, torch.from_numpy(units))
    batch = Generated(
        attributes=attributes,
        drawn=attributes,
        additional=additional,
        features=features,
        condition=attributes,
    )
    answers = generator.anchor.answers(batch)
    for marginal, question in zip(marginals, questions):
        key, rows, columns = generator.anchor._block(question)
        soft = answers[key][rows, columns] * len(units)
        assert torch.allclose(soft, torch.tensor(marginal.counts, dtype=soft.dtype), atol=0.02), question


@pytest.mark.parametrize("schema", [SCHEMA, CALENDAR], ids=["variable", "fixed"])
def test_histograms_of_single_columns_are_anchors_too(schema):
    """What was bought of each column alone is what hard units of the same table answer, cell by cell."""
    marginals, _ = bought(schema, default_questions(schema, lags=(1,)))
    generator, units = made(schema=schema, private=True, marginals=marginals)
    anchor, layout = generator.anchor, generator.encoder.layout
    attributes, additional, features = expand(layout, units)
    batch = Generated(
        attributes=attributes,
        drawn=attributes,
        additional=additional,
        features=features,
        condition=attributes,
    )
    targets, weights = anchor._blocks["alone"]
    for segment in (*layout.attributes, *layout.features):
        place = anchor._alone(segment.column)
        if segment.column.startswith("@"):  # made of times: nothing of its own was bought
            assert not weights[0, place].any()
            continue
        answer = anchor.answers(batch)["alone"][0, place]
        assert torch.allclose(answer, targets[0, place], atol=1e-5), segment.column
    if layout.variable:  # rows are not what counts
        rows = features[:, :, : layout.features[0].size].sum((0, 1)) / len(units)
        assert not torch.allclose(rows / rows.sum(), targets[0, anchor._alone("wage")], atol=1e-2)


def test_anchor_loss_falls():
    marginals, _ = bought(SCHEMA, default_questions(SCHEMA), num=40)
    generator, _ = made(private=True, marginals=marginals, anchor_steps=150, anchor_learning_rate=2e-2)
    net = generator.net

    def loss(num=512):
        net.eval()
        with torch.no_grad():
            coins = draw(5)
            return float(generator.anchor.loss(net.generate(*net.noise(num, coins), draw=coins)))

    before = loss()
    generator.fit_public()
    assert loss() < 0.5 * before


def test_questions_are_public_and_none_without_privacy_or_for_scalars():
    config = Config(lags=(1,))
    assert Generator.questions(config, SCHEMA, private=True) == default_questions(SCHEMA, lags=(1,))
    assert Generator.questions(config, SCHEMA, private=False) == ()
    critics = {"adversarial_weight": 1.0}
    assert Generator.questions(Config(anchor_weight=0, **critics), SCHEMA, private=True) == ()
    assert Generator.questions(Config(representation="scaled", **critics), SCHEMA, private=True) == ()
    with pytest.raises(InvalidInput, match="no histograms to learn from"):
        Generator.questions(Config(representation="scaled"), SCHEMA, private=True)


def test_released_state_is_the_generator_alone():
    generator, units = made()
    trained(generator, units)
    other, _ = made(Config(**SMALL))
    other.load_state(generator.state())
    assert np.array_equal(other.sample(8, seed=0), generator.sample(8, seed=0))
    assert not any("critic" in name or "whole" in name for name in generator.state())


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"sample_len": 4, "max_sequence_len": 6}, "sample_len=4 to divide max_sequence_len=6"),
        ({"normalization": "UNIT"}, "normalization='UNIT'"),
        ({"batch_size": 0, "generator_learning_rate": 0}, "batch_size=0.*generator_learning_rate=0"),
    ],
)
def test_bad_settings_are_all_named(settings, words):
    with pytest.raises(ValueError, match=words):
        Config(**settings)


def test_settings_that_do_not_fit_the_schema_or_privacy_are_refused():
    with pytest.raises(InvalidInput, match="max_sequence_len=12 is not the schema's 6"):
        made(max_sequence_len=12)
    with pytest.raises(InvalidInput, match="mixed_precision_training"):
        made(private=True, mixed_precision_training=True)
    with pytest.raises(ValueError, match="sample_len=4 to divide max_length=6"):
        made(sample_len=4)


def test_sample_len_defaults_to_at_most_fifty_cells():
    lengths = (1, 15, 24, 100, 168, 997)
    assert [default_sample_len(t) for t in lengths] == [1, 1, 1, 2, 4, 997]


def test_forget_bias_sets_the_forget_gate_only():
    net = made(forget_bias=True)[0].net
    assert (net.lstm.bias_hh_l0[8:16] == 1).all() and (net.lstm.bias_hh_l0[:8] != 1).all()


@pytest.mark.parametrize(
    "weights, stages",
    [((0.0, 1.0), {"marginals"}), ((1.0, 1.0), {"marginals", "training"}), ((1.0, 0.0), {"training"})],
)
def test_weights_say_what_the_budget_buys(weights, stages):
    settings = Config(adversarial_weight=weights[0], anchor_weight=weights[1])
    recipe = pipeline.Recipe(
        generator="dgan", settings=settings, privacy=PrivacyConfig(epsilon=2.0), training=TrainingConfig()
    )
    plan = pipeline.plan(SCHEMA, recipe)
    assert {event.stage for event in plan.events} - {"columns"} == stages
    assert 0.99 * 2.0 < plan.epsilon <= 2.0
    with pytest.raises(ValueError, match="nothing would be learnt"):
        Config(adversarial_weight=0.0, anchor_weight=0.0)


def test_generation_starts_from_what_was_bought():
    """Before any step: lengths, cells and the memory of ordered codes are near the bought histograms."""
    marginals, _ = bought(SCHEMA, default_questions(SCHEMA))
    generator, units = made(private=True, marginals=marginals)
    table = generator.encoder.decode(generator.sample(3000, seed=0), seed=0)
    real = panel(400)
    shares = [t.groupby("who").size().value_counts(normalize=True).sort_index() for t in (table, real)]
    assert np.abs(shares[0] - shares[1]).max() < 0.08
    assert abs(table.wage.mean() - real.wage.mean()) < 4 and 0.7 < table.wage.std() / real.wage.std() < 1.3
    ends = table.groupby("who").wage.agg(["first", "last"])[table.groupby("who").size() > 1]
    assert ends.corr().loc["first", "last"] > 0.3  # codes drawn one by one: 0, with a standard error of 0.02
