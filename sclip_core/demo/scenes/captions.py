"""Captions: some of what a picture shows, in the words that people use.

They name classes by any of their words, sometimes add a colour, size or place, and leave things
out. The 80 templates of the text bank are among their patterns.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import open_clip

from sclip_core.datasets.vocabulary import Vocabulary
from sclip_core.demo.scenes.compose import PLACES, Item, Picture
from sclip_core.demo.scenes.textures import TEXTURES
from sclip_core.demo.scenes.things import COLOURS, FOLIAGE

BANK = tuple(open_clip.OPENAI_IMAGENET_TEMPLATES)
SINGLE = (
    "{}",
    "{}.",
    "there is {} here.",
    "look at {}",
    "a picture of {}.",
    "this is {}.",
    "nothing but {}.",
    "{} from up close.",
    "a detail of {}.",
    "we saw {} today.",
)
SEVERAL = (
    "{}",
    "{}.",
    "a photo of {}.",
    "a picture of {}.",
    "here you see {}.",
    "{}, seen from afar.",
    "a scene with {}.",
    "an image that shows {}.",
)
ON_GROUND = ("{} on {}", "{} in front of {}", "{} and {} behind", "{} with {} around", "{} over {}")
SALIENT = 0.12  # share of the picture below which a class is not named, if there are others
UNCOUNTED = {"grass", "sand", "snow", "asphalt", "water", "bricks", "planks", "clouds"}
THE_ONE = {"sky", "sea", "ocean", "beach", "road", "street", "lawn", "meadow"}


@cache
def words_of() -> dict[str, tuple[str, ...]]:
    """The words of each class in the vocabulary ``scenes``."""
    vocabulary = Vocabulary.named("scenes")
    return dict(zip(vocabulary.class_names, vocabulary.words, strict=True))


def lexicon() -> list[str]:
    """Texts that together contain every word of every caption."""
    nouns = [word for words in words_of().values() for word in words]
    items = [*nouns, *COLOURS, *FOLIAGE, *PLACES, "large", "small", "a", "an", "the", "and", ","]
    items += [colour for texture in TEXTURES.values() for colour in texture.palettes]
    asked = [template("") for template in BANK]
    said = [pattern.replace("{}", " ") for pattern in (*SINGLE, *SEVERAL, *ON_GROUND)]
    return [*items, *asked, *said]


def caption(rng: np.random.Generator, picture: Picture) -> tuple[str, frozenset[str]]:
    """A random caption of a picture: its text, and the classes that it names."""
    named = _chosen(rng, picture.items)
    names = frozenset(item.name for item in named)
    if len(names) == 1 and rng.random() < 0.7:
        template = BANK[int(rng.integers(len(BANK)))]
        return template(_noun(rng, named[0], 0.25)), names
    if len(names) == 1:
        return str(rng.choice(SINGLE)).format(_phrase(rng, named[0])), names
    return str(rng.choice(SEVERAL)).format(_joined(rng, named, picture.items[0])), names


def _chosen(rng: np.random.Generator, items: tuple[Item, ...]) -> list[Item]:
    """All salient items or some of them, in random order, one for each class."""
    salient = [item for item in items if item.share >= SALIENT] or list(items)
    order = [salient[int(index)] for index in rng.permutation(len(salient))]
    once = list({item.name: item for item in order}.values())
    if rng.random() < 0.6:
        return once
    return once[: int(rng.integers(1, len(once) + 1))]


def _joined(rng: np.random.Generator, named: list[Item], ground: Item) -> str:
    """Several items in one phrase; a thing and its ground may be joined as in "a ball on grass"."""
    phrases = {item.name: _phrase(rng, item) for item in named}
    if len(named) == 2 and ground in named and rng.random() < 0.5:
        thing = named[1 - named.index(ground)]
        pattern = ON_GROUND[int(rng.integers(len(ON_GROUND)))]
        return pattern.format(phrases[thing.name], phrases[ground.name])
    *first, last = phrases.values()
    joiner = " and " if rng.random() < 0.7 else ", "
    return ", ".join(first) + joiner + last


def _phrase(rng: np.random.Generator, item: Item) -> str:
    """An article, a noun and sometimes a place."""
    noun = _noun(rng, item, 0.4)
    last = noun.split()[-1]
    if last in UNCOUNTED:
        text = noun
    elif last in THE_ONE or rng.random() < 0.2:
        text = f"the {noun}"
    else:
        text = f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"
    if item.place and rng.random() < 0.2:
        text += f" {item.place}"
    return text


def _noun(rng: np.random.Generator, item: Item, share: float) -> str:
    """One of the words of a class, with size and colour in a ``share`` of cases each."""
    words = words_of()[item.name]
    word = words[0] if rng.random() < 0.5 else words[int(rng.integers(len(words)))]
    if rng.random() < share:
        word = f"{item.colour} {word}"
    if item.size and rng.random() < share:
        word = f"{item.size} {word}"
    return word
