"""The text bank against open_clip's own encode_text on whole prompts."""

from __future__ import annotations

import open_clip
import pytest
import torch

from sclip_core.encoder import encode_word, find_model
from sclip_core.encoder.beginnings import Beginnings
from sclip_core.encoder.loading import load_tokenizer
from sclip_core.encoder.text import TEMPLATES, TextBank

from .models import make, small_config

WORDS = ["cat", "trafficlight", "a person in clothes of two colours, sitting", "é"]
KINDS = {
    "plain": small_config(text={"layers": 2}),
    "quick gelu": small_config(quick_gelu=True),
    "text tower apart": small_config(custom_text=True),
    "both directions": small_config(text={"no_causal_mask": True, "layers": 2}),
    "both directions, apart": small_config(custom_text=True, text={"no_causal_mask": True}),
    "pooled at the last token": small_config(text={"pool_type": "last"}),
    "pooled at the first token": small_config(text={"pool_type": "first", "no_causal_mask": True}),
    "projection with a bias": small_config(text={"proj_bias": True}),
    "no projection": small_config(embed_dim=8, text={"proj_type": "none"}),
    "short context": small_config(text={"context_length": 24}),
    "layer scale": small_config(text={"ls_init_value": 0.3}),
}


def expected_vector(clip, word: str, context: int = 77) -> torch.Tensor:
    """Section 1 of docs/protocol.md, in float64 from the prompts' features on."""
    prompts = [template(word) for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    features = clip.encode_text(open_clip.tokenize(prompts, context_length=context)).double()
    features = torch.stack([f / f.square().sum().sqrt() for f in features])
    mean = sum(features) / len(features)
    return mean / mean.square().sum().sqrt()


@pytest.mark.parametrize("kind", KINDS)
def test_is_open_clips(tmp_path, kind):
    made = make(tmp_path, KINDS[kind])
    tokenizer = load_tokenizer(find_model(**made.arguments))
    context = KINDS[kind]["text_cfg"]["context_length"]
    for word in WORDS:
        ours = encode_word(made.clip, tokenizer, word)
        expected = expected_vector(made.clip, word, context)
        assert (ours - expected).abs().max() < 1e-6, word
        assert ours.dtype == torch.float32


def test_padding_has_a_say_in_both_directions(tmp_path):
    """Cut padding would be seen by the test above."""
    made = make(tmp_path, KINDS["both directions"])
    whole = expected_vector(made.clip, "cat", 77)
    with torch.no_grad():
        made.clip.positional_embedding = torch.nn.Parameter(made.clip.positional_embedding[:24])
    cut = expected_vector(made.clip, "cat", 24)
    assert (whole - cut).abs().max() > 1e-4


def test_only_what_follows_a_templates_beginning_runs(tmp_path):
    made = make(tmp_path, KINDS["plain"])
    tokenizer, kept = open_clip.SimpleTokenizer(), Beginnings()
    rows = []
    first = made.clip.transformer.resblocks[0]
    first.ln_2.register_forward_pre_hook(lambda module, inputs: rows.append(len(inputs[0])))
    for word in ("cat", "dog"):
        encode_word(made.clip, tokenizer, word, beginnings=kept)
    prompts = [template("cat") for template in TEMPLATES["openai"]]
    whole = sum(len(tokenizer.encode(prompt)) + 2 for prompt in prompts)
    after = sum(len(tokenizer.encode(prompt.split("cat")[1])) + 2 for prompt in prompts)
    assert rows == [whole - after, after, after]  # the beginnings once, then two words


@pytest.mark.parametrize("kind", ["plain", "layer scale", "projection with a bias"])
def test_beginnings_that_are_kept_change_nothing(tmp_path, kind):
    made = make(tmp_path, KINDS[kind])
    tokenizer, kept = open_clip.SimpleTokenizer(), Beginnings()
    for word in [*WORDS, "x", "1", "'s", ".", "x x", "of a", "cat"]:
        for templates in ("openai", "photo", "simple"):
            ours = encode_word(made.clip, tokenizer, word, templates, kept)
            prompts = tokenizer([template(word) for template in TEMPLATES[templates]])
            whole = torch.nn.functional.normalize(made.clip.encode_text(prompts), dim=-1)
            expected = torch.nn.functional.normalize(whole.mean(dim=0), dim=-1)
            assert (ours - expected).abs().max() < 1e-6, word


def test_eighty_templates():
    assert (
        len(TEMPLATES["openai"]) == len({template("x") for template in TEMPLATES["openai"]}) == 80
    )
    assert TEMPLATES["openai"][0]("cat") == "a bad photo of a cat."
    assert [template("cat") for template in TEMPLATES["photo"]] == ["a photo of a cat."]


def test_words_differ_and_odd_spellings_are_kept(tiny):
    bank = tiny.text_bank(["traffic light", "trafficlight"])
    assert not torch.allclose(bank.embeddings[0], bank.embeddings[1])


def test_bank(tiny):
    bank = tiny.text_bank([["cat", "kitten"], ["grass"]])
    assert isinstance(bank, TextBank)
    assert bank.embeddings.shape == (3, 32)
    torch.testing.assert_close(bank.embeddings.norm(dim=1), torch.ones(3))
    assert bank.query_class.tolist() == [0, 0, 1]
    assert (bank.class_names, bank.queries) == (("cat", "grass"), ("cat", "kitten", "grass"))
    assert bank.num_classes == 2
    moved = bank.to(torch.device("meta"))
    assert moved.embeddings.device.type == moved.query_class.device.type == "meta"
    assert moved.class_names == bank.class_names
