"""The causal language model: losses, likelihoods, pooled prompts, generation, bad models."""

import pytest
import torch

from ratchet.pipelines.data.segments import join_segments
from ratchet.pipelines.data.tokens import tokenize
from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.methods.importance import squared_gradients
from ratchet.pipelines.models.causal_lm import load_causal_lm
from ratchet.pipelines.models.load import load_model, load_tokenizer
from ratchet.pipelines.spec.update_spec import ModelSpec
from ratchet.pipelines.types import Output
from tests.tiny_lm import save_tiny_decoder, trained_tokenizer

TEXTS = [
    join_segments(["the weather is sunny =", " weather"]),
    join_segments(["rain =", " rain now today"]),
    "about my account today",
]


@pytest.fixture(scope="module")
def model(tiny_decoder):
    return load_causal_lm(str(tiny_decoder)).eval()


@pytest.fixture(scope="module")
def batch(model):
    return tokenize(TEXTS, [0] * 3, [0] * 3, model.tokenizer, 32, True).batch(range(3))


def by_hand(logits, batch, row):
    """The log-likelihood of each learned token of a row, token by token."""
    found = []
    for place in range(1, batch.inputs["input_ids"].shape[1]):
        if batch.inputs["completion_mask"][row, place]:
            chances = logits[row, place - 1].log_softmax(-1)
            found.append(chances[batch.inputs["input_ids"][row, place]])
    return torch.stack(found)


def test_losses_are_means_over_the_learned_tokens_of_each_row(model, batch):
    output = model(batch.inputs)
    losses = model.row_losses(output, batch)
    likelihoods = model.log_likelihood(output, batch, "observed", torch.Generator())
    for row in range(3):
        wanted = by_hand(output.logits, batch, row)
        torch.testing.assert_close(losses[row], -wanted.mean())
        torch.testing.assert_close(likelihoods[row], wanted.sum())


def test_a_uniform_model_loses_the_logarithm_of_the_vocabulary(model, batch):
    logits = torch.zeros(3, batch.inputs["input_ids"].shape[1], 7)
    inputs = {**batch.inputs, "input_ids": batch.inputs["input_ids"] % 7}
    uniform = Output(logits, torch.zeros(3, 1))
    losses = model.row_losses(uniform, type(batch)(**{**vars(batch), "inputs": inputs}))
    torch.testing.assert_close(losses, torch.full((3,), 7.0).log())


def test_the_prompt_alone_gives_the_loss_no_gradient(model, batch):
    logits = model(batch.inputs).logits.detach().requires_grad_()
    model.row_losses(Output(logits, torch.zeros(3, 1)), batch).sum().backward()
    reached = logits.grad.abs().sum(-1) > 0
    assert torch.equal(reached[:, :-1], batch.inputs["completion_mask"][:, 1:].bool())
    assert not reached[:, -1].any()


def test_sampled_tokens_come_from_the_model_after_the_observed_ones(model, batch):
    seq = batch.inputs["input_ids"].shape[1]
    logits = torch.full((3, seq, 5), -50.0)
    logits[..., 3] = 50.0  # the model is sure of token 3, whatever the data says
    sure = Output(logits, torch.zeros(3, 1))
    generator = torch.Generator().manual_seed(0)
    sampled = model.log_likelihood(sure, batch, "sampled", generator)
    torch.testing.assert_close(sampled, torch.zeros(3))


def test_padding_and_neighbours_leave_a_row_alone(model, batch):
    together = model.row_losses(model(batch.inputs), batch)
    for row in range(3):
        alone = tokenize([TEXTS[row]], [0], [0], model.tokenizer, 32, True).batch([0])
        torch.testing.assert_close(model.row_losses(model(alone.inputs), alone)[0], together[row])


def test_base_features_see_the_prompt_only(model):
    def features(text):
        rows = tokenize([text], [0], [0], model.tokenizer, 32, True)
        return model.base_features(rows.batch([0]).inputs)

    one, other = (features(join_segments(["the rain =", end])) for end in (" weather", " x y z"))
    torch.testing.assert_close(one, other)
    assert not torch.allclose(one, features(join_segments(["my money =", " weather"])))
    assert not torch.allclose(features("the rain"), features("the rain today"))


def test_a_batch_of_prompts_is_continued_as_each_alone(model):
    prompts = [torch.tensor(model.tokenizer(t).input_ids) for t in ("the weather is", "my")]
    together = model.generate(prompts, 6)
    assert [tokens.tolist() for tokens in together] == [
        model.generate([prompt], 6)[0].tolist() for prompt in prompts
    ]
    ids = prompts[1]
    for token in together[1].tolist():  # greedy, step by step, without left padding
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids)).long()}
        assert int(model(inputs).logits[0, -1].argmax()) == token
        ids = torch.cat([ids, torch.tensor([token])])


def test_a_prompt_beside_one_that_nearly_fills_the_context_keeps_its_room(model):
    short, long = torch.tensor([0, 40, 41]), torch.full((model.context - 2,), 40)
    alone = model.generate([short], 10)[0].tolist()
    assert len(alone) > 2
    together = model.generate([long, short, long], 10)
    assert together[1].tolist() == alone
    assert together[0].tolist() == together[2].tolist() == model.generate([long], 10)[0].tolist()


def test_generation_ends_with_the_context(model):
    long = torch.full((model.context - 2,), 40)
    assert len(model.generate([long], 10)[0]) <= 2


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_importances_equal_ordinary_differentiation(tmp_path, tied, caplog):
    model = load_causal_lm(str(save_tiny_decoder(tmp_path, tied))).eval()
    rows = tokenize(TEXTS, [0] * 3, [0] * 3, model.tokenizer, 32, True)
    parameters, generator = model.trainable(), torch.Generator()

    def objective(batch, output):
        return model.log_likelihood(output, batch, "observed", generator)

    found = squared_gradients(model, parameters, [rows.batch(range(3))], objective)
    wanted = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for row in range(3):
        one = rows.batch([row])
        likelihood = objective(one, model(one.inputs)).sum()
        gradients = torch.autograd.grad(likelihood, list(parameters.values()))
        for name, gradient in zip(parameters, gradients, strict=True):
            wanted[name] += gradient.square()
    for name, total in wanted.items():
        torch.testing.assert_close(found.sums[name], total, rtol=1e-3, atol=1e-6)
    slow = [record.getMessage() for record in caplog.records if "one example" in record.message]
    assert len(slow) == tied  # only a tensor that is embedding and output layer at once is slow


def test_the_kind_chooses_the_class(tiny_model, tiny_decoder):
    assert load_model(ModelSpec(name=str(tiny_decoder), kind="causal_lm")).kind == "causal_lm"
    assert load_model(ModelSpec(name=str(tiny_model))).kind == "classifier"
    spec = ModelSpec(name=str(tiny_decoder), kind="causal_lm", dtype="bf16")
    assert load_model(spec).backbone.dtype == torch.bfloat16


def test_a_decoder_can_be_a_classifier(tiny_decoder):
    model = load_model(ModelSpec(name=str(tiny_decoder)))
    inputs = {"input_ids": torch.tensor([[3, 4]]), "attention_mask": torch.ones(1, 2).long()}
    assert model.features(inputs).shape == (1, 32)


def test_an_encoder_is_no_language_model(tiny_model):
    with pytest.raises(ModelError, match=r"not a causal language model.*model.kind: classifier"):
        load_model(ModelSpec(name=str(tiny_model), kind="causal_lm"))


def test_a_tokenizer_must_be_able_to_end_a_text(tmp_path):
    save_tiny_decoder(tmp_path)
    tokenizer = trained_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(ModelSpec(name=str(tmp_path), kind="causal_lm"))
