"""The tasks that the bundled model is not trained on, on tokenizers that split words."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

import sae_circuits as sc
import small_tokenizers
from sae_circuits import tasks
from sae_circuits.errors import PairsLeftOut, TaskError
from sae_circuits.tasks import keyed
from sae_circuits.tasks.country_capital import RECIPE as COUNTRY_CAPITAL
from sae_circuits.tasks.gender_bias import PROFESSIONS
from sae_circuits.tasks.hypernymy import FACTS as HYPERNYMS
from sae_circuits.tasks.recipes import suited
from sae_circuits.tasks.sports import FACTS as ATHLETES
from sae_circuits.tasks.vocabulary import Vocabulary

MORE = tasks.names()[len(tasks.DEMO) :]
NUMBERS = ("addition", "subtraction")


@cache
def splitting() -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on the tasks' own texts, too small for rare words, as GPT-2's is."""
    whole = small_tokenizers.word_level()
    texts = [text for name in MORE for text in tasks.make(name, whole, 150, 5).clean_text]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    values = {
        keyed.split(fact)[1] for fact in (*HYPERNYMS, *ATHLETES, *COUNTRY_CAPITAL.words["keys"])
    }
    answers = [f" {value}" for value in sorted(values)] * 60
    numbers = [f"{i:02}" for i in range(200)] * 60 + [f" {i}" for i in range(200)] * 60
    words = [" man woman he she nurse secretary doctor lawyer Answer: A"] * 60
    trainer = trainers.BpeTrainer(
        vocab_size=2200,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[small_tokenizers.BOS],
        show_progress=False,
    )
    core.train_from_iterator(texts + answers + numbers + words, trainer)
    bos = small_tokenizers.BOS
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token=bos, unk_token=bos)


TOKENIZERS = {
    "splitting": splitting,
    "word_level": small_tokenizers.word_level,
    "sentence_piece": small_tokenizers.sentence_piece,
}
CASES = [
    (name, kind)
    for name in MORE
    for kind in TOKENIZERS
    if not (name in NUMBERS and kind == "sentence_piece")  # it writes digit by digit
]


@cache
def task_of(name: str, kind: str, n: int, seed: int) -> tasks.Task:
    return tasks.make(name, TOKENIZERS[kind](), n, seed)


def made(name: str, kind: str, n: int = 40, seed: int = 3):
    tokenizer = TOKENIZERS[kind]()
    task = task_of(name, kind, n, seed)
    words = [
        [tokenizer.decode([int(i)]).strip() for i in column[:, 0]]
        for column in (task.answer, task.wrong)
    ]
    return task, zip(task.clean_text, task.corrupt_text, *words, strict=True)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_pair_is_aligned_and_differs(name, kind):
    tokenizer = TOKENIZERS[kind]()
    task, rows = made(name, kind)
    assert len(task) == len(set(task.clean_text)) == 40
    for i, (clean, corrupt, answer, wrong) in enumerate(rows):
        sizes = {len(tokenizer.encode(text, add_special_tokens=False)) for text in (clean, corrupt)}
        assert sizes == {int(task.lengths[i]) - 1}
        assert clean != corrupt
        assert answer != wrong
    assert (task.clean != task.corrupt).any(1).all()
    assert (task.answer != task.wrong).all()
    assert task.answer.shape == task.wrong.shape == (40, 1)


@pytest.mark.parametrize("name", MORE)
def test_a_seed_gives_one_task(name):
    first, again, other = (
        tasks.make(name, splitting(), 12, seed).fingerprint for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_splitting_tokenizer_splits_what_is_drawn():
    """Else the tests above would say nothing about keys of several tokens."""
    tokenizer = splitting()

    def sizes(facts):
        return {len(tokenizer.encode(f" {keyed.split(fact)[0]}")) for fact in facts}

    assert len(sizes(ATHLETES)) > 2
    assert len(sizes(COUNTRY_CAPITAL.words["keys"])) > 2


# -- are the answers right? ------------------------------------------------------------------------

# From the data of Hanna et al. (github.com/hannamw/eap-ig-faithfulness, fact-retrieval-comma): a
# list of its own.
PUBLISHED_CAPITALS = """
    Kabul Afghanistan, Tirana Albania, Luanda Angola, Buenos_Aires Argentina, Yerevan Armenia
    Canberra Australia, Vienna Austria, Baku Azerbaijan, Dhaka Bangladesh, Minsk Belarus
    Brussels Belgium, Gaborone Botswana, Sofia Bulgaria, Phnom_Penh Cambodia, Ottawa Canada
    Santiago Chile, Beijing China, Zagreb Croatia, Havana Cuba, Nicosia Cyprus, Copenhagen Denmark
    Quito Ecuador, Cairo Egypt, Tallinn Estonia, Addis_Ababa Ethiopia, Suva Fiji, Helsinki Finland
    Paris France, Tbilisi Georgia, Berlin Germany, Accra Ghana, Athens Greece, Tegucigalpa Honduras
    Budapest Hungary, Reykjavik Iceland, New_Delhi India, Jakarta Indonesia, Tehran Iran
    Baghdad Iraq, Dublin Ireland, Rome Italy, Kingston Jamaica, Tokyo Japan, Amman Jordan
    Nairobi Kenya, Vientiane Laos, Riga Latvia, Beirut Lebanon, Monrovia Liberia, Tripoli Libya
    Vilnius Lithuania, Antananarivo Madagascar, Kuala_Lumpur Malaysia, Bamako Mali, Valletta Malta
    Ulaanbaatar Mongolia, Rabat Morocco, Maputo Mozambique, Windhoek Namibia, Kathmandu Nepal
    Managua Nicaragua, Abuja Nigeria, Oslo Norway, Muscat Oman, Islamabad Pakistan, Lima Peru
    Warsaw Poland, Lisbon Portugal, Doha Qatar, Bucharest Romania, Moscow Russia, Kigali Rwanda
    Dakar Senegal, Belgrade Serbia, Bratislava Slovakia, Ljubljana Slovenia, Mogadishu Somalia
    Madrid Spain, Khartoum Sudan, Stockholm Sweden, Bern Switzerland, Damascus Syria, Taipei Taiwan
    Bangkok Thailand, Ankara Turkey, Kampala Uganda, Montevideo Uruguay, Caracas Venezuela
    Hanoi Vietnam, Lusaka Zambia, Harare Zimbabwe
"""


def test_capitals_are_those_of_another_list():
    published = dict(
        entry.replace("_", " ").rsplit(" ", 1)
        for entry in (e.strip() for e in PUBLISHED_CAPITALS.replace("\n", ",").split(","))
        if entry
    )
    ours = dict(map(keyed.split, COUNTRY_CAPITAL.words["keys"]))
    assert ours == published
    assert len(set(ours.values())) == len(ours)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_countries_are_those_of_their_capitals(kind):
    ours = dict(map(keyed.split, COUNTRY_CAPITAL.words["keys"]))
    for clean, corrupt, answer, wrong in made("country_capital", kind)[1]:
        (capital,), (other,) = ([c for c in ours if c in text] for text in (clean, corrupt))
        assert (ours[capital], ours[other]) == (answer, wrong)
        assert clean.replace(capital, other) == corrupt


# Classes of the data of Hanna et al. (hypernymy-comma); athletes as encyclopaedias have them.
PUBLISHED_CLASSES = {
    "fruits": "apples oranges bananas grapes pears peaches strawberries mangoes cherries lemons "
    "blueberries raspberries",
    "weapons": "guns swords bombs rifles grenades missiles spears",
    "vegetables": "radishes beets potatoes spinach",
    "insects": "moths grasshoppers flies",
    "birds": "robins",
    "clothing": "gloves",
    "furniture": "desks",
}
KNOWN_ATHLETES = {
    "LeBron James": "basketball", "Michael Jordan": "basketball", "Stephen Curry": "basketball",
    "Kevin Durant": "basketball", "Russell Westbrook": "basketball", "Kobe Bryant": "basketball",
    "Hank Aaron": "baseball", "Tom Brady": "football", "Patrick Mahomes": "football",
    "Lionel Messi": "soccer", "Cristiano Ronaldo": "soccer", "Mia Hamm": "soccer",
    "Serena Williams": "tennis", "Tiger Woods": "golf", "Wayne Gretzky": "hockey",
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        (HYPERNYMS, {k: v for v, keys in PUBLISHED_CLASSES.items() for k in keys.split()}),
        (ATHLETES, KNOWN_ATHLETES),
    ],
)
def test_each_key_has_one_value_and_it_is_that_of_other_lists(facts, known):
    ours = dict(map(keyed.split, facts))
    assert len(ours) == len(facts)
    assert {key: ours[key] for key in known} == known
    assert min(Counter(ours.values()).values()) >= 7
    assert not set(ours) & set(ours.values())


@pytest.mark.parametrize(("name", "facts"), [("hypernymy", HYPERNYMS), ("sports", ATHLETES)])
def test_values_follow_their_keys(name, facts):
    ours = dict(map(keyed.split, facts))
    for kind in TOKENIZERS:
        for clean, corrupt, answer, wrong in made(name, kind)[1]:
            key, other = (
                max((k for k in ours if re.search(rf"\b{k}\b", text)), key=len)
                for text in (clean, corrupt)
            )
            assert (ours[key], ours[other]) == (answer, wrong)
            assert clean.replace(key, other) == corrupt


# Stereotyped professions of Bolukbasi et al. as Hanna et al. filter them (gender-bias), in part.
PUBLISHED = {
    "she": "artist baker clerk counselor dancer educator instructor maid nun nurse performer "
    "planner poet secretary singer teacher therapist treasurer tutor",
    "he": "architect athlete banker bishop boss captain coach colonel detective director doctor "
    "economist editor farmer inventor judge lawyer manager mechanic minister officer painter "
    "philosopher president priest professor programmer sailor scientist senator soldier surgeon "
    "trader warrior worker",
}


def test_professions_have_the_published_stereotype():
    published = {key: pronoun for pronoun, keys in PUBLISHED.items() for key in keys.split()}
    ours = dict(map(keyed.split, PROFESSIONS))
    assert ours == published | {"engineer": "he"}  # which that list does not have


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_gender_bias_sets_a_person_of_the_other_gender_against_the_stereotype(kind):
    ours = dict(map(keyed.split, PROFESSIONS))
    said = Counter()
    for clean, corrupt, answer, wrong in made("gender_bias", kind)[1]:
        profession, person = clean.split()[1], corrupt.split()[1]
        assert ours[profession] == answer
        assert (person, wrong) == (("man", "he") if answer == "she" else ("woman", "she"))
        assert clean.split()[2:] == corrupt.split()[2:]
        said[answer] += 1
    assert min(said.values()) > 10


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_colour_is_that_of_the_thing_asked_for(kind):
    for clean, corrupt, answer, wrong in made("colored_objects", kind)[1]:
        scene, question = clean.split(". ", 1)
        same, other = corrupt.split(". ", 1)
        colours = {thing: hue for hue, thing in re.findall(r"\ba (\w+) (\w+)", scene)}
        assert scene == same
        assert len(colours) == len(set(colours.values())) == 3
        asked, others = (re.search(r"the (\w+)( is|\?)", q)[1] for q in (question, other))
        assert (colours[asked], colours[others]) == (answer, wrong)
        assert question.replace(asked, others) == other


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_the_letter_is_that_of_the_colour_in_the_question(kind):
    letters = Counter()
    for clean, corrupt, answer, wrong in made("multiple_choice", kind)[1]:
        question, *options = clean.split("\n")
        same, *moved = corrupt.split("\n")
        assert question == same
        for text, letter in ((options, answer), (moved, wrong)):
            *lines, end = text
            assert end == "Answer:"
            listed = dict(line.split(". ") for line in lines)
            assert list(listed) == list("ABCD")
            assert re.search(rf"\b{listed[letter]}\b", question)
            assert (
                sum(
                    hue in question.split("?")[0].split() or f"{hue}." in question
                    for hue in listed.values()
                )
                == 1
            )
        letters[answer] += 1
    assert len(letters) == 4


@pytest.mark.parametrize("kind", ["splitting", "word_level"])
@pytest.mark.parametrize("name", NUMBERS)
def test_sums_and_differences_are_right(name, kind):
    templates = set()
    for clean, corrupt, answer, wrong in made(name, kind, n=80)[1]:
        for text, result in ((clean, answer), (corrupt, wrong)):
            first, second = map(int, re.findall(r"\d+", text))
            assert 10 <= second < 100 > first >= 10
            assert int(result) == (first + second if name == "addition" else first - second) >= 0
        templates.add(re.sub(r"\d+", "#", clean))
        assert re.sub(r"\d+", "#", corrupt) in templates
    assert len(templates) > 2


def test_a_tokenizer_that_drops_digits_is_not_asked_for_them():
    """The word-level one knows pairs of digits only and would write 123 as 12."""
    assert Vocabulary(small_tokenizers.word_level()).following("12+", "12") is not None
    assert Vocabulary(small_tokenizers.word_level()).following("12+", "123") is None
    answers = [int(answer) for *_, answer, _ in made("addition", "word_level", n=80)[1]]
    assert max(answers) < 100


# -- tokenizers that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_written_digit_by_digit_are_refused(name):
    with pytest.raises(TaskError, match=r"the list 'numbers' keeps 0 of 90 entries and needs 8"):
        tasks.make(name, small_tokenizers.sentence_piece())


@pytest.mark.parametrize("name", ["gender_bias", "hypernymy", "sports", "multiple_choice"])
def test_the_bundled_models_tokenizer_knows_too_few_words(name):
    with pytest.raises(TaskError, match=rf"task '{name}' cannot be written .* keeps 0 of \d+ entr"):
        tasks.make(name, sc.load_model("demo"))


def test_unfitting_words_are_left_out():
    recipe = suited(tasks.recipe("sports"), Vocabulary(splitting()))
    values = {keyed.split(fact)[1] for fact in recipe.words["keys"]}
    assert values == {keyed.split(fact)[1] for fact in ATHLETES}
    known = "Fact : plays the sport of Tom Brady golf Ernie Els Tiger Woods Mia Hamm soccer"
    small = small_tokenizers.word_level(tuple(known.split()))
    kept = suited(tasks.recipe("sports"), Vocabulary(small)).words["keys"]
    assert kept == ("Tiger Woods: golf", "Ernie Els: golf", "Mia Hamm: soccer")
    assert set(tasks.sports(small, n=20).clean_text) == {
        f"Fact: {name} plays the sport of" for name in ("Tiger Woods", "Ernie Els", "Mia Hamm")
    }


def test_where_nothing_that_is_drawn_fits_the_first_reason_is_told():
    known = "Fact : plays the sport of golf Ernie Els Tiger Woods"
    small = small_tokenizers.word_level(tuple(known.split()))
    with pytest.raises(
        TaskError, match=r"none of 1,000 drawn examples fits, the first since .* in common"
    ):
        tasks.sports(small, n=4)


# -- pairs -----------------------------------------------------------------------------------------

CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Spain": "Madrid"}


@pytest.fixture(scope="module")
def plain():
    return small_tokenizers.word_level()


def test_keys_and_values_with_a_template(plain):
    task = tasks.pairs(plain, CAPITALS, "The capital of {} is", n=12, seed=1, name="mine")
    assert (task.name, len(task)) == ("mine", 12)
    for i, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        key, other = (text.split()[3] for text in (clean, corrupt))
        assert plain.decode(task.answer[i]) == CAPITALS[key]
        assert plain.decode(task.wrong[i]) == CAPITALS[other]
        assert key != other
    again = tasks.pairs(plain, list(CAPITALS.items()), ["The capital of {} is"], n=12, seed=1)
    assert again.fingerprint == task.fingerprint
    assert len(tasks.pairs(plain, CAPITALS, "The capital of {} is")) == 4


def test_keys_are_exchanged_for_keys_of_equal_length_only():
    tokenizer = splitting()
    facts = {
        "Lima": "Peru",
        "Hanoi": "Vietnam",
        "Ulaanbaatar": "Mongolia",
        "Rome": "Italy",
        "Antananarivo": "Madagascar",
    }
    size = {key: len(tokenizer.encode(f"He was born in {key}")) for key in facts}
    assert len(set(size.values())) > 1
    task = tasks.pairs(tokenizer, facts, "He was born in {}, the capital of", n=30)
    drawn = set()
    for clean, corrupt in zip(task.clean_text, task.corrupt_text, strict=True):
        key, other = (re.search(r"in (\w+),", text)[1] for text in (clean, corrupt))
        assert size[key] == size[other]
        drawn.add(key)
    alone = {key for key in facts if list(size.values()).count(size[key]) == 1}
    assert drawn == set(facts) - alone


def test_braces_in_a_template_are_its_own(plain):
    task = tasks.pairs(plain, CAPITALS, "def ( {} ): @ : {} is", n=2)
    assert task.clean_text[0].count(task.clean_text[0].split()[2]) == 2


def test_values_that_are_not_one_token_are_left_out_and_named(plain):
    with pytest.warns(
        PairsLeftOut, match=r"task 'pairs': left out 1 of 4 pairs: 'Spain: Madrid now'"
    ):
        task = tasks.pairs(plain, CAPITALS | {"Spain": "Madrid now"}, "The capital of {} is", n=9)
    assert not any("Spain" in text for text in task.clean_text + task.corrupt_text)


def test_four_texts_make_an_example(plain):
    rows = [
        ("The capital of France is", "The capital of Italy is", "Paris", "Rome"),
        ("The opposite of hot is", "The opposite of big is", ["cold"], ("small",)),
    ]
    task = tasks.pairs(plain, rows)
    same = sc.Task.from_strings(
        plain,
        *zip(*[row[:2] for row in rows], strict=True),
        answer=["Paris", "cold"],
        wrong=["Rome", "small"],
    )
    assert task.fingerprint == same.fingerprint
    assert tasks.pairs(plain, [row[:3] for row in rows]).wrong.shape == (2, 0)
    assert tasks.pairs(plain, rows, n=1).clean_text == (rows[0][0],)


def test_of_four_texts_those_that_do_not_fit_are_left_out_and_named(plain):
    rows = [
        ("The capital of France is", "The capital of Italy is", "Paris", "Rome"),
        ("The capital of France is", "The capital city of Italy is", "Paris", "Rome"),
        ("The opposite of hot is", "The opposite of hot is", "cold", "small"),
        ("The opposite of hot is", "The opposite of big is", "cold", "cold"),
        ("The opposite of hot is", "The opposite of big is", "very cold", "small"),
    ]
    with pytest.warns(PairsLeftOut, match="left out 4 of 5 pairs") as caught:
        assert len(tasks.pairs(plain, rows)) == 1
    message = str(caught[0].message)
    for said in (
        "pair 1: the clean prompt has 6 tokens and the corrupt prompt 7",
        "pair 2: the clean and the corrupt prompt are the same",
        "pair 3: the answers ('cold',) and the wrong ones ('cold',) have a token in common",
        "pair 4: the answer 'very cold' is not one token",
    ):
        assert said in message
    with pytest.raises(
        TaskError, match=r"0 of 4 pairs fit this tokenizer, and one is needed: pair 0"
    ):
        tasks.pairs(plain, rows[1:])
    with pytest.raises(TaskError, match=r"1 of 5 pairs fit this tokenizer, and 2 are asked for"):
        tasks.pairs(plain, rows, n=2)


@pytest.mark.parametrize(
    ("of", "template", "message"),
    [
        ({}, "The {} is", "task 'pairs' is empty"),
        ([], None, "task 'pairs' is empty"),
        (CAPITALS, "The capital is", r"'The capital is' has no \{\} where the key stands"),
        (CAPITALS, None, "is not .clean, corrupt, answer, wrong.: .*or a template"),
        ([("France", 3)], "The {} is", r"\('France', 3\) is no pair of a key and a value"),
        ([("France", "Paris", "x")], "The {} is", "is no pair of a key and a value"),
        ({"France": "Paris"}, "The {} is", "the list 'keys' keeps 1 of 1 entries and needs 2"),
    ],
)  # fmt: skip
def test_lists_that_make_no_task_are_refused(of, template, message, plain):
    with pytest.raises(TaskError, match=message):
        tasks.pairs(plain, of, template)
