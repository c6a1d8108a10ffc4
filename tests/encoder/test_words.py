"""Words that a tokenizer cannot read, or makes the same of, are refused or named."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import save_file

from sclip_core.config import UserError
from sclip_core.encoder.text import TEMPLATES
from sclip_core.encoder.words import check_words, token_ids


@pytest.fixture(scope="module")
def tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer(context_length=77)


def classes(*lines: str) -> list[tuple[str, list[str]]]:
    return [(line.split(", ")[0], line.split(", ")) for line in lines]


def test_plain_words_are_nothing_to_tell(tokenizer):
    assert check_words(tokenizer, classes("cat, kitten", "café", "1,000 dollars")) == []


@pytest.mark.parametrize(
    "pair",
    [
        ("cat", "Cat"),
        ("traffic light", "traffic  light"),
        ("café", "cafe\u0301"),
        ("cat", "\uff43\uff41\uff54"),
        ("don't", "don\u2019t"),
        ("cat, kitten", "Kitten, CAT"),
    ],
)
def test_classes_of_the_same_words_are_refused(tokenizer, pair):
    """What the tokenizer itself makes of the prompts is the same."""
    name, other = (line.split(", ")[0] for line in pair)
    if "," not in pair[0]:
        first, second = (tokenizer([f"a photo of a {word}."]) for word in pair)
        assert torch.equal(first, second)
    with pytest.raises(UserError, match=f"classes '{name}' and '{other}' have the same words"):
        check_words(tokenizer, classes("sky", *pair))


def test_a_shared_word_is_told_and_a_class_that_cannot_win(tokenizer):
    (note,) = check_words(tokenizer, classes("cat, animal", "dog, Animal"))
    assert note.endswith("'Animal' of 'cat' and 'dog'")
    (note,) = check_words(tokenizer, classes("background, bed", "bed", "sky"))
    assert note.endswith("'bed' of 'background' and 'bed', so that no pixel becomes 'bed'")


@pytest.mark.parametrize(("count", "fate"), [(60, "told"), (70, "cut"), (75, "cut"), (76, "no")])
def test_words_of_many_tokens(tokenizer, count, fate):
    """The longest template decides: it is cut where the whole prompt has more than 77 tokens."""
    word = " ".join(["box"] * count)
    if fate == "no":
        with pytest.raises(UserError, match=r"class 'grass'.*has 76 tokens.*reads 75"):
            check_words(tokenizer, classes(f"grass, {word}", "sky"))
        return
    notes = check_words(tokenizer, classes(f"grass, {word}", "sky"))
    assert [note.startswith("prompts of 'box box") for note in notes] == [True] * (fate == "cut")


@pytest.mark.parametrize("templates", ["openai", "simple"])
def test_prompts_of_just_as_many_tokens_as_the_model_reads(tokenizer, templates):
    """Counted as the text tower gets them: whole prompts, with a beginning and an end."""
    for count in range(55, 76):
        word = " ".join(["box"] * count)
        prompts = [template(word) for template in TEMPLATES[templates]]
        is_cut = max(len(tokenizer.encode(prompt)) for prompt in prompts) + 2 > 77
        notes = check_words(tokenizer, classes(f"grass, {word}", "sky"), [templates])
        assert bool(notes) == is_cut, count


def test_letters_of_another_script_are_told(tokenizer):
    (note,) = check_words(tokenizer, classes("猫", "небо", "Straße", "42"))
    assert note.startswith("'猫', 'небо': no Latin letters")


def hub() -> SimpleNamespace:
    """A tokenizer of the hub that knows three words."""
    known = {"cat": 5, "dog": 6, "sky": 7}

    class Tokenizer:
        """As of transformers."""

        unk_token_id = 1

        def __call__(self, text: str, add_special_tokens: bool) -> SimpleNamespace:
            return SimpleNamespace(input_ids=[known.get(word, 1) for word in text.split()])

    return SimpleNamespace(context_length=77, clean_fn=str.lower, tokenizer=Tokenizer())


def test_words_that_a_tokenizer_of_the_hub_does_not_know():
    assert token_ids(hub(), "Cat unheard") == [5, 1]
    assert len(check_words(hub(), classes("cat", "dog unheard"), ["photo"])) == 0
    for word in ("unheard", "un heard", " "):
        with pytest.raises(UserError, match="nothing that the model's tokenizer knows"):
            check_words(hub(), [("cat", ["cat", word])], ["photo"])


def test_words_that_the_model_was_not_trained_with(tokenizer, tmp_path):
    """As of the demo's model, whose table has zeros for tokens that no caption had."""
    table = torch.zeros(49408, 4)
    table[tokenizer.encode("cat sky")] = 1
    save_file({"token_embedding.weight": table}, tmp_path / "m.safetensors")
    given_weights = tmp_path / "m.safetensors"
    given = tokenizer, classes("cat, kitten", "dog", "sky")
    (note,) = check_words(*given, weights=given_weights)
    assert note.startswith("this model was not trained with 'kitten', 'dog', which are all")
    assert check_words(*given, weights=tmp_path / "nowhere.safetensors") == []
    line = r"classes 'dog', 'lawn': .* none of their words"
    (note,) = check_words(tokenizer, classes("dog", "sky", "lawn"), weights=given_weights)
    assert re.match(line, note)
    with pytest.raises(UserError, match=line):
        check_words(tokenizer, classes("dog", "lawn"), weights=given_weights)
