from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import small_tokenizers
from sae_circuits import tasks
from sae_circuits.errors import (
    AlignmentError,
    CircuitsError,
    ContextError,
    FileFormatError,
    TaskError,
    UnknownName,
)
from sae_circuits.tasks import Task
from sae_circuits.tasks.recipes import build, suited
from sae_circuits.tasks.vocabulary import Vocabulary

KINDS = ("word_level", "byte_level", "sentence_piece")
WITH_NUMBERS = ("word_level", "byte_level")  # the third writes digit by digit
OF_NUMBERS = ("greater_than", "addition", "subtraction")


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return getattr(small_tokenizers, request.param)()


@pytest.fixture
def plain():
    return small_tokenizers.word_level()


def texts(tokenizer, ids) -> list[list[str]]:
    return [[tokenizer.decode([i]).strip() for i in row if i >= 0] for row in ids.tolist()]


# -- the tasks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        for name in tasks.names()
        for kind in (WITH_NUMBERS if name in OF_NUMBERS else KINDS)
    ],
)
def test_every_task_is_aligned_distinct_and_what_its_text_says(name, kind):
    tokenizer = getattr(small_tokenizers, kind)()
    task = tasks.make(name, tokenizer, n=40, seed=3)
    assert task.name == name
    assert len(task) == len(set(task.clean_text)) == 40
    assert (task.clean != task.corrupt).any(-1).all()
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        size = int(task.lengths[row])
        for ids, text in ((task.clean, clean), (task.corrupt, corrupt)):
            expected = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
            assert ids[row, :size].tolist() == expected
            assert (ids[row, size:] == 0).all()
    assert (task.position == task.lengths - 1).all()


@pytest.mark.parametrize("name", tasks.names())
def test_a_seed_gives_one_task(name, plain):
    first, again, other = (tasks.make(name, plain, 16, seed) for seed in (1, 1, 2))
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.fingerprint == getattr(tasks, name)(plain, 16, 1).fingerprint


def test_ioi_asks_for_the_name_that_is_not_repeated(tokenizer):
    task = tasks.ioi(tokenizer, n=50)
    names = set(tasks.recipe("ioi").words["names"])
    orders = Counter()
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        (answer,), (wrong,) = (texts(tokenizer, ids[[row]])[0] for ids in (task.answer, task.wrong))
        found = [word for word in re.findall(r"\w+", clean) if word in names]
        others = [word for word in re.findall(r"\w+", corrupt) if word in names]
        assert Counter(found) == {answer: 1, wrong: 2}
        assert found[2] == wrong
        assert len(set(others)) == 3
        assert not set(found) & set(others)
        orders[found[0] == answer] += 1
    assert min(orders.values()) > 10  # either name comes first


@pytest.mark.parametrize("kind", WITH_NUMBERS)
def test_greater_than_divides_the_years_at_the_first(kind):
    tokenizer = getattr(small_tokenizers, kind)()
    task = tasks.greater_than(tokenizer, n=30)
    answers, wrong = texts(tokenizer, task.answer), texts(tokenizer, task.wrong)
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        century, start = re.search(r"(\d\d)(\d\d)\b", clean).groups()
        assert corrupt == clean.replace(century + start, century + "01")
        assert clean.endswith(f" {century}")
        assert answers[row] == [f"{i:02}" for i in range(int(start) + 1, 100)]
        assert wrong[row] == [f"{i:02}" for i in range(2, int(start) + 1)]


def test_greater_than_is_refused_where_years_are_written_digit_by_digit():
    with pytest.raises(
        TaskError, match=r"'greater_than' cannot be written .* 'years' keeps 0 of 776 .* needs 8"
    ):
        tasks.greater_than(small_tokenizers.sentence_piece())


def test_greater_than_leaves_out_years_that_are_one_token():
    years = tasks.recipe("greater_than").words["years"]
    vocabulary = Vocabulary(small_tokenizers.byte_level())
    kept = suited(tasks.recipe("greater_than"), vocabulary).words["years"]
    assert set(years) - set(kept) == {"1280"}


def test_subject_verb_changes_the_subjects_number_only(tokenizer):
    task = tasks.subject_verb(tokenizer, n=60)
    number = {
        form: i for entry in tasks.recipe("subject_verb").words["nouns"]
        for i, form in enumerate(entry.split())
    }  # fmt: skip
    verbs = ({"is", "was", "has"}, {"are", "were", "have"})
    agreeing = 0
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        subject, attractor = (word for word in clean.split() if word in number)
        other, same = (word for word in corrupt.split() if word in number)
        assert number[other] == 1 - number[subject]
        assert same == attractor
        assert set(texts(tokenizer, task.answer)[row]) == verbs[number[subject]]
        assert set(texts(tokenizer, task.wrong)[row]) == verbs[1 - number[subject]]
        agreeing += number[attractor] == number[subject]
    assert 15 < agreeing < 45


def test_induction_repeats_and_its_corrupt_prompt_does_not(tokenizer):
    task = tasks.induction(tokenizer, n=40)
    answers, wrong = texts(tokenizer, task.answer), texts(tokenizer, task.wrong)
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        (first, *words), (opening, *others) = clean.split(), corrupt.split()
        assert first == opening == "List:"
        before = words.index(words[-1])
        assert [words[before + 1]] == answers[row] != wrong[row]
        assert wrong[row][0] in words
        assert len(set(others)) == len(others) == len(words)
        assert not set(others) & set(words)


def test_docstring_asks_for_the_next_argument_of_the_signature(tokenizer):
    task = tasks.docstring(tokenizer, n=40)
    answers, wrong = texts(tokenizer, task.answer), texts(tokenizer, task.wrong)
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        (signature, doc), (other, same) = (text.split("\n", 1) for text in (clean, corrupt))
        names, others = (re.findall(r"\w+", text)[3:] for text in (signature, other))
        described = re.findall(r"[:@]param (\w+):", doc)
        assert described == names[: len(described)]
        assert answers[row] == [names[len(described)]]
        assert wrong[row] == [name for name in names if name not in answers[row]]
        assert same == doc
        assert not set(others) & set(names)


def test_facts_exchange_the_subject(tokenizer):
    task = tasks.facts(tokenizer, n=60)
    known = {entry for entries in tasks.recipe("facts").words.values() for entry in entries}
    for row, (clean, corrupt) in enumerate(zip(task.clean_text, task.corrupt_text, strict=True)):
        pairs = zip(clean.split(), corrupt.split(), strict=True)
        ((subject, other),) = [(a, b) for a, b in pairs if a != b]
        assert f"{subject} {texts(tokenizer, task.answer)[row][0]}" in known
        assert f"{other} {texts(tokenizer, task.wrong)[row][0]}" in known


def test_more_examples_than_there_are_come_twice(plain):
    recipe = tasks.recipe("facts")
    few = replace(
        recipe, templates=recipe.templates[:1], words={"capitals": ("France Paris", "Italy Rome")}
    )
    assert Counter(build(few, plain, 6, 0).clean_text) == {
        "The capital of France is": 3,
        "The capital of Italy is": 3,
    }


def test_a_model_or_its_tokenizer_will_do(plain):
    model = SimpleNamespace(tokenizer=plain)
    assert tasks.ioi(model, 4).fingerprint == tasks.ioi(plain, 4).fingerprint


def test_without_bos_prompts_are_one_token_shorter(plain):
    with_bos, without = (tasks.ioi(plain, 4, prepend_bos=flag) for flag in (True, False))
    assert (with_bos.clean[:, 0] == plain.bos_token_id).all()
    assert torch.equal(with_bos.lengths - 1, without.lengths)
    assert torch.equal(with_bos.clean[:, 1:], without.clean)


def test_words_and_templates_are_left_out_that_the_tokenizer_does_not_know():
    known = "Then , and went to the . gave a Mary John Tom James Robert store park ring ball"
    tokenizer = small_tokenizers.word_level(tuple(known.split()))
    recipe = suited(tasks.recipe("ioi"), Vocabulary(tokenizer))
    assert recipe.templates == tasks.recipe("ioi").templates[:1]
    assert recipe.words == {
        "names": ("Mary", "John", "Tom", "James", "Robert"),
        "places": ("store", "park"),
        "objects": ("ring", "ball"),
    }
    assert len(tasks.ioi(tokenizer, n=8)) == 8


def test_too_few_words_are_refused_with_the_list_and_how_many():
    known = "Then , and went to the . gave a Mary John Tom James store ring"
    tokenizer = small_tokenizers.word_level(tuple(known.split()))
    with pytest.raises(TaskError, match=r"'names' keeps 4 of 64 entries and needs 5"):
        tasks.ioi(tokenizer)


def test_a_tokenizer_that_knows_no_template_is_refused():
    words = small_tokenizers.words()
    without = small_tokenizers.word_level(tuple(w for w in words if w != "the"))
    with pytest.raises(TaskError, match="every template has words that the tokenizer does not"):
        tasks.subject_verb(without)


def test_names_and_their_nearest(plain):
    assert tasks.DEMO == (
        "ioi", "greater_than", "subject_verb", "induction", "docstring", "facts",
    )  # fmt: skip
    assert tasks.names() == (
        *tasks.DEMO, "gender_bias", "hypernymy", "country_capital", "colored_objects", "sports",
        "multiple_choice", "addition", "subtraction",
    )  # fmt: skip
    with pytest.raises(
        UnknownName, match=r"unknown task 'greater-than': did you mean 'greater_than'"
    ):
        tasks.make("greater-than", plain)
    with pytest.raises(UnknownName, match="'ioi'"):
        tasks.recipe("io")


@pytest.mark.parametrize("n", [0, -3])
def test_no_examples_are_refused(n, plain):
    with pytest.raises(TaskError, match=rf"a task of {n} examples is empty"):
        tasks.ioi(plain, n=n)


def test_a_model_without_a_tokenizer_is_refused():
    with pytest.raises(TaskError, match="SimpleNamespace has no tokenizer"):
        tasks.ioi(SimpleNamespace(tokenizer=None))
    with pytest.raises(TaskError, match="int has no tokenizer"):
        tasks.ioi(3)


def test_a_prompt_beyond_the_context_is_refused(plain):
    model = SimpleNamespace(tokenizer=plain, cfg=SimpleNamespace(n_ctx=12))
    with pytest.raises(
        ContextError, match=r"of task 'ioi' has \d+ tokens, and the model reads .* 12"
    ):
        tasks.ioi(model)


# -- tokens ----------------------------------------------------------------------------------------


def rows(draw_lengths: list[int]) -> torch.Tensor:
    width = max(draw_lengths)
    return torch.arange(1, len(draw_lengths) * width + 1).reshape(-1, width)


@st.composite
def padded(draw):
    """Rows of tokens, how many of each are real, and padding before each."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    before = draw(st.lists(st.integers(0, 4), min_size=len(lengths), max_size=len(lengths)))
    width = max(a + b for a, b in zip(lengths, before, strict=True)) + draw(st.integers(0, 3))
    return lengths, before, width


@given(padded(), padded(), st.integers(-3, 99))
@settings(deadline=None)
def test_padding_on_either_side_makes_no_difference(first, second, filler):
    lengths = first[0]
    before, width = second[1], second[2] + max(lengths) + 5
    before = (before * len(lengths))[: len(lengths)]
    steps = torch.arange(width)
    start = torch.tensor(before)[:, None]
    mask = (steps >= start) & (steps < start + torch.tensor(lengths)[:, None])
    real = rows(lengths)
    clean = torch.full((len(lengths), width), filler)
    corrupt = clean.clone()
    for row, (size, skip) in enumerate(zip(lengths, before, strict=True)):
        clean[row, skip : skip + size] = real[row, :size]
        corrupt[row, skip : skip + size] = real[row, :size] + 1000
    task = Task.from_tokens(clean, corrupt, answer=torch.arange(len(lengths)), mask=mask)
    right = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    expected = Task.from_tokens(
        real, real + 1000, answer=torch.arange(len(lengths)), mask=right, corrupt_mask=right
    )
    assert task.lengths.tolist() == lengths
    assert torch.equal(task.clean, torch.where(right, real, 0))
    assert torch.equal(task.corrupt, torch.where(right, real + 1000, 0))
    assert task.fingerprint == expected.fingerprint


@given(st.lists(st.integers(1, 6), min_size=1, max_size=9), st.integers(1, 10))
@settings(deadline=None)
def test_batches_hold_every_pair_once_and_no_more_padding_than_they_need(lengths, size):
    real = rows(lengths)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    task = Task.from_tokens(real, real + 1000, answer=torch.arange(len(lengths)), mask=mask)
    batches = list(task.batches(size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert torch.cat([batch.answer for batch in batches]).flatten().tolist() == list(
        range(len(lengths))
    )
    for batch in batches:
        assert batch.clean.shape[1] == int(batch.lengths.max())
        for row in range(len(batch)):
            n, answer = int(batch.lengths[row]), int(batch.answer[row])
            assert torch.equal(batch.clean[row, :n], real[answer, :n])


def tiny(**changes) -> Task:
    arguments = {
        "clean": torch.tensor([[1, 2, 3], [4, 5, 6]]),
        "corrupt": torch.tensor([[1, 7, 3], [4, 8, 6]]),
        "answer": torch.tensor([2, 5]),
        "wrong": torch.tensor([7, 8]),
    }
    arguments.update(changes)
    return Task.from_tokens(arguments.pop("clean"), arguments.pop("corrupt"), **arguments)


def test_from_tokens_keeps_what_it_is_given():
    task = tiny(position=torch.tensor([1, 2]))
    assert (task.name, len(task)) == ("tokens", 2)
    assert task.clean.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert task.corrupt.tolist() == [[1, 7, 3], [4, 8, 6]]
    assert task.answer.tolist() == [[2], [5]]
    assert task.wrong.tolist() == [[7], [8]]
    assert task.position.tolist() == [1, 2]
    assert tiny().position.tolist() == [2, 2]
    assert tiny(wrong=None).wrong.shape == (2, 0)
    assert tiny(answer=torch.tensor([[2, 3], [5, -1]])).answer.tolist() == [[2, 3], [5, -1]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clean": torch.zeros(0, 3, dtype=torch.int64)}, "corrupt has 2 rows, and clean has 0"),
        (
            {"clean": torch.ones(2, 3)},
            r"clean is torch.float32 of shape \(2, 3\): give torch.int64",
        ),
        ({"corrupt": torch.tensor([1, 2])}, r"corrupt is torch.int64 of shape \(2,\): .* of 2 dim"),
        ({"position": torch.tensor([[1], [2]])}, r"position is .* of shape \(2, 1\): .* of 1 dim"),
        ({"clean": torch.tensor([[1, 2, 3], [4, 5, -100]])}, "token id below 0: .* give a mask"),
        ({"answer": torch.tensor([1])}, "answer has 1 rows, and clean has 2"),
        ({"wrong": torch.tensor([1, 2, 3])}, "wrong has 3 rows"),
        ({"answer": torch.tensor([2, -5])}, "answer has the token id -5"),
        ({"answer": torch.tensor([2, -1])}, "pair 1 has no answer"),
        ({"position": torch.tensor([0, 3])}, "position 3 of pair 1 .* 3 tokens: take 0 to 2"),
        ({"position": torch.tensor([-1, 0])}, "position -1 of pair 0"),
        (
            {"mask": torch.tensor([[True, False, True], [True, True, True]])},
            r"the mask of prompt 0 has a hole: \[1, 0, 1\]",
        ),
        (
            {"mask": torch.tensor([[True, True, True], [False, False, False]])},
            "prompt 1 has no token",
        ),
        ({"mask": torch.ones(2, 2, dtype=torch.bool)}, r"mask's shape \(2, 2\) .* \(2, 3\)"),
    ],
)
def test_tokens_that_make_no_task_are_refused(changes, message):
    with pytest.raises(TaskError, match=message) as caught:
        tiny(**changes)
    assert isinstance(caught.value, CircuitsError | ValueError)


def test_no_tokens_are_refused():
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    with pytest.raises(TaskError, match="task 'tokens' is empty"):
        Task.from_tokens(nothing, nothing, answer=nothing[:, 0])


def test_a_pair_of_unequal_length_is_refused_and_shown():
    mask = torch.tensor([[True, True, True], [True, True, False]])
    with pytest.raises(AlignmentError, match=r"pair 1 does not align.* 2 tokens .* 3") as caught:
        tiny(mask=mask, corrupt_mask=torch.ones(2, 3, dtype=torch.bool))
    assert "clean:   [4, 5]" in str(caught.value)
    assert "corrupt: [4, 8, 6]" in str(caught.value)


def test_taking_pairs():
    task = tiny()
    assert task[1].clean.tolist() == [[4, 5, 6]] == task[-1].clean.tolist()
    assert task[:1].answer.tolist() == [[2]]
    assert task[[1, 0, 1]].answer.tolist() == [[5], [2], [5]]
    assert task[torch.tensor([True, False])].answer.tolist() == [[2]]
    assert [each.answer.tolist() for each in task] == [[[2]], [[5]]]
    with pytest.raises(IndexError):
        task[2]
    with pytest.raises(TaskError, match=r"takes none of the 2 pairs of task 'tokens'"):
        task[5:]
    with pytest.raises(TaskError, match="a batch of 0 pairs is empty"):
        next(task.batches(0))


def test_taking_pairs_takes_their_text(plain):
    task = tasks.facts(plain, 5)
    assert task[[3, 1]].clean_text == (task.clean_text[3], task.clean_text[1])
    assert task[3].corrupt_text == (task.corrupt_text[3],)


def test_swapping_twice_changes_nothing(plain):
    task = tasks.facts(plain, 5)
    swapped = task.swapped()
    assert torch.equal(swapped.clean, task.corrupt)
    assert torch.equal(swapped.corrupt, task.clean)
    assert torch.equal(swapped.answer, task.answer)
    assert swapped.clean_text == task.corrupt_text
    assert swapped.fingerprint != task.fingerprint == swapped.swapped().fingerprint


@pytest.mark.gpu
def test_moving_moves_every_tensor():
    moved = tiny().to("cuda")
    tensors = (moved.clean, moved.corrupt, moved.lengths, moved.answer, moved.wrong, moved.position)
    assert {tensor.device.type for tensor in tensors} == {"cuda"}


def test_moving_keeps_every_value():
    assert tiny().to("cpu").fingerprint == tiny().fingerprint


def test_the_fingerprint_hangs_on_every_part():
    changed = [
        tiny(clean=torch.tensor([[1, 2, 3], [4, 5, 7]])),
        tiny(corrupt=torch.tensor([[1, 7, 3], [4, 8, 7]])),
        tiny(answer=torch.tensor([2, 6])),
        tiny(wrong=torch.tensor([7, 9])),
        tiny(wrong=None),
        tiny(position=torch.tensor([2, 1])),
    ]
    prints = {task.fingerprint for task in (tiny(), *changed)}
    assert len(prints) == 7
    assert tiny(name="other").fingerprint == tiny().fingerprint
    assert re.fullmatch(r"[0-9a-f]{64}", tiny().fingerprint)


def test_a_task_too_long_or_of_another_vocabulary_is_refused():
    task = tiny()
    task.check_fits(context=3, vocabulary=9)
    with pytest.raises(ContextError, match=r"prompt 0 of task 'tokens' has 3 tokens, .* at most 2"):
        task.check_fits(context=2)
    with pytest.raises(TaskError, match=r"corrupt of pair 1 has the token id 8, .* 8 ids end at 7"):
        task.check_fits(vocabulary=8)


def test_how_a_task_shows_itself(plain):
    assert repr(tiny()) == "Task('tokens', 2 pairs of 3 tokens, first: [1, 2, 3] / [1, 7, 3])"
    task = tasks.facts(plain, 1)
    assert repr(task) == (
        f"Task('facts', 1 pair of {int(task.lengths[0])} tokens, "
        f"first: {task.clean_text[0]!r} / {task.corrupt_text[0]!r})"
    )


def test_the_table_escapes_text():
    task = replace(
        tiny(name="<i>"), clean_text=("<b>1</b>", "2 & 3"), corrupt_text=("<script>", "'")
    )
    shown = task._repr_html_()
    assert "&lt;b&gt;1&lt;/b&gt;" in shown
    assert "&lt;i&gt;: 2 pairs of 3 tokens" in shown
    assert "<script>" not in shown


# -- strings ---------------------------------------------------------------------------------------


def test_strings_become_tokens(tokenizer):
    task = Task.from_strings(
        tokenizer,
        ["The capital of France is", "The opposite of hot is"],
        ["The capital of Italy is", "The opposite of big is"],
        answer=["Paris", ("cold", "small")],
        wrong=[" Rome", " small"],
    )
    assert texts(tokenizer, task.answer) == [["Paris"], ["cold", "small"]]
    assert texts(tokenizer, task.wrong) == [["Rome"], ["small"]]
    assert task.answer[0, 1] == -1
    following = tokenizer.encode("The capital of France is Paris", add_special_tokens=False)
    assert int(task.answer[0, 0]) == following[-1]
    assert task.name == "strings"


def test_between_two_letters_a_space_is_put_in():
    tokenizer = small_tokenizers.byte_level()
    tasks_ = [
        Task.from_strings(tokenizer, ["a ring to"], ["a ball to"], answer=[word])
        for word in ("Mary", " Mary")
    ]
    (token,) = tasks_[0].answer[0].tolist()
    assert tokenizer.decode([token]) == " Mary"
    assert tasks_[0].fingerprint == tasks_[1].fingerprint


def test_a_prompt_may_begin_with_the_beginning_written_out():
    tokenizer = small_tokenizers.byte_level()  # its unknown token is the same one, as GPT-2's is
    written, added = (
        Task.from_strings(tokenizer, [f"{bos}The war"], [f"{bos}The siege"], answer=["is"], **how)
        for bos, how in (("<s>", {"prepend_bos": False}), ("", {}))
    )
    assert written.fingerprint == added.fingerprint


def test_digits_follow_digits_without_a_space():
    tokenizer = small_tokenizers.byte_level()
    task = Task.from_strings(tokenizer, ["from 1732 to 17"], ["from 1701 to 17"], answer=["33"])
    assert tokenizer.decode(task.answer[0]) == "33"


def test_digits_that_would_merge_are_still_the_next_token():
    tokenizer = small_tokenizers.byte_level()
    assert tokenizer.tokenize("to 1280") == ["to", "Ġ1280"]
    task = Task.from_strings(tokenizer, ["from 1245 to 12"], ["from 1201 to 12"], answer=["80"])
    assert tokenizer.convert_ids_to_tokens(task.answer[0].tolist()) == ["80"]


def test_prompts_of_unequal_length_are_refused_and_shown(plain):
    with pytest.raises(AlignmentError) as caught:
        Task.from_strings(
            plain,
            ["The capital of France is", "The capital of Italy is"],
            ["The capital of Spain is", "The capital city of Japan is"],
            answer=["Paris", "Rome"],
        )
    assert str(caught.value) == (
        "pair 1 does not align: its clean prompt has 6 tokens and its corrupt prompt 7\n"
        "  clean:   'The capital of Italy is'\n"
        "  corrupt: 'The capital city of Japan is'\n"
        "Every word that is replaced must be replaced by as many tokens."
    )


@pytest.mark.parametrize(
    ("clean", "answer", "message"),
    [
        ([], [], "task 'strings' is empty"),
        (["The war"], ["is", "was"], "answer has 2 entries, and clean has 1"),
        (["The war"], ["is was"], "the answer 'is was' is not one token after 'The war'"),
        (["The war"], ["xyzzy"], "the answer 'xyzzy' is not one token"),
        (["The war"], [[]], "pair 0 has no answer"),
        (["The xyzzy war"], ["is"], r"words that the tokenizer does not know: \['xyzzy'\]"),
        ([""], ["is"], "the prompt '' has no token"),
    ],
)
def test_strings_that_make_no_task_are_refused(clean, answer, message, plain):
    with pytest.raises(TaskError, match=message):
        Task.from_strings(plain, clean, clean, answer=answer)


def test_a_space_at_the_end_of_a_prompt_is_refused():
    with pytest.raises(TaskError, match="the space before it in the answer, not in the prompt"):
        Task.from_strings(
            small_tokenizers.byte_level(), ["a ring to "], ["a ball to "], answer=["Mary"]
        )


# -- files -----------------------------------------------------------------------------------------

WORDS = st.sampled_from(["France", "Italy", "Japan", "Spain"])
ANSWERS = st.lists(st.sampled_from([" Paris", " Rome", " Tokyo", "Madrid"]), min_size=1, max_size=3)


def is_pair(row) -> bool:
    clean, corrupt, *answers = row
    right, wrong = ({word.strip() for word in words} for words in answers)
    return clean != corrupt and not right & wrong


PAIRS = st.tuples(WORDS, WORDS, ANSWERS, ANSWERS).filter(is_pair)


@given(st.lists(PAIRS, min_size=1, max_size=4))
@settings(deadline=None)
def test_csv_and_json_hold_what_strings_hold(tmp_path_factory, pairs):
    plain, folder = small_tokenizers.word_level(), tmp_path_factory.mktemp("files")
    clean, corrupt = ([f"The capital of {pair[side]}, is" for pair in pairs] for side in (0, 1))
    answer, wrong = ([pair[side] for pair in pairs] for side in (2, 3))
    expected = Task.from_strings(plain, clean, corrupt, answer=answer, wrong=wrong)
    with (folder / "mine.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["clean", "corrupt", "answer", "wrong"])
        for a, b, c, d in zip(clean, corrupt, answer, wrong, strict=True):
            writer.writerow([a, b, "|".join(c), "|".join(d)])
    keys = ("clean", "corrupt", "answer", "wrong")
    records = [
        dict(zip(keys, row, strict=True)) for row in zip(clean, corrupt, answer, wrong, strict=True)
    ]
    (folder / "mine.json").write_text(json.dumps(records))
    for name in ("mine.csv", "mine.json"):
        task = Task.from_file(plain, folder / name)
        assert task.fingerprint == expected.fingerprint
        assert task.clean_text == tuple(clean)
        assert task.name == "mine"


def test_wrong_answers_may_be_left_out(plain, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("clean,corrupt,answer\nThe war,The siege,is\n")
    assert Task.from_file(plain, str(path)).wrong.shape == (1, 0)
    path.write_text("clean,corrupt,answer,wrong\nThe war,The siege,is,\nThe war,The siege,is,are\n")
    assert (Task.from_file(plain, path).wrong >= 0).tolist() == [[False], [True]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.txt", "", "is neither a CSV nor a JSON file"),
        ("mine.csv", "", "holds no prompts"),
        ("mine.csv", "clean,corrupt,answer\n", "holds no prompts"),
        ("mine.csv", "clean,answer\nThe war,is\n", "has the columns clean, answer, and no layout"),
        ("mine.csv", "clean,corrupt,answer\nThe war\n", "line 2 of .* has None as 'corrupt'"),
        ("mine.csv", "clean,corrupt,answer\nThe war,The siege,\n", "has '' as 'answer'"),
        ("mine.json", "[{", "is not JSON"),
        ("mine.json", "[3]", "must hold a list of objects"),
        ("mine.json", '[{"clean": 3, "corrupt": "", "answer": ""}]', "has 3 as 'clean'"),
    ],
)
def test_files_that_hold_no_task_are_refused(name, content, message, plain, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(FileFormatError, match=message):
        Task.from_file(plain, tmp_path / name)


def test_a_file_that_is_no_text_is_refused(plain, tmp_path):
    (tmp_path / "mine.csv").write_bytes(b"clean,corrupt,answer\n\xff\xfe,a,b\n")
    with pytest.raises(FileFormatError, match="is not UTF-8 text"):
        Task.from_file(plain, tmp_path / "mine.csv")
